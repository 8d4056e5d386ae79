"""Figures of diagnostics: what is drawn is what was given."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest

from lowdim_bench.figures import Line, Measured, diagnostic, render
from lowdim_bench.landscape import Diagnosis, median_interval
from lowdim_bench.landscape.findings import Finding, Number, Seen, Way, findings
from lowdim_bench.pages import of_diagnosis, save_figures


def tables(figure: Any) -> list[list[dict[str, Any]]]:
    return list(json.loads(render(figure, "json"))["datasets"].values())


def test_every_way_is_drawn_at_its_positions_with_the_median_of_its_kind() -> None:
    lines = [Line("raw", "0, 1", (2.0, 1.0, 0.5)), Line("raw", "2, 3", (4.0, 0.0)), Line("aligned", "0, 1", (0.5, 0.7))]
    figure = diagnostic(lines, [], "t")
    each, middle = sorted(tables(figure), key=lambda table: "way" not in table[0])
    assert [(row["kind"], row["line"], row["position"], row["loss"]) for row in each] == [
        ("raw", "0, 1", 0.0, 2.0),
        ("raw", "0, 1", 0.5, 1.0),
        ("raw", "0, 1", 1.0, 0.5),
        ("raw", "2, 3", 0.0, 4.0),
        ("raw", "2, 3", 1.0, 0.0),
        ("aligned", "0, 1", 0.0, 0.5),
        ("aligned", "0, 1", 1.0, 0.7),
    ]
    medians = {(row["kind"], row["position"]): row["loss"] for row in middle}
    assert medians["raw", 0.0] == 3.0
    assert medians["raw", 0.5] == pytest.approx(1.5), "of 1, and of 2 half way from 4 to 0"
    assert medians["raw", 1.0] == 0.25
    assert render(figure, "svg") == render(figure, "svg")
    assert b"training loss" in render(figure, "svg")


def test_enough_ways_have_a_band() -> None:
    lines = [Line("raw", str(place), (float(place), 0.0)) for place in range(6)]
    _, middle = sorted(tables(diagnostic(lines, [], "t")), key=lambda table: "way" not in table[0])
    assert (middle[0]["low"], middle[0]["loss"], middle[0]["high"]) == (0.0, 2.5, 5.0)


def test_numbers_are_drawn_with_their_intervals_and_what_is_not_finite_is_not() -> None:
    measured = [
        Measured("barrier", (1.0, float("inf"), 2.0), 1.5, 1.0, 2.0, "n = 3"),
        Measured("success at 4", (0.5,), 0.5, None, None, "n = 1", "success", "k", 4.0),
        Measured("success at 8", (1.0,), 1.0, None, None, "n = 1", "success", "k", 8.0),
    ]
    figure = diagnostic([], measured, "t")
    rows = [row for table in tables(figure) for row in table]
    assert [row["value"] for row in rows if row["number"] == "barrier" and row["what"] == "repeat"] == [1.0, 2.0]
    (middle,) = [row for row in rows if row["number"] == "barrier" and row["what"] == "middle"]
    assert (middle["value"], middle["low"], middle["high"]) == (1.5, 1.0, 2.0)
    assert [(row["x"], row["value"]) for row in rows if row["number"].startswith("success")] == 2 * [
        (4.0, 0.5),
        (8.0, 1.0),
    ]
    drawn = render(figure, "svg").decode()
    assert "barrier: 1.5 (1 to 2; n = 3)" in drawn
    assert "success (n = 1)" in drawn


def test_each_diagnostic_has_a_figure_of_its_own_with_its_numbers_as_csv(tmp_path: Any) -> None:
    planes = Seen("planes", {Number("all", share=True): 1.0})
    lines = [Seen("lines", {"rise": float(one)}, (Way("down", str(one), (1.0, 0.0)),)) for one in range(7)]
    ways = tuple(("lines", line.ways[0]) for line in lines)
    numbers = tuple(findings("replicate", [[line, planes] for line in lines]))
    found = Diagnosis(3, tuple(range(7)), (1.0,) * 7, (0.0,) * 7, numbers, ways)
    shown = of_diagnosis(found, "toy")
    assert list(shown) == ["toy lines", "toy planes"]
    assert shown["toy lines"].caption == "toy: lines. rise: 3 (0 to 6; n = 7, of each replicate)"
    assert "all: 1 (0.59 to 1; n = 7, of each replicate)" in shown["toy planes"].caption
    files = {path.name for path in save_figures(shown, tmp_path)}
    assert files == {f"toy-{name}.{kind}" for name in ("lines", "planes") for kind in ("svg", "png", "csv")}
    with (tmp_path / "toy-planes.csv").open() as text:
        (row,) = csv.DictReader(text)
    assert (row["number"], row["value"], row["high"]) == ("all", "1.0", "1.0")
    assert float(row["low"]) == pytest.approx(0.025 ** (1 / 7)), "Clopper and Pearson's of 7 of 7"


@pytest.mark.parametrize(
    ("count", "ends"),
    [(5, None), (6, (0.0, 5.0)), (8, (0.0, 7.0)), (9, (1.0, 7.0)), (12, (2.0, 9.0)), (20, (5.0, 14.0))],
)
def test_the_interval_of_a_median_is_that_of_the_sign_test_s_tables(
    count: int, ends: tuple[float, float] | None
) -> None:
    """Conover 1999, table A3 (binomial, p = 0.5): the largest r with P(X < r) <= 0.025 is 1, 1, 2, 3 and 6 for these n."""
    assert median_interval([float(value) for value in range(count)][::-1]) == ends


def test_what_some_repeats_do_not_have_has_no_interval() -> None:
    seen = [[Seen("lines", {"rise": None if one == 3 else float(one), "fall": 1.0})] for one in range(8)]
    rise, fall = findings("replicate", seen)
    assert isinstance(rise, Finding)
    assert (len(rise.values), rise.repeats, rise.interval, rise.middle) == (7, 8, None, 4.0)
    assert fall.interval == (1.0, 1.0)
    (of_the_task,) = findings("task", [[Seen("chaos", {"chi_1": 0.5})]])
    assert of_the_task.interval is None
    (share,) = findings("pair", [[Seen("lines", {Number("yes", share=True): float(one < 3)})] for one in range(4)])
    assert (share.middle, share.range) == (0.75, (0.0, 1.0))
    assert share.interval == pytest.approx((0.194, 0.994), abs=1e-3), "Clopper and Pearson's of 3 of 4"
