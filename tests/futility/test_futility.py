"""Futility: the rule on curves with known ends, what a sweep does with it, and how it is audited and reported."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import futility as benchmark
from lowdim_bench.cli import display
from lowdim_bench.errors import UserError
from lowdim_bench.futility import FutilityReport, out_of_reach, proportion_interval, report, runs_on
from lowdim_bench.leaderboard import build_board
from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import CurvePoint, Estimate, FutilityCall, Outcome, Trial, TrialResult
from lowdim_bench.specs import Task, load_task
from lowdim_bench.specs.task import Futility
from lowdim_bench.threshold.counts import count
from lowdim_bench.tracking import StoredSweep, summary
from lowdim_bench.trial import run_pack
from tests.problems.small import BLOBS, WELL, make_task, small_problem

RULE = Futility()
STEPS = 1000
NEVER_AUDITED, ALWAYS_AUDITED = {"audit_share": 1e-15}, {"audit_share": 1.0}
LADDER = {
    "training": {"steps": 120},
    "targets": [{"metric": "train_loss", "at_most": level} for level in (0.8, 0.4, 0.2, 0.05)],
}


def power_law(last: int, slope: float, scale: float = 3.0, every: int = 50) -> list[CurvePoint]:
    return [CurvePoint(step=step, train_loss=scale * step**-slope) for step in range(every, last + 1, every)]


# The rule


@pytest.mark.parametrize("step", [200, 450, 950])
@pytest.mark.parametrize("slope", [0.1, 0.7])
def test_a_power_law_is_out_of_reach_of_what_a_factor_times_its_slope_does_not_reach(step: int, slope: float) -> None:
    curve = power_law(step, slope)
    share = step / STEPS
    factor = 0.8 * (1 - share) + 2.0 * share
    lowest = 3.0 * step**-slope * (STEPS / step) ** (-factor * slope)
    assert out_of_reach(RULE, curve, lowest * 0.999, STEPS)
    assert not out_of_reach(RULE, curve, lowest * 1.001, STEPS)


def test_a_run_is_not_judged_before_it_is_time_nor_when_nothing_is_left() -> None:
    hopeless = 1e-30
    assert out_of_reach(RULE, power_law(200, 0.5), hopeless, STEPS)
    assert not out_of_reach(RULE, power_law(150, 0.5), hopeless, STEPS)
    assert not out_of_reach(RULE, power_law(1000, 0.5), hopeless, STEPS)


def test_a_run_is_not_judged_by_fewer_than_three_evaluations_of_the_last_doubling() -> None:
    sparse = power_law(300, 0.5, every=100)
    assert out_of_reach(RULE, power_law(400, 0.5, every=100), 1e-30, STEPS)
    assert not out_of_reach(RULE, sparse, 1e-30, STEPS)  # steps 200 and 300 only


def test_a_run_is_not_judged_on_what_is_no_number_nor_once_it_met_the_level() -> None:
    curve = power_law(500, 0.5)
    broken = [*curve[:-1], CurvePoint(step=500, train_loss=None)]
    assert not out_of_reach(RULE, broken, 1e-30, STEPS)
    met = [*curve[:3], CurvePoint(step=200, train_loss=0.0), *curve[4:]]
    assert not out_of_reach(RULE, met, 0.01, STEPS)


def test_a_run_whose_loss_rises_is_out_of_reach() -> None:
    assert out_of_reach(RULE, power_law(400, -0.2), 1.0, STEPS)


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_the_audit_draws_its_share_of_replicates(share: float) -> None:
    rule, n = Futility(audit_share=share), 4000
    drawn = sum(runs_on(rule, "digits-mlp", replicate) for replicate in range(n))
    assert abs(drawn - share * n) <= 4 * math.sqrt(n * share * (1 - share))
    assert [runs_on(rule, "a", r) for r in range(99)] != [runs_on(rule, "b", r) for r in range(99)] or share == 1.0


@pytest.mark.parametrize(
    ("base", "changes", "reason"),
    [
        (WELL, {}, "not proven for quadratic wells"),
        (BLOBS, {"targets": [{"metric": "train_accuracy", "at_least": 0.9}]}, "takes train_loss targets"),
        (BLOBS, {"targets": [{"metric": "train_loss", "at_most": 0.0}]}, "every at_most must lie above 0"),
        (BLOBS, {"training": {"learning_rate": {"schedule": "cosine"}}}, "needs a constant learning rate"),
        (BLOBS, {"futility": {"audit_share": 0.0}}, "audit_share"),
        (BLOBS, {"futility": {"earliest": 1.0}}, "earliest"),
    ],
)
def test_a_task_for_which_the_rule_does_not_hold_is_refused(base: Any, changes: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        make_task(base, {"futility": {}} | changes)


# What a run does with it


def train(futility: dict[str, float] | None, ks: Sequence[int], method: str, **changes: Any) -> list[TrialResult]:
    task = make_task(BLOBS, LADDER | ({} if futility is None else {"futility": futility}) | changes)
    trials = [Trial(k=k, replicate=place, round=0) for place, k in enumerate(ks)]
    return run_pack(small_problem(task), task, MethodChoice(name=method), trials)


KS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40, 53) * 3


def test_decisions_are_those_of_a_replay_of_what_would_have_happened() -> None:
    task = make_task(BLOBS, LADDER | {"futility": NEVER_AUDITED})
    assert task.futility is not None
    without, with_rule = train(None, KS, "random_subspace"), train(NEVER_AUDITED, KS, "random_subspace")
    replays = [benchmark.replay(task.futility, task.targets, task.training.steps, result) for result in without]
    assert [result.trained_steps for result in with_rule] == [one.steps_with_rule for one in replays]
    assert [len(result.futility) for result in with_rule] == [one.called for one in replays]
    assert any(one.called for one in replays)
    assert any(one.success for one in replays)
    for stopped, full, one in zip(with_rule, without, replays, strict=True):
        for outcome, true in zip(stopped.outcomes, full.outcomes, strict=True):
            happened = true.step is not None and true.step <= stopped.trained_steps
            assert outcome.step == (true.step if happened else None)
        for call in stopped.futility:
            easiest = next(outcome.target for outcome in stopped.outcomes if not outcome.reached)
            saved = task.training.steps - one.steps_with_rule
            assert call == FutilityCall(
                target=easiest, step=one.steps_with_rule, audited=False, reached=False, steps_saved=saved
            )
        assert stopped.status == "trained"


def test_an_audited_run_runs_on_and_counts_with_its_true_outcome() -> None:
    # A factor so small that nearly every run is called futile, also those that succeed.
    hasty = ALWAYS_AUDITED | {"factor_at_start": 0.01, "factor_at_end": 0.01}
    without, audited = train(None, KS, "random_subspace"), train(hasty, KS, "random_subspace")
    assert [one.model_copy(update={"futility": (), "seconds": 0.0}) for one in audited] == [
        one.model_copy(update={"seconds": 0.0}) for one in without
    ]
    calls = [call for result in audited for call in result.futility]
    assert all(call.audited and call.steps_saved == 0 for call in calls)
    assert {call.reached for call in calls} == {True, False}
    for result in audited:
        assert all(call.reached == result.reached(call.target) for call in result.futility)


def test_a_warm_start_is_never_judged() -> None:
    hasty = NEVER_AUDITED | {"factor_at_start": 0.01, "factor_at_end": 0.01}
    assert any(result.futility for result in train(hasty, KS, "random_subspace"))
    warm = train(hasty, KS, "burn_in_subspace")
    assert all(result.audit is not None and result.audit.track == "prepared" for result in warm)
    assert not any(result.futility for result in warm)


def test_every_learning_rate_multiplier_is_judged_by_itself() -> None:
    rate = {"value": 0.1, "multipliers": [1e-6, 1.0]}
    changes = {"training": LADDER["training"] | {"learning_rate": rate}}
    task = make_task(BLOBS, LADDER | {"futility": NEVER_AUDITED} | changes)
    trial = Trial(k=53, replicate=0, round=0)
    (result,) = run_pack(small_problem(task), task, MethodChoice(name="dense"), [trial])
    assert [call.target for call in result.futility] == ["train_loss <= 0.8"]  # the slow one alone
    assert result.outcomes[-1].reached
    assert report([result]) is not None


# The report


def called(*calls: tuple[bool, bool, int], steps: int = 100, reached: bool = False) -> TrialResult:
    """A result with calls of (audited, reached, steps saved)."""
    return TrialResult(
        trial=Trial(k=4, replicate=0, round=0),
        status="trained",
        outcomes=(Outcome(target="t", reached=reached),),
        trained_steps=steps,
        futility=tuple(
            FutilityCall(target="t", step=100, audited=audited, reached=hit, steps_saved=saved)
            for audited, hit, saved in calls
        ),
    )


RESULTS = [
    called((False, False, 400)),
    called((True, True, 0), steps=300),
    called((True, False, 0), steps=500),
    called(),
]


def test_the_report_counts_calls_audits_errors_and_steps() -> None:
    found = report(RESULTS)
    assert found is not None
    assert (found.futile, found.audited, found.wrong, found.steps_saved) == (3, 2, 1, 400)
    assert found.share_saved == 400 / (100 + 300 + 500 + 100 + 400)
    # One of two: the tails of the exact interval are 1 - sqrt(1 - 0.025) and its mirror image.
    assert found.wrong_low == pytest.approx(1 - math.sqrt(0.975))
    assert found.wrong_high == pytest.approx(math.sqrt(0.975))


def test_nothing_is_reported_without_a_call_and_no_interval_without_an_audit() -> None:
    assert report([called()]) is None
    unaudited = report(RESULTS[:1])
    assert unaudited is not None
    assert (unaudited.wrong_low, unaudited.wrong_high) == (None, None)
    assert proportion_interval(0, 20)[1] == pytest.approx(1 - 0.025 ** (1 / 20))


def test_a_run_that_was_given_up_counts_as_not_reached() -> None:
    counts = count([called((False, False, 400)), called(reached=True)], "t")
    assert (counts.total_hits, counts.total_trials) == (1, 2)


def test_the_report_stands_on_the_board_and_among_the_metrics() -> None:
    task = load_task("digits-mlp")
    method = MethodChoice(name="random_subspace")
    sweep = StoredSweep("run", task, method, "found", "", 1, 2048, 2410, tuple(RESULTS), method.method_digest)
    board = build_board([sweep])
    assert isinstance(board.rows[0].futility, FutilityReport)
    shown, plain = io.StringIO(), io.StringIO()
    display.show_board(board, shown, as_json=False)
    text = " ".join(shown.getvalue().split())
    assert "3 runs were called futile, which saved 29 % of the steps; 2 ran on as an audit and 1 reached" in text
    assert "(95 % interval 1.26 to 98.7 %)" in text
    display.show_board(board, plain, as_json=True)
    assert json.loads(plain.getvalue())["rows"][0]["futility"]["wrong"] == 1
    metrics = summary.final_metrics(Estimate(target="t", status="unfinished"), RESULTS, 2410)
    assert (metrics["futile"], metrics["futile_audited"], metrics["futile_wrong"]) == (3, 2, 1)


# The benchmark


def _runs(ks: Sequence[int], *, k_star: int, wrong: int = 0) -> list[benchmark.Replay]:
    """Runs that fail below k_star and are called futile halfway, but for `wrong` of those above it."""
    return [
        benchmark.Replay(k, k >= k_star, 500, 250 if k < k_star or place < 0 else 500, k < k_star, False)
        for place, k in enumerate(ks)
    ][: len(ks) - wrong] + [benchmark.Replay(ks[-1], True, 500, 250, True, True)] * wrong


def test_the_benchmark_counts_savings_and_errors() -> None:
    part = benchmark.summarize("t", "zone", _runs(range(1, 201), k_star=101, wrong=2), 500)
    assert (part.trials, part.successes, part.called, part.wrong) == (200, 100, 102, 2)
    assert part.saved == pytest.approx(102 * 250 / (200 * 500))
    assert part.saved_low < part.saved < part.saved_high
    assert part.saved_by_success == 0.0
    assert part.wrong_share == 0.01
    assert part.k_half_ratio is not None
    assert part.k_half_ratio > 1.0


def test_without_errors_the_threshold_stays_where_it_is() -> None:
    assert benchmark.summarize("t", "zone", _runs(range(1, 201), k_star=101), 500).k_half_ratio == 1.0
    assert benchmark.summarize("t", "zone", _runs(range(1, 201), k_star=1), 500).k_half_ratio is None


def test_the_steep_part_is_where_success_is_uncertain() -> None:
    low, high = benchmark.steep_part(_runs(range(1, 401), k_star=201)) or (0, 0)
    assert 150 < low < 201 < high < 250
    assert benchmark.steep_part(_runs(range(1, 401), k_star=1)) is None


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["digits-mlp", "--k-star", "50", "--rank", "0", "--trials", "96", "--data-root", str(tmp_path)]
    benchmark.main([*arguments, "--json"])
    parts = json.loads(capsys.readouterr().out)
    assert {part["targets"] for part in parts} == {"train_loss <= 1, alone", "train_loss <= 1, ladder"}
    zone = parts[0]
    assert zone["trials"] == 96
    assert zone["wrong"] <= zone["called"] <= 96
    assert 0.2 < zone["saved"] < 0.7


def test_every_shipped_task_with_a_rule_is_one_that_it_was_proven_on() -> None:
    assert isinstance(load_task("digits-mlp"), Task)
    assert load_task("digits-mlp").futility == Futility()
    assert load_task("mnist-mlp").futility is None
