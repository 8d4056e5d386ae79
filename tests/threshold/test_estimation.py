"""Estimates of k*: known answers, and what holds for any results."""

from __future__ import annotations

from math import log
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom

from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.threshold import estimate
from lowdim_bench.threshold.counts import Counts, count
from lowdim_bench.threshold.psychometric import LAPSES, LINKS, SLOPES, posterior, shapes_at
from tests.threshold.made_up import TARGET, result, results, spec


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9, 0.99])
def test_success_is_the_level_at_the_location_for_every_shape(level: float) -> None:
    shapes = shapes_at(level)
    np.testing.assert_allclose(shapes.success(np.zeros((1, 1)))[0], level, rtol=1e-9)
    assert shapes.log_prior.size == shapes.slope.size
    assert np.exp(shapes.log_prior).sum() == pytest.approx(1)


def test_the_logistic_shape_is_the_logistic_function() -> None:
    shapes = shapes_at(0.5, links=("logistic",))
    distance = np.linspace(-1, 1, 11)[:, None]
    plain = int(np.argmin(shapes.lapse + abs(shapes.slope - 10) * 1e-3))
    expected = expit(shapes.slope[plain] * distance[:, 0])
    np.testing.assert_allclose(shapes.success(distance)[:, plain], expected, atol=0.003)


def test_every_shape_of_one_slope_is_about_as_steep() -> None:
    """Interquartile ranges of the links agree: that is what makes one slope grid serve them all."""
    x, widths = np.linspace(-2, 2, 4001), []
    column = LAPSES.size * 4
    for link in LINKS:
        success = shapes_at(0.5, links=(link,)).success(x[:, None])[:, column]
        widths.append(float(np.diff(np.interp([0.25, 0.75], success, x))[0]))
    assert max(widths) / min(widths) < 1.01
    assert widths[0] == pytest.approx(log(9) / SLOPES[4], rel=0.02)


def test_likelihood_is_binomial() -> None:
    counts = Counts(np.array([50, 90]), np.array([1, 6]), np.array([4, 7]))
    shapes, location = shapes_at(0.5), np.log([60.0, 75.0])
    got = shapes.log_likelihood(counts, location)
    expected = sum(
        binom.logpmf(hits, trials, shapes.success(log(k) - location[:, None]))
        for k, hits, trials in zip(counts.k, counts.hits, counts.trials, strict=True)
    )
    difference = got - np.asarray(expected)
    np.testing.assert_allclose(difference, difference[0, 0], atol=1e-9)


def test_a_sharp_step_is_found() -> None:
    found = estimate(spec(), TARGET, 1, 4096, results({90: (0, 8), 95: (0, 8), 105: (8, 8), 110: (8, 8)}))
    assert found.status == "found"
    assert found.k_star is not None
    assert found.low is not None
    assert found.high is not None
    assert 98 <= found.k_star <= 102
    assert 94 <= found.low <= 100 <= found.high <= 107
    assert (found.hits, found.trials, found.monotone) == (16, 32, True)


def test_counts_near_are_those_within_the_widened_interval() -> None:
    seen = {10: (0, 5), 90: (0, 8), 95: (0, 8), 105: (8, 8), 110: (8, 8), 4000: (3, 3)}
    found = estimate(spec(), TARGET, 1, 4096, results(seen))
    assert (found.hits_near, found.trials_near) == (16, 32)
    assert (found.hits, found.trials) == (19, 40)


@pytest.mark.parametrize("design", ["bayesian", "bisection"])
def test_beyond_the_range_needs_five_trials_only(design: str) -> None:
    never = estimate(spec(design=design), TARGET, 16, 4096, results({4096: (0, 12)}))
    assert (never.status, never.low, never.k_star, never.high) == ("above_range", 4096, None, None)
    always = estimate(spec(design=design), TARGET, 16, 4096, results({16: (12, 12)}))
    assert (always.status, always.low, always.k_star, always.high) == ("below_range", None, None, 16)
    four = estimate(spec(design=design), TARGET, 16, 4096, results({4096: (0, 4)}))
    assert four.status == "unfinished"


def test_no_trials_say_nothing() -> None:
    for design in ("bayesian", "bisection"):
        nothing = estimate(spec(design=design), TARGET, 1, 4096, [])
        assert (nothing.status, nothing.k_star, nothing.low, nothing.high) == ("unfinished", None, None, None)


def test_too_few_trials_are_unfinished_however_narrow() -> None:
    sharp = results({60: (0, 4), 80: (0, 4), 125: (4, 4), 160: (4, 4)})
    assert estimate(spec(precision=4.0), TARGET, 1, 4096, sharp).status == "unfinished"
    assert estimate(spec(precision=4.0, minimum_replicates=16), TARGET, 1, 4096, sharp).status == "found"


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_what_does_not_get_through_has_not_reached(status: Literal["diverged", "failed"]) -> None:
    seen = results({96: (0, 8), 104: (8, 8)})
    lost = TrialResult(trial=Trial(k=4096, replicate=99, round=1), status=status, reason="it raised")
    assert count([*seen, lost], TARGET).trials.tolist() == [8, 8, 1]
    assert count([*seen, lost], TARGET).hits.tolist() == [0, 8, 0]


def test_failed_trials_never_lower_a_threshold_and_are_told() -> None:
    seen = results({60: (0, 8), 96: (3, 8), 104: (6, 8), 160: (8, 8)})
    before = estimate(spec(), TARGET, 1, 4096, seen)
    for k in (60, 100, 160):
        lost = [
            TrialResult(trial=Trial(k=k, replicate=99 + i, round=1), status="failed", reason="it died")
            for i in range(2)
        ]
        after = estimate(spec(), TARGET, 1, 4096, [*seen, *lost])
        assert before.k_star is not None
        assert after.k_star is not None
        assert after.k_star >= before.k_star
        assert after.note.endswith("2 of 34 trials failed, and count as not reached.")
    assert "failed" not in before.note


def test_a_method_with_a_single_k() -> None:
    def at(hits: int, trials: int) -> tuple[str, int | None]:
        single = estimate(spec(), TARGET, 64, 64, results({64: (hits, trials)}))
        return single.status, single.k_star

    assert at(19, 19) == ("unfinished", None)
    assert at(10, 20) == ("found", 64)
    assert at(9, 20) == ("above_range", None)


def test_other_levels_have_other_thresholds() -> None:
    seen = results({50: (0, 40), 80: (10, 40), 100: (20, 40), 125: (30, 40), 200: (40, 40)})
    half, most = (estimate(spec(success_probability=p), TARGET, 1, 4096, seen) for p in (0.5, 0.75))
    assert half.k_star == pytest.approx(100, rel=0.06)
    assert most.k_star == pytest.approx(125, rel=0.06)


def test_more_data_narrow_the_interval() -> None:
    def width(times: int) -> float:
        seen = {80: (2 * times, 8 * times), 100: (4 * times, 8 * times), 125: (6 * times, 8 * times)}
        low, high = posterior(spec(), 1, 4096, count(results(seen), TARGET)).quantiles(np.array([0.025, 0.975]))
        return float(high - low)

    widths = [width(times) for times in (1, 2, 4, 8, 16)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.3 * widths[0]


def test_an_early_success_that_does_not_fit_is_not_explained_away() -> None:
    """One success at k = 116 and failures at and near the largest k: luck, or a success that falls again."""
    seen = results({1: (0, 1), 116: (1, 1), 3000: (0, 8), 4096: (0, 8)})
    doubtful = estimate(spec(), TARGET, 1, 4096, seen)
    assert doubtful.status == "unfinished"
    assert "k = 116" in doubtful.note
    resolved = results({1: (0, 1), 116: (1, 5), 3000: (0, 8), 4096: (0, 8)})
    assert estimate(spec(), TARGET, 1, 4096, resolved).status == "above_range"


observations = st.lists(
    st.builds(
        result,
        k=st.sampled_from([1, 2, 3, 7, 16, 60, 64, 70, 200, 512, 4096]) | st.integers(1, 5000),
        replicate=st.integers(0, 30),
        reached=st.booleans(),
        number=st.integers(0, 4),
    ),
    max_size=40,
    unique_by=lambda one: one.trial.key,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    seen=observations,
    ends=st.tuples(st.integers(1, 300), st.integers(0, 4000)),
    level=st.floats(0.02, 0.98),
    precision=st.floats(1.01, 8.0),
    design=st.sampled_from(["bayesian", "bisection"]),
    random=st.randoms(use_true_random=False),
)
def test_any_results_give_an_ordered_estimate(seen, ends, level, precision, design, random) -> None:  # noqa: ANN001
    k_low, k_high = ends[0], ends[0] + ends[1]
    asked = spec(success_probability=level, precision=precision, design=design, minimum_replicates=5)
    first = estimate(asked, TARGET, k_low, k_high, seen)
    shuffled = random.sample(seen, len(seen))
    assert estimate(asked, TARGET, k_low, k_high, shuffled) == first
    ends_given = [k for k in (first.low, first.k_star, first.high) if k is not None]
    assert ends_given == sorted(ends_given)
    assert all(k_low <= k <= k_high for k in ends_given)
    assert first.trials == len(seen)
    assert first.hits == sum(one.reached(TARGET) for one in seen)
    assert first.hits_near <= first.hits
    assert first.trials_near <= first.trials
    if first.status == "found":
        assert len(ends_given) == 3
        assert ends_given[2] <= ends_given[0] * precision or ends_given[2] - ends_given[0] <= 1
