"""The threshold over targets and burn-in: every cell is an estimate of the board, in the order of the axes."""

from __future__ import annotations

import json
from dataclasses import replace

from lowdim_bench.figures import Cell, data, render, threshold_surface
from lowdim_bench.leaderboard import build_board
from lowdim_bench.methods import MethodChoice
from lowdim_bench.pages.drawn import of_task
from lowdim_bench.records import Estimate
from lowdim_bench.tracking import StoredSweep
from tests.figures.test_board_figures import HOSTILE, tables
from tests.leaderboard.made_up import TASK, sweep

CELLS = (
    Cell("random", "train_loss <= 1", Estimate(target="t", status="found", k_star=41, low=17, high=70)),
    Cell("random", "train_loss <= 0.1", Estimate(target="t", status="above_range", low=2048)),
    Cell(HOSTILE, "train_loss <= 1", Estimate(target="t", status="below_range", high=1)),
    Cell(HOSTILE, "train_loss <= 0.1", Estimate(target="t", status="unfinished")),
)


def test_every_cell_says_its_threshold_with_its_interval() -> None:
    (rows,) = tables(threshold_surface(CELLS, "digits-mlp"))
    assert [(row["subspace"], row["short"], row["interval"], row["k"]) for row in rows] == [
        ("random", "41", "17 .. 70", 41), ("random", "> 2,048", "", 2048), (HOSTILE, "<= 1", "", 1), (HOSTILE, "-", "", None),
    ]  # fmt: skip
    assert len(data(rows).splitlines()) == 1 + len(CELLS)
    assert (rows[0]["low"], rows[0]["high"], rows[0]["label"]) == (17, 70, "k* = 41 (17 to 70)")


def test_it_is_drawn_here_and_shows_names_as_text() -> None:
    for cells in (CELLS, CELLS[3:], ()):
        svg = render(threshold_surface(cells, HOSTILE), "svg").decode()
        assert "<script>" not in svg
        assert "<image" not in svg


def burnt_in(steps: int, step_at: int) -> StoredSweep:
    choice = MethodChoice(name="burn_in_subspace", parameters={"burn_in_steps": steps})
    return replace(
        sweep("burn_in_subspace", step_at), run_id=f"burn-in-{steps}", method=choice, method_digest=choice.method_digest
    )


def test_a_board_with_several_subspaces_has_their_surface() -> None:
    sweeps = [
        sweep("lottery_subspace", 5),
        burnt_in(128, 60),
        burnt_in(8, 200),
        sweep("random_subspace", 240),
        sweep("imp", 100),
    ]
    board = build_board(sweeps)
    parameters = {one.run_id: one.method.build().model_dump() for one in sweeps}
    shown = {one.name: one for one in of_task("anchor", board.rows, parameters)}
    text = json.dumps(shown["anchor-burn-in"].specification)
    drawn = next(iter(json.loads(text)["datasets"].values()))
    assert list(dict.fromkeys(row["subspace"] for row in drawn)) == ["random", "burn-in 8", "burn-in 128", "lottery"]
    assert [row["target"] for row in drawn[:4]] == [target.name for target in TASK.targets]
    by_run = {row.run_id: row for row in board.rows}
    assert [row["k"] for row in drawn[4:8]] == [one.k_star for one in by_run["burn-in-8"].ladder]
    alone = of_task("anchor", [row for row in board.rows if row.method in {"imp", "random_subspace"}], parameters)
    assert "anchor-burn-in" not in {one.name for one in alone}
