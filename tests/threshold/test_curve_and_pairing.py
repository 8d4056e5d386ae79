"""Success curves with their bands, and paired ratios of two thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from lowdim_bench.records import TrialResult
from lowdim_bench.threshold import bootstrap_log_thresholds, estimate, paired_log_ratios, success_curve
from tests.threshold.made_up import TARGET, play, result, results, spec, task

RISING = {50: (0, 20), 80: (5, 20), 100: (10, 20), 125: (15, 20), 200: (20, 20)}
FULL = (1, 4096)


def nested(thresholds: list[int]) -> list[TrialResult]:
    """Replicates that reach from their threshold on, each asked just below and at it."""
    pairs = [(result(t - 1, i, False), result(t, i, True, 1)) for i, t in enumerate(thresholds)]
    return [one for pair in pairs for one in pair]


@pytest.mark.parametrize(
    ("design", "seen"),
    [
        ("bayesian", results(RISING)),
        ("bayesian", results({8: (0, 5), 32: (0, 5), 128: (4, 5), 512: (0, 9)})),
        ("bayesian", results({64: (3, 5)})),
        ("bayesian", []),
        ("bisection", nested([80, 90, 95, 100, 105, 110, 130])),
        ("bisection", []),
    ],
)
def test_a_curve_is_a_probability_within_its_band(design: str, seen: list[TrialResult]) -> None:
    ks = np.array([1, 8, 64, 99, 100, 101, 128, 4096])
    curve = success_curve(spec(design=design), TARGET, *FULL, seen, ks)
    assert curve.shape == (8, 3)
    assert np.all((curve >= 0) & (curve <= 1))
    assert np.all(curve[:, 1] <= curve[:, 0] + 1e-12)
    assert np.all(curve[:, 0] <= curve[:, 2] + 1e-12)


def test_a_curve_passes_through_the_level_at_k_star() -> None:
    k_star = estimate(spec(), TARGET, *FULL, results(RISING)).k_star
    assert k_star is not None
    low, at, high = success_curve(spec(), TARGET, *FULL, results(RISING), [50, k_star, 200])
    assert at[0] == pytest.approx(0.5, abs=0.03)
    assert low[2] < 0.25
    assert high[1] > 0.75


def test_a_curve_of_brackets_is_the_share_of_replicates() -> None:
    curve = success_curve(spec(design="bisection"), TARGET, *FULL, nested([80] * 5 + [120] * 5), [79, 100, 120])
    np.testing.assert_allclose(curve[:, 0], [0, 0.5, 1])
    np.testing.assert_allclose(curve[1, 1:], [0.187, 0.813], atol=1e-3)  # Clopper-Pearson, 5 of 10


@pytest.mark.parametrize("design", ["bayesian", "bisection"])
def test_a_sweep_compared_with_itself_has_ratio_one(design: str) -> None:
    seen = results(RISING) if design == "bayesian" else nested([80, 90, 100, 101, 104, 130])
    ratios = paired_log_ratios(spec(design=design), TARGET, FULL, seen, FULL, seen, draws=50, seed=1)
    np.testing.assert_array_equal(ratios, np.zeros(50))


@pytest.mark.parametrize("design", ["bayesian", "bisection"])
def test_the_ratio_of_two_thresholds(design: str) -> None:
    if design == "bayesian":
        a, b = results({2 * k: count for k, count in RISING.items()}), results(RISING)
    else:
        thresholds = [80, 85, 90, 95, 100, 100, 105, 110, 115, 120]
        a, b = nested([2 * t for t in thresholds]), nested(thresholds)
    ratios = paired_log_ratios(spec(design=design), TARGET, FULL, a, FULL, b, draws=400, seed=2)
    assert ratios.shape == (400,)
    assert np.median(ratios) == pytest.approx(np.log(2), abs=0.03)
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert low <= np.log(2) <= high
    assert high - low < 0.3


def test_ratios_are_reproducible_and_replicates_of_one_sweep_alone_are_resampled_too() -> None:
    a, b = results(RISING), results(RISING)[:60]

    def ratios(seed: int) -> np.ndarray:
        return paired_log_ratios(spec(), TARGET, FULL, a, FULL, b, draws=60, seed=seed)

    np.testing.assert_array_equal(ratios(1), ratios(1))
    assert not np.array_equal(ratios(1), ratios(2))
    assert ratios(1).std() > 0


@pytest.mark.parametrize("places", [(0, 1, 2), (2, 0, 1)])
def test_many_sweeps_are_resampled_together_where_they_share_replicates(places: tuple[int, ...]) -> None:
    twice = results({2 * k: count for k, count in RISING.items()})
    sweeps = [results(RISING), twice, results(RISING)[:60]]
    drawn = bootstrap_log_thresholds(spec(), TARGET, [(FULL, sweeps[place]) for place in places], draws=300, seed=3)
    by_sweep = dict(zip(places, drawn, strict=True))
    paired, alone = by_sweep[1] - by_sweep[0], by_sweep[1] - by_sweep[2]
    assert np.median(paired) == pytest.approx(np.log(2), abs=0.03)
    assert paired.std() < 0.2 * alone.std()  # the same replicates in both, against forty that one of them has not
    assert not np.isnan(np.stack(drawn)).any()


def test_a_sweep_without_observations_has_no_ratio() -> None:
    ratios = paired_log_ratios(spec(), TARGET, FULL, results(RISING), FULL, [], draws=10, seed=1)
    assert np.isnan(ratios).all()


def test_beyond_the_range_the_ratio_is_a_bound() -> None:
    never = results({4096: (0, 30)})
    ratios = paired_log_ratios(spec(), TARGET, FULL, never, FULL, results(RISING), draws=50, seed=1)
    assert np.all(ratios <= np.log(4096 / 60))
    assert np.median(ratios) == pytest.approx(np.log(4096 / 100), abs=0.1)


def test_pairing_of_searched_sweeps() -> None:
    """Whole bisection sweeps whose replicates differ by a factor of 1.5, replicate by replicate."""
    offset = np.random.default_rng(5).normal(0, 0.15, size=500)
    asked = task(design="bisection")
    sweeps = [
        play(asked, 1, 4096, lambda trial, scale=scale: bool(trial.k >= scale * np.exp(offset[trial.replicate])))[1]
        for scale in (300, 200)
    ]
    ratios = paired_log_ratios(asked.threshold, TARGET, FULL, sweeps[0], FULL, sweeps[1], draws=300, seed=4)
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert low <= np.log(1.5) <= high
