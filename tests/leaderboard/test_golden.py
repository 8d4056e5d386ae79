"""Boards worked out by hand, which page, report and `rank --json` have to show alike: ties, a threshold above the range, an
unfinished sweep, a task that a method was not run on, two tracks."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from lowdim_bench.cli.display import show_board
from lowdim_bench.leaderboard.formats import formatted
from lowdim_bench.leaderboard.ranking import WITHOUT_EXAMPLES
from lowdim_bench.methods import MethodChoice
from lowdim_bench.pages import Content, collect, render_page, render_report
from lowdim_bench.records import Audit, Outcome, Spending, Trial, TrialResult
from lowdim_bench.specs import Task, load_task
from lowdim_bench.specs.task import Track
from lowdim_bench.tracking import StoredSweep
from tests.problems.small import BLOBS, PIXELS, QUADRATIC, TENSOR, TEXT, WELL, make_task, small_problem

FULL, K_HIGH = 2400, 2048
FIRST = load_task("digits-mlp")
FIRST = FIRST.model_copy(
    update={"name": "first", "threshold": FIRST.threshold.model_copy(update={"design": "bisection"})}
)
SECOND = FIRST.model_copy(update={"name": "second"})


def bisected(task: Task, method: str, thresholds: list[int], *, track: Track = "cold", **changes: Any) -> StoredSweep:
    """A sweep in which replicate i fails at thresholds[i] - 1 and reaches at thresholds[i], where that is in the range.

    With 21 thresholds the median is the 11th, and its interval goes from the 6th to the 16th: a binomial with n = 21 and
    p = 1/2 is at most 5 with probability 0.013, at most 6 with 0.039.
    """
    spent = Spending() if track == "cold" else Spending(gradient_evaluations=7, examples=7)
    results = [
        TrialResult(
            trial=Trial(k=k, replicate=replicate, round=number),
            status="trained",
            outcomes=tuple(Outcome(target=target.name, reached=k >= threshold) for target in task.targets),
            audit=Audit(measured_k=k, rank_evidence="exact", affine=True, side_information_bits=0, track=track),
            preparation=spent,
        )
        for replicate, threshold in enumerate(thresholds)
        for number, k in enumerate((threshold - 1, threshold))
        if k <= K_HIGH
    ]
    choice = MethodChoice(name=method)
    swept = StoredSweep(
        f"{task.name}-{method}", task, choice, "found", "", 1, K_HIGH, FULL, tuple(results), choice.method_digest
    )
    return replace(swept, **changes)


def around(centre: int) -> list[int]:
    return list(range(centre - 10, centre + 11))


SWEEPS = (
    bisected(FIRST, "random_subspace", around(200)),
    bisected(FIRST, "imp", around(100), track="prepared"),
    bisected(FIRST, "burn_in_subspace", around(100)),
    bisected(FIRST, "random_mask", [K_HIGH + 1] * 21),
    bisected(FIRST, "one_shot_magnitude", [149, 150, 151], status="running"),
    bisected(SECOND, "random_subspace", around(100)),
    bisected(SECOND, "imp", around(60), track="prepared"),
)
NAMES = ("rank", "if stopped now", "k*", "interval", "D/k*", "hits/n", "track")
GOLDEN = {
    "first-burn_in_subspace": ("1", "", "100", "95 .. 105", "24.0", "21/42", "cold"),
    "first-imp": ("1", "", "100", "95 .. 105", "24.0", "21/42", "prepared"),
    "first-random_subspace": ("3", "", "200", "195 .. 205", "12.0", "21/42", "cold"),
    # Two ranked rows need fewer than 150; of its interval, from 1 to beyond what is known, the ends tell nothing.
    "first-one_shot_magnitude": ("-", "3 (1..4)", "150 (unfinished)", "1 .. ?", "16.0", "3/6", "cold"),
    "first-random_mask": ("-", "", "> 2,048", "-", "-", "0/21", "cold"),
    "second-imp": ("1", "", "60", "55 .. 65", "40.0", "21/42", "prepared"),
    "second-random_subspace": ("2", "", "100", "95 .. 105", "24.0", "21/42", "cold"),
}
"""In the order of the board; columns as in `NAMES`."""
OVERALL = {"imp": ("1", 2, 0), "burn_in_subspace": ("-", 1, 1)}
"""Rank, tasks, tasks that it was not run on. The random subspace is what they are compared with, and the others have no
threshold to compare."""


class Rows(HTMLParser):
    """Cells of every row of the tables of tasks, by run; and of the table over all tasks, by method."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self._row: list[list[str]] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            values = dict(attrs)
            name = (values.get("id") or "").removeprefix("row-") or f"over all: {values.get('data-method')}"
            self._row = self.rows.setdefault(name, [])
        elif tag in {"td", "th"} and self._row is not None:
            self._row.append([])

    def handle_data(self, data: str) -> None:
        if self._row and data.strip():
            self._row[-1].append(data.strip())

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self._row = None


def of_html(html: str) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, int, int]]]:
    found = Rows(html).rows
    rows: dict[str, tuple[str, ...]] = {}
    for run, cells in found.items():
        if not run.startswith("over all: "):
            rank, prospect = cells[0][0], " ".join(cells[0][1:]).removesuffix(" if stopped now")
            texts = [" ".join(cell) for cell in cells]
            rows[run] = (rank, prospect, texts[2], texts[3], texts[4], texts[5].replace(" ", ""), texts[10])
    overall = {
        name.removeprefix("over all: "): (cells[0][0], int(cells[5][0]), int(cells[7][0]))
        for name, cells in found.items()
        if name.startswith("over all: ") and len(cells) == 8 and name.removeprefix("over all: ") in OVERALL
    }
    return rows, overall


def of_json(text: str) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, int, int]]]:
    def row(one: dict[str, Any]) -> tuple[str, ...]:
        rank = "-" if one["rank"] is None else str(one["rank"])
        assert one["rank_low"] == one["rank_high"]  # every draw ranks these alike
        k_star = {"above_range": f"> {one['low']:,}"}.get(one["status"]) or f"{one['k_star']}"
        ends = [str(end or "?") for end in (one["low"], one["high"])]
        prospect = "{rank_if_stopped} ({rank_if_stopped_low}..{rank_if_stopped_high})".format_map(one)
        return (
            rank,
            prospect if one["rank_if_stopped"] else "",
            k_star + (" (unfinished)" if one["status"] == "unfinished" else ""),
            "-" if one["status"] == "above_range" else " .. ".join(ends),
            f"{one['efficiency']:.1f}" if one["efficiency"] else "-",
            f"{one['hits']}/{one['trials']}",
            one["track"],
        )

    board = json.loads(text)
    overall = {
        one["method"]: (str(one["rank"] or "-"), one["relative"]["tasks"], one["tasks_not_run"])
        for one in board["overall"]
    }
    return {one["run_id"]: row(one) for one in board["rows"]}, overall


def printed(content: Content) -> str:
    out = io.StringIO()
    show_board(content.board, out, as_json=True)
    return out.getvalue()


@pytest.fixture(scope="module")
def content() -> Content:
    return collect(SWEEPS, "A board", {})


@pytest.mark.parametrize("where", ["page", "report", "rank --json"])
def test_what_was_worked_out_by_hand_is_shown(content: Content, where: str) -> None:
    shown = {
        "page": lambda: of_html(render_page(content, "leaderboard")),
        "report": lambda: of_html(render_report(content)),
        "rank --json": lambda: of_json(printed(content)),
    }
    rows, overall = shown[where]()
    named = {run: dict(zip(NAMES, row, strict=True)) for run, row in rows.items()}
    assert named == {run: dict(zip(NAMES, row, strict=True)) for run, row in GOLDEN.items()}
    assert list(rows) == list(GOLDEN)
    assert overall == OVERALL


def test_equal_thresholds_on_the_same_seeds_are_equal_in_every_draw(content: Content) -> None:
    pair = next(one for one in content.board.pairs if {one.run, one.other} == {"first-burn_in_subspace", "first-imp"})
    assert (pair.ratio, pair.low, pair.high, pair.probability, pair.seeds) == (1.0, 1.0, 1.0, 0.5, 21)
    assert content.board.wins["burn_in_subspace"]["imp"].probability == 0.5


def test_what_is_under_way_and_what_lies_above_the_range_is_never_a_number(content: Content) -> None:
    standing = content.board.profiles
    assert standing["one_shot_magnitude"].unsolved == {"unfinished": 1, "not_run": 1}
    assert standing["random_mask"].unsolved == {"above_range": 1, "not_run": 1}
    assert content.board.wins["imp"]["random_mask"].probability == 1.0
    assert content.board.wins["imp"]["one_shot_magnitude"].probability is None
    assert [sweep.row.method for _, sweep in content.under_way] == ["one_shot_magnitude"]


def by_bisection(name: str) -> Task:
    task = load_task(name)
    return task.model_copy(update={"threshold": task.threshold.model_copy(update={"design": "bisection"})})


def solved(sweep: StoredSweep) -> StoredSweep:
    """As if each training had solved 5,000 rows more than that of the replicate before, in a tenth of a second more."""
    results = tuple(
        one.model_copy(
            update={
                "training": Spending(rows=5000 * (one.trial.replicate + 1)),
                "seconds": 0.1 * (one.trial.replicate + 1),
            }
        )
        for one in sweep.results
    )
    return replace(sweep, results=results)


BESIDE = ("labels seen", "sequential steps", "multiply-accumulates", "solved rows", "solved seconds")
PRICED = {
    # 9 steps with four weights at each of 5 x 5 inner pixels, and one weight for each of 7 x 7 pixels.
    "pixels7-grid-imp": ("0", "9", "949", "-", "-"),
    # Nobody counts what an exact gradient reads.
    "quadratic-gaussian-imp": ("-", "-", "-", "-", "-"),
    # Of replicates 0..20 the median is 10, and each has one training that reached the target.
    "tensor-planted-small-cp_als": ("0", "-", "-", "55,000", "1.1"),
}
"""By run; columns as in `BESIDE`."""
SAID = {
    "pixels7-grid-imp": "labelling an example takes 9 sequential steps and 949 multiply-accumulates",
    "quadratic-gaussian-imp": "labels seen in preparation: -",
    "tensor-planted-small-cp_als": "a training that reached the target solved 55,000 rows of least-squares problems, "
    "and took 1.1 s (medians)",
}
"""By run, what the terminal says below its table."""


class Facts(HTMLParser):
    """What the page says of every run, by the term that it is said under."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.runs: dict[str, dict[str, str]] = {}
        self._run, self._tag, self._term = "", "", ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        if tag == "details":
            self._run = (dict(attrs).get("id") or "").removeprefix("run-")

    def handle_data(self, data: str) -> None:
        if self._tag == "dt":
            self._term = data
        elif self._tag == "dd":
            self.runs.setdefault(self._run, {})[self._term] = data

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""


@pytest.fixture(scope="module")
def priced() -> Content:
    swept = (
        bisected(by_bisection("pixels7-grid"), "imp", around(100), track="prepared"),
        bisected(by_bisection("quadratic-gaussian"), "imp", around(100), track="prepared"),
        solved(bisected(by_bisection("tensor-planted-small"), "cp_als", around(100))),
    )
    return collect(swept, "A board", {})


@pytest.mark.parametrize("render", [lambda one: render_page(one, "leaderboard"), render_report], ids=["page", "report"])
def test_what_stands_beside_k_and_fit_is_on_the_page(priced: Content, render: Any) -> None:
    facts = Facts(render(priced)).runs
    for run, (labels, steps, work, rows, seconds) in PRICED.items():
        said = facts[run]
        assert said["labels seen in preparation"] == labels
        labelling = f"{steps} sequential steps, {work} multiply-accumulates"
        assert said.get("labelling an example") == (None if steps == "-" else labelling)
        solving = f"solved {rows} rows of least-squares problems in {seconds} s (medians)"
        assert said.get("a training that reached the target") == (None if rows == "-" else solving)


def test_what_stands_beside_k_and_fit_ends_every_line_of_the_csv(priced: Content) -> None:
    header, *lines = csv.reader(io.StringIO(formatted(priced.board, "csv")))
    assert tuple(header[-5:]) == BESIDE
    assert {line[header.index("run")]: tuple(line[-5:]) for line in lines} == PRICED


def test_what_stands_beside_k_and_fit_is_in_the_json_and_said_in_the_terminal(priced: Content) -> None:
    fields = ("preparation_labels", "sequential_steps", "multiply_accumulates", "solved_rows", "solved_seconds")
    rows = json.loads(printed(priced))["rows"]
    assert {
        row["run_id"]: tuple(
            "-" if row[name] is None else f"{row[name]:.2g}" if name == "solved_seconds" else f"{row[name]:,}"
            for name in fields
        )
        for row in rows
    } == PRICED
    out = io.StringIO()
    show_board(priced.board, out, as_json=False)
    for said in SAID.values():
        assert said in out.getvalue()
    assert "labels of 0" not in out.getvalue()


@pytest.mark.parametrize("base", [BLOBS, WELL, QUADRATIC, PIXELS, TENSOR, TEXT], ids=lambda base: base["name"])
def test_labels_are_a_number_where_there_are_examples(base: dict[str, Any]) -> None:
    task = make_task(base)
    assert isinstance(task.problem, WITHOUT_EXAMPLES) == (small_problem(task).example_count is None)
