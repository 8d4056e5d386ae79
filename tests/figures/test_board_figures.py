"""Figures of a board: what is drawn is what was given, hostile names included, and no figure calls another host."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowdim_bench.figures import (
    Figure,
    Profile,
    Setting,
    Threshold,
    data,
    parameter,
    pareto,
    performance_profiles,
    render,
    thresholds,
    win_matrix,
)
from lowdim_bench.figures.style import ticks

HOSTILE = "<script>alert('k*')</script> \u202e../../etc"
ROWS = (
    Threshold("lottery", 3, 3, 4, "3", "prepared", 231_360.0),
    Threshold("imp", 120, 114, 128, "120", "prepared", 721.0),
    Threshold(HOSTILE, 178, 163, 194, "178", "prepared", 74_625.0),
    Threshold("random", 236, 217, 254, "236", "cold", 0.0),
    Threshold("mask", None, 2048, None, "> 2048", "cold", 0.0),
    Threshold("always", None, None, 1, "<= 1", "open"),
)


def tables(figure: Figure) -> list[list[dict[str, Any]]]:
    """The data of a figure, each table once, in the order in which layers use them."""
    specification = json.loads(render(figure, "json"))
    named = [layer.get("data", specification.get("data"))["name"] for layer in specification["layer"]]
    return [specification["datasets"][name] for name in dict.fromkeys(named)]


def test_every_method_has_its_threshold_and_its_interval() -> None:
    rows = tables(thresholds(ROWS, 2410, "digits-mlp"))[0]
    assert [(row["method"], row["k"], row["low"], row["high"], row["kind"]) for row in rows] == [
        ("lottery", 3, 3, 4, "found"), ("imp", 120, 114, 128, "found"), (HOSTILE, 178, 163, 194, "found"),
        ("random", 236, 217, 254, "found"), ("mask", 2048, 2048, 2410, "beyond"), ("always", 1, 1, 1, "beyond"),
    ]  # fmt: skip


def test_the_front_joins_what_no_other_row_beats_in_both() -> None:
    front, drawn = tables(pareto(ROWS, "bits", "digits-mlp"))[:2]
    assert [row["method"] for row in front] == ["lottery", "imp", "random"]
    assert {row["method"] for row in drawn} == {"lottery", "imp", HOSTILE, "random"}
    assert min(row["price"] for row in drawn) == 1.0  # none at all, on a logarithmic axis


def test_a_series_that_differs_in_one_number_shows_what_was_not_found_at_its_known_end() -> None:
    settings = [
        Setting("imp", 0, 236, 217, 254, "236"),
        Setting("imp", 100, 120, 114, 128, "120"),
        Setting("imp", 200, None, 2048, None, "> 2048"),
        Setting("imp", 300, None, None, None, "-"),
    ]
    rows = tables(parameter(settings, "rewind_step", "digits-mlp"))[0]
    assert [(row["value"], row["k"], row["low"], row["high"], row["found"]) for row in rows] == [
        (0, 236, 217, 254, True), (100, 120, 114, 128, True), (200, 2048, 2048, 2048, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "figure",
    [
        thresholds(ROWS, 2410, "t"),
        pareto(ROWS, "bits", "t"),
        performance_profiles([Profile(HOSTILE, (1, 2, 4), (0.5, 0.5, 1))], "t"),
        parameter([Setting(HOSTILE, 0, 10, 9, 11, "10"), Setting(HOSTILE, 5, None, 2048, None, "> 2048")], "s", "t"),
        win_matrix({"a": {HOSTILE: (0.8, 2)}, HOSTILE: {"a": (0.2, 2)}, "c": {"a": (None, 0)}}, "t"),
    ],
)
def test_figures_are_drawn_here_and_show_names_as_text(figure: Figure) -> None:
    svg = render(figure, "svg").decode()
    assert "<script>" not in svg
    assert "<image" not in svg
    assert render(figure, "png").startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="svg, png or json"):
        render(figure, "gif")


def test_pairs_that_were_never_compared_are_empty() -> None:
    specification = json.loads(render(win_matrix({"a": {"b": (0.75, 2)}, "b": {"a": (None, 0)}}, "t"), "json"))
    text = json.dumps(specification)
    assert '"label": "75"' in text
    assert text.count('"row": "a"') >= 1
    assert '"row": "b"' not in text


def test_the_numbers_behind_a_figure_are_csv() -> None:
    assert data([{"k": 1, "method": "a,b"}, {"k": 2, "method": "c"}]) == b'k,method\n1,"a,b"\n2,c\n'


@given(st.floats(0.01, 1e7), st.floats(1.02, 1e6))
def test_ticks_lie_on_the_axis_and_are_more_than_one_and_not_too_many(low: float, factor: float) -> None:
    found = ticks(low, low * factor)
    assert all(low <= tick * (1 + 1e-9) and tick <= low * factor * (1 + 1e-9) for tick in found)
    assert len(set(found)) == len(found) <= 9
    if factor > 1.2:
        assert len(found) >= 2
    assert all(math.isfinite(tick) for tick in found)
