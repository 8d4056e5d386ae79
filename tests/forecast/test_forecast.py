"""Forecasts: gradients counted as they are spent, searches simulated with the real planner, and all of it of the right size."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.forecast import Forecast, forecast
from lowdim_bench.forecast.pace import Pace, measure
from lowdim_bench.methods import MethodChoice, parse_choice
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.records import Trial
from lowdim_bench.specs import load_task
from lowdim_bench.testing import TINY, tiny_problem
from lowdim_bench.trial import run_pack

PROBLEM = tiny_problem()
METHODS = (
    "random_subspace",
    "burn_in_subspace",
    "lottery_subspace",
    "swag_subspace",
    "one_shot_magnitude,rewind_step=5",
    "imp,rate=0.5",
)


@pytest.mark.parametrize("text", METHODS)
def test_gradients_are_counted_as_a_real_preparation_spends_them(text: str) -> None:
    method = parse_choice(text).build()
    pace = measure(PROBLEM, TINY, method, 20, 2)
    (item,) = prepare_pack(PROBLEM, TINY, method, [Trial(k=20, replicate=0, round=0)])
    assert not item.failure
    assert pace.gradient_evaluations == item.ledger.spent.gradient_evaluations
    assert pace.full_steps == pace.gradient_evaluations
    assert pace.step_seconds > 0
    assert pace.evaluation_seconds > 0
    assert (pace.full_step_seconds > 0) == (pace.full_steps > 0)


def test_seconds_of_a_trial_are_the_sum_of_what_it_consists_of() -> None:
    pace = Pace(7, 30, 0, 2.0, 30, 0.1, 0.5, 0.25, 0)
    assert pace.seconds(TINY, 1.0) == pytest.approx(2.0 + 30 * 0.1 + 40 * 0.5 + (4 + 2) * 0.25)
    assert pace.seconds(TINY, 0.5) == pytest.approx(2.0 + 30 * 0.1 + 20 * 0.5 + (2 + 2) * 0.25)


def _forecast(text: str, workers: int = 2, **threshold: object) -> Forecast:
    task = TINY.model_copy(update={"threshold": TINY.threshold.model_copy(update=threshold)})
    return forecast(parse_choice(text), task, Path(), workers)


def test_a_forecast_is_ordered_and_says_where_it_comes_from() -> None:
    found = _forecast("burn_in_subspace,burn_in_steps=30")
    for span in (found.trainings, found.hours, found.wall_minutes, found.preparation_gradients_in_all):
        assert 0 < span.low <= span.middle <= span.high
    assert TINY.threshold.minimum_replicates <= found.trainings.low
    assert found.trainings.high <= TINY.threshold.trials
    assert found.preparation_gradients.low == found.preparation_gradients.high == 30
    assert found.preparation_gradients_in_all.middle == 30 * found.trainings.middle
    assert 50e6 < found.memory_per_worker < 50e9
    assert [pace.k for pace in found.paces] == sorted({pace.k for pace in found.paces})
    assert any("a step" in text for text in found.measured)
    assert any("k* lies anywhere from 1 to 610" in text for text in found.assumed)


def test_a_wider_interval_takes_fewer_trainings() -> None:
    narrow, wide = (_forecast("random_subspace", precision=precision) for precision in (1.15, 2.0))
    assert wide.trainings.middle < narrow.trainings.middle


def test_the_hours_are_of_the_size_of_real_trials() -> None:
    """Within a factor of five either way, on a machine that may be busy."""
    method = MethodChoice(name="random_subspace")
    trials = [Trial(k=100, replicate=replicate, round=0) for replicate in range(4)]
    pace = measure(PROBLEM, TINY, method.build(), 100, len(trials))
    run_pack(PROBLEM, TINY, method, trials)
    began = time.process_time()
    results = run_pack(PROBLEM, TINY, method, trials)
    real = (time.process_time() - began) / len(trials)
    share = sum(result.trained_steps for result in results) / len(trials) / TINY.training.steps
    assert real / 5 < pace.seconds(TINY, share) < real * 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("burn_in_subspace,burn_in_steps=20001", "asked for 20001 gradient .*lowdim-bench validate"),
        ("one_shot_magnitude,rewind_step=100", "start must lie below stop"),
    ],
)
def test_what_would_fail_is_told_before_anything_is_spent(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"(?s)cannot prepare a trial of task tiny-digits: .*{reason}"):
        _forecast(text)


def test_a_range_that_the_task_does_not_ask_for_is_told() -> None:
    with pytest.raises(UserError, match="can prepare no k between those that task tiny-digits asks for"):
        _forecast("lottery_subspace,increments=4", k_min=5)


def test_shipped_tasks_can_be_forecast() -> None:
    found = forecast(MethodChoice(name="dense"), load_task("digits-mlp"), Path(), 2)
    assert (found.k_low, found.k_high) == (2410, 2410)
    assert found.trainings.low == found.trainings.high == 20
