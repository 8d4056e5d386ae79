"""Hand-made sweeps with known ranks: ties, thresholds beyond the range, controls, unfinished and failed sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from lowdim_bench.leaderboard import Board, Row, build_board
from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Audit, Outcome, Spending, Trial, TrialResult
from lowdim_bench.specs import Task, load_task
from lowdim_bench.tracking import StoredSweep

TASK = load_task("digits-mlp")
FULL = 2410


def sweep(
    method: str,
    step_at: int,
    *,
    task: Task = TASK,
    low: int = 1,
    high: int = 2048,
    ks: Sequence[int] = (),
    bits: float = 0.0,
) -> StoredSweep:
    """A finished sweep whose trials succeed from k = step_at on, at 12 % steps around it, two replicates a k."""
    around = ks or [round(step_at * 1.12**power) for power in range(-10, 11)]
    results = [
        TrialResult(
            trial=Trial(k=min(max(k, low), high), replicate=2 * place + half, round=place),
            status="trained",
            outcomes=tuple(Outcome(target=target.name, reached=k >= step_at, step=10) for target in task.targets),
            audit=Audit(measured_k=k, rank_evidence="exact", affine=True, side_information_bits=bits, track="prepared"),
            preparation=Spending(gradient_evaluations=k, examples=64 * k),
        )
        for place, k in enumerate(around)
        for half in (0, 1)
    ]
    choice = MethodChoice(name=method)
    return StoredSweep(
        f"run-{method}-{task.name}", task, choice, "found", "", low, high, FULL, tuple(results), choice.method_digest
    )


def rows(board: Board) -> dict[str, Row]:
    return {row.method: row for row in board.rows}


def test_order_prices_and_evidence() -> None:
    board = build_board([sweep("random_subspace", 200), sweep("imp", 100, bits=700.0), sweep("random_mask", 400)])
    assert [(row.rank, row.method) for row in board.rows] == [(1, "imp"), (2, "random_subspace"), (3, "random_mask")]
    imp = rows(board)["imp"]
    assert imp.status == "found"
    assert imp.k_star is not None
    assert 89 <= imp.k_star <= 100
    assert imp.efficiency == FULL / imp.k_star
    assert imp.side_information_bits == 700.0
    assert imp.preparation_gradient_evaluations == pytest.approx(imp.k_star, rel=0.13)
    assert imp.run_id == "run-imp-digits-mlp"
    assert imp.trials == 42
    assert [estimate.target for estimate in imp.ladder] == [target.name for target in TASK.targets]


def test_ties_share_a_rank() -> None:
    board = build_board([sweep("random_subspace", 200), sweep("imp", 200), sweep("random_mask", 400)])
    assert sorted((row.rank, row.method) for row in board.rows) == [
        (1, "imp"), (1, "random_subspace"), (3, "random_mask"),
    ]  # fmt: skip


def test_dense_control_never_ranks_however_well_it_does() -> None:
    dense = sweep("dense", 1, low=FULL, high=FULL, ks=[FULL] * 20)
    board = build_board([dense, sweep("random_subspace", 200)])
    assert rows(board)["dense"].rank is None
    assert rows(board)["dense"].k_star == FULL
    assert rows(board)["dense"].efficiency == 1.0
    assert rows(board)["random_subspace"].rank == 1


def test_above_and_below_the_range_are_results() -> None:
    never = sweep("random_mask", 10**9, ks=[2048, 1500, 1000, 500] * 5)
    always = sweep("lottery_subspace", 1, ks=[1, 2, 3, 5] * 5)
    board = build_board([never, sweep("random_subspace", 200), always])
    by = rows(board)
    assert (by["random_mask"].status, by["random_mask"].low, by["random_mask"].rank) == ("above_range", 2048, None)
    assert (by["lottery_subspace"].status, by["lottery_subspace"].high) == ("below_range", 1)
    assert [row.method for row in board.rows] == ["lottery_subspace", "random_subspace", "random_mask"]
    assert by["random_mask"].efficiency is None


def test_unfinished_sweep_is_shown_and_not_ranked() -> None:
    begun = sweep("imp", 300, ks=[100, 900])
    nothing = StoredSweep(
        "run-x", TASK, MethodChoice(name="random_mask"), "failed", "it raised", 1, 2048, FULL, (), "x"
    )
    by = rows(build_board([begun, nothing, sweep("random_subspace", 200)]))
    assert (by["imp"].status, by["imp"].rank) == ("unfinished", None)
    assert (by["random_mask"].rank, by["random_mask"].note, by["random_mask"].trials) == (None, "it raised", 0)
    assert by["random_subspace"].rank == 1


def test_ratio_to_the_random_subspace_has_an_interval_over_shared_seeds() -> None:
    board = build_board([sweep("random_subspace", 200), sweep("imp", 100)])
    relative = rows(board)["imp"].relative
    assert relative is not None
    assert relative.low <= 2.0 <= relative.high
    assert relative.low > 1.6
    assert relative.high < 2.5
    assert rows(board)["random_subspace"].relative is None
    assert [one.method for one in board.overall] == ["imp"]
    assert board.overall[0].relative == relative


def test_over_all_tasks_ratios_are_averaged_geometrically() -> None:
    other = load_task("mnist-conv2")
    board = build_board(
        [
            sweep("random_subspace", 200),
            sweep("imp", 100),
            sweep("random_subspace", 200, task=other),
            sweep("imp", 50, task=other),
        ]
    )
    (overall,) = board.overall
    assert overall.relative.tasks == 2
    assert overall.relative.value == pytest.approx((2 * 4) ** 0.5, rel=0.12)
    assert [row.rank for row in board.rows] == [1, 2, 1, 2]


def test_without_a_random_subspace_there_is_no_ratio() -> None:
    board = build_board([sweep("imp", 100)])
    assert rows(board)["imp"].relative is None
    assert board.overall == ()


def test_an_empty_store_has_an_empty_board() -> None:
    assert build_board([]) == Board(rows=(), overall=())


def test_a_control_and_an_unfound_threshold_stay_out_of_the_mean_over_tasks() -> None:
    other = load_task("mnist-conv2")
    dense = sweep("dense", 1, low=FULL, high=FULL, ks=[FULL] * 20)
    never = sweep("imp", 10**9, task=other, ks=[2048, 1500, 1000, 500] * 5)
    references = [sweep("random_subspace", 200), sweep("random_subspace", 200, task=other)]
    board = build_board([*references, dense, sweep("imp", 100), never])
    assert [one.method for one in board.overall] == ["imp"]
    assert (board.overall[0].relative.tasks, board.overall[0].tasks_without_threshold) == (1, 1)


def test_the_price_is_the_highest_near_the_threshold_and_counts_diverged_preparation() -> None:
    cheap = sweep("imp", 100, bits=10.0)
    dear = [
        result.model_copy(update={"preparation": Spending(gradient_evaluations=5000, examples=1)})
        for result in cheap.results
        if abs(result.trial.k - 95) < 6 and result.trial.replicate % 2
    ]
    diverged = TrialResult(
        trial=Trial(k=95, replicate=999, round=99), status="diverged", preparation=Spending(gradient_evaluations=7000)
    )
    others = [result for result in cheap.results if result.trial.key not in {one.trial.key for one in dear}]
    row = build_board([replace(cheap, results=(*others, *dear, diverged))]).rows[0]
    assert row.preparation_gradient_evaluations == 7000
    assert row.track == "prepared"
