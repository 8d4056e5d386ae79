"""The planner: pure, within its budget, never the same training twice, and it ends."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowdim_bench.planner import expected_trials, plan_round, spread
from lowdim_bench.records import Estimate, Trial, TrialResult
from lowdim_bench.seeds import derive
from lowdim_bench.threshold import estimate
from tests.threshold.made_up import TARGET, play, result, results, task


def logistic(location: float, slope: float, seed: int, height: float = 1.0):  # noqa: ANN201
    """Whether a trial reaches: a fixed number for each (k, replicate)."""

    def reaches(trial: Trial) -> bool:
        drawn = np.random.default_rng(derive(seed, trial.k, trial.replicate)).random()
        return bool(drawn < height / (1 + exp(min(700.0, -slope * (log(trial.k) - location)))))

    return reaches


def test_the_first_round_spreads_over_the_range() -> None:
    trials = plan_round(task(), 1, 4096, [])
    assert [trial.k for trial in trials] == [1, 3, 11, 35, 116, 380, 1248, 4096]
    assert [trial.replicate for trial in trials] == list(range(8))
    assert {trial.round for trial in trials} == {0}
    assert spread(1, 100, 1) == [10]
    assert spread(1, 10_000, 2) == [10, 1000]


def test_a_later_round_goes_where_the_threshold_is() -> None:
    first = [result(k, i, k >= 200) for i, k in enumerate(spread(1, 4096, 8))]
    trials = plan_round(task(), 1, 4096, first)
    assert len(trials) == 8
    assert {trial.round for trial in trials} == {1}
    assert [trial.replicate for trial in trials] == list(range(8, 16))
    assert sum(100 <= trial.k <= 450 for trial in trials) >= 7
    assert len({trial.k for trial in trials}) >= 4, "a batch asks different questions"


def test_a_single_k_takes_the_minimum_of_replicates() -> None:
    stop, seen = play(task(minimum_replicates=20), 64, 64, lambda trial: True)
    assert [one.trial.key for one in seen] == [f"k64-r{i}" for i in range(20)]
    assert [one.trial.round for one in seen] == [0] * 8 + [1] * 8 + [2] * 4
    assert stop.status == "found"


@pytest.mark.parametrize("design", ["bayesian", "bisection"])
def test_hopeless_and_trivial_sweeps_end_early(design: str) -> None:
    never, seen = play(task(design=design), 1, 4096, lambda trial: False)
    assert never.status == "above_range"
    assert len(seen) <= (16 if design == "bayesian" else 32)
    always, seen = play(task(design=design), 16, 4096, lambda trial: True)
    assert always.status == "below_range"
    assert len(seen) <= (16 if design == "bayesian" else 32)


@pytest.mark.parametrize("design", ["bayesian", "bisection"])
@pytest.mark.parametrize("k_star", [2, 3, 17, 300, 4000])
def test_sharp_steps_are_found(design: str, k_star: int) -> None:
    stop, seen = play(task(design=design), 1, 4096, lambda trial: trial.k >= k_star)
    assert stop.status == "found"
    assert stop.low is not None
    assert stop.high is not None
    slack = 1.0 if design == "bisection" else 1.01  # a credible interval of a smooth curve may miss a step by a hair
    assert stop.low / slack <= k_star <= stop.high * slack
    assert len(seen) <= 72


def test_half_a_round_settles_a_success_that_does_not_fit() -> None:
    seen = results({1: (0, 1), 116: (1, 1), 3000: (0, 8), 4096: (0, 8)})
    assert [trial.k for trial in plan_round(task(), 1, 4096, seen)].count(116) == 4


def test_a_success_that_falls_again_is_searched_at_its_first_rise() -> None:
    """The lottery subspaces of the public logs, five seeds at each k, then as many as the planner asks for."""
    chance = {8: 0.0, 32: 0.0, 128: 0.9, 512: 0.0, 1024: 0.0, 2048: 0.0}

    def reaches(trial: Trial) -> bool:
        nearest = min(chance, key=lambda k: abs(log(k / trial.k)))
        return bool(np.random.default_rng(derive(trial.k, trial.replicate)).random() < chance[nearest])

    stop, seen = play(task(), 1, 4096, reaches)
    assert stop.status == "found"
    assert stop.low is not None
    assert stop.high is not None
    assert stop.low <= 64 <= stop.high + 1
    assert len(seen) < 200


@pytest.mark.parametrize("design", ["bayesian", "bisection"])
def test_replicates_count_from_the_first_one(design: str) -> None:
    asked = task(design=design)
    plain, shifted = plan_round(asked, 1, 4096, []), plan_round(asked, 1, 4096, [], first_replicate=1000)
    assert [(trial.k, trial.replicate + 1000) for trial in plain] == [(trial.k, trial.replicate) for trial in shifted]
    seen = [result(trial.k, trial.replicate, trial.k > 100) for trial in shifted]
    assert min(trial.replicate for trial in plan_round(asked, 1, 4096, seen, first_replicate=1000)) >= 1000


@pytest.mark.parametrize("design", ["bayesian", "bisection"])
def test_a_failed_trial_is_planned_on_as_one_that_did_not_reach(design: str) -> None:
    asked = task(design=design)
    first = [result(trial.k, trial.replicate, trial.k > 100) for trial in plan_round(asked, 1, 4096, [])]
    lost = TrialResult(trial=first[3].trial, status="failed", reason="it raised")
    missed = result(lost.trial.k, lost.trial.replicate, False)
    after_failing, after_missing = (plan_round(asked, 1, 4096, [*first[:3], one, *first[4:]]) for one in (lost, missed))
    assert after_failing == after_missing
    assert lost.trial.key not in {trial.key for trial in after_failing}


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    ends=st.tuples(st.integers(1, 40), st.integers(0, 4000)),
    location=st.floats(-1.0, 9.0),
    slope=st.sampled_from([0.5, 3.0, 12.0, 60.0]),
    height=st.sampled_from([0.3, 0.9, 1.0]),
    design=st.sampled_from(["bayesian", "bisection"]),
    size_and_budget=st.tuples(st.sampled_from([1, 3, 8, 20]), st.integers(1, 60)),
    level=st.sampled_from([0.2, 0.5, 0.9]),
    random=st.randoms(use_true_random=False),
)
def test_any_sweep(ends, location, slope, height, design, size_and_budget, level, random) -> None:  # noqa: ANN001
    k_low, k_high, (size, budget) = ends[0], ends[0] + ends[1], size_and_budget
    asked = task(
        design=design,
        trials_per_round=size,
        trials=budget,
        minimum_replicates=min(5, budget),
        success_probability=level,
    )
    reaches, seen, rounds = logistic(location, slope, budget, height), [], 0
    while trials := plan_round(asked, k_low, k_high, seen):
        if rounds < 4:
            assert plan_round(asked, k_low, k_high, random.sample(seen, len(seen))) == trials
        assert {trial.round for trial in trials} == {rounds}
        assert len(trials) <= size
        assert all(k_low <= trial.k <= k_high for trial in trials)
        assert [trial.replicate for trial in trials] == sorted(trial.replicate for trial in trials)
        if design == "bayesian":
            assert [trial.replicate for trial in trials] == list(range(len(seen), len(seen) + len(trials)))
        seen += [result(trial.k, trial.replicate, reaches(trial), trial.round) for trial in trials]
        rounds += 1
    assert len(seen) <= budget
    assert len({one.trial.key for one in seen}) == len(seen)


def test_the_ranked_target_drives_the_search() -> None:
    """Outcomes of another name do not count."""
    assert task().ranked_target.name == TARGET
    other = [one.model_copy(update={"outcomes": ()}) for one in results({4096: (12, 12)})]
    assert plan_round(task(), 1, 4096, other) == ()


def test_large_rounds_and_fine_precision_are_planned() -> None:
    seen = results({1600: (0, 100), 2000: (50, 100), 2500: (100, 100)})
    trials = plan_round(task(trials_per_round=100, trials=1000, precision=1.001), 1, 4096, seen)
    assert len(trials) == 100


@pytest.mark.parametrize("slope", [6.0, 12.0, 30.0])
def test_the_forecast_of_trials_is_right_within_a_factor_of_two(slope: float) -> None:
    asked = task(precision=1.2, minimum_replicates=20, trials=200)
    ratios = []
    for seed in range(12):
        _, seen = play(asked, 1, 4096, logistic(log(100.0 + 50 * seed), slope, seed))
        for trials in range(16, len(seen), 8):
            current = estimate(asked.threshold, TARGET, 1, 4096, seen[:trials])
            if current.low is not None and current.high is not None:
                ratios.append(expected_trials(asked.threshold, current, trials) / len(seen))
    assert len(ratios) > 20
    assert np.mean((np.array(ratios) > 0.5) & (np.array(ratios) < 2)) > 0.85
    assert 0.7 < np.median(ratios) < 1.4


def test_nothing_is_forecast_from_an_interval_with_an_open_end() -> None:
    with pytest.raises(ValueError, match="open end"):
        expected_trials(task().threshold, Estimate(target=TARGET, status="unfinished", low=8), 8)
