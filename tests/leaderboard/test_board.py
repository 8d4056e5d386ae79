"""Hand-made sweeps with known ranks: ties, thresholds beyond the range, controls, unfinished and failed sweeps."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from lowdim_bench.cli.display import show_board
from lowdim_bench.leaderboard import Board, Row, build_board
from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Spending, Trial, TrialResult
from lowdim_bench.specs import load_task
from lowdim_bench.tracking import Credit, StoredSweep
from tests.leaderboard.made_up import FULL, TASK, sweep


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


def test_preparation_is_priced_in_labels_and_operations_and_attempts_stay_on_record() -> None:
    whole = replace(sweep("imp", 100), example_count=1437, forward_operations=4736)
    first = replace(sweep("imp", 150), run_id="first", method=MethodChoice(name="imp", parameters={"rate": 0.5}))
    board = build_board([whole, first, sweep("random_mask", 400)])
    imp = next(row for row in board.rows if row.run_id == whole.run_id)
    assert imp.preparation_operations == 3 * 4736 * 64 * (imp.preparation_gradient_evaluations or 0)
    assert (imp.attempts, imp.attempt_bits, imp.code_bits) == (2, 1.0, 0)
    other = rows(board)["random_mask"]
    assert (other.attempts, other.attempt_bits, other.preparation_operations) == (1, 0.0, None)


def test_a_mask_that_moved_shows_its_union_and_how_much_of_it_was_in_use() -> None:
    still, moved = sweep("erk_mask", 100), sweep("rigl_in_loop", 60)
    results = [
        result.model_copy(update={"audit": result.audit.model_copy(update={"active_k": result.trial.k // 2})})
        for result in moved.results
        if result.audit
    ]
    board = build_board([still, replace(moved, results=tuple(results))])
    unions = {name: (row.union_k, row.active_k) for name, row in rows(board).items()}
    assert unions["erk_mask"] == (None, None)
    union, active = unions["rigl_in_loop"]
    assert union is not None
    assert 60 <= union < 60 * 1.12**2
    assert active == union // 2
    out = io.StringIO()
    show_board(board, out, as_json=False)
    assert f"rigl_in_loop: training opened up to {union} weights, of which up to {active} were in use" in out.getvalue()
    assert out.getvalue().count("training opened") == 1


def test_ranks_have_intervals_from_the_same_seeds() -> None:
    board = build_board([sweep("random_subspace", 200), sweep("imp", 100), sweep("random_mask", 205)])
    by = rows(board)
    assert (by["imp"].rank_low, by["imp"].rank_high) == (1, 1)
    assert (by["random_subspace"].rank_low, by["random_mask"].rank_high) == (2, 3)


def test_profiles_and_wins_leave_controls_out_and_say_what_is_not_solved() -> None:
    never = sweep("random_mask", 10**9, ks=[2048, 1500, 1000, 500] * 5)
    dense = sweep("dense", 1, low=FULL, high=FULL, ks=[FULL] * 20)
    board = build_board([sweep("random_subspace", 200), sweep("imp", 100), never, dense])
    assert list(board.profiles) == ["imp", "random_subspace", "random_mask"]  # best first
    assert board.profiles["imp"].area == 1.0
    assert board.profiles["random_subspace"].area == pytest.approx(0.75, abs=0.03)  # a factor of 2 of at most 16
    assert board.profiles["random_mask"].unsolved == {"above_range": 1}
    assert board.wins["imp"]["random_subspace"].probability == 1.0
    assert board.wins["random_mask"]["imp"].probability == 0.0
    assert "dense" not in board.wins


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


def test_a_submission_is_named_and_its_expectation_is_held_against_what_was_measured() -> None:
    credit = Credit("mine", ("Ada",), "", "cold", ("digits-mlp",))
    claimed, honest = replace(sweep("imp", 100), credit=credit), replace(sweep("dense", 90), credit=credit)
    honest = replace(honest, credit=replace(credit, expected_track="open"))
    board = rows(build_board([claimed, honest, sweep("random_subspace", 200)]))
    assert (board["imp"].submission, board["imp"].authors) == ("mine", ("Ada",))
    assert board["imp"].note == "its authors expected track cold; what it used makes it prepared"
    assert board["dense"].note == ""
    assert board["random_subspace"].submission is None


def test_a_network_of_ones_own_is_on_the_open_track() -> None:
    own = TASK.model_copy(update={"name": "own", "track": "open"})
    assert rows(build_board([sweep("imp", 100, task=own)]))["imp"].track == "open"
