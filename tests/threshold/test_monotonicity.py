"""Success that falls again: detected where it is there, seldom where it is not, and then bracketed by counts."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from lowdim_bench.threshold import estimate
from lowdim_bench.threshold.counts import Counts, count
from lowdim_bench.threshold.first_rise import RiseBracket, bracket_first_rise
from lowdim_bench.threshold.monotonicity import _isotonic, check
from tests.threshold.made_up import TARGET, results, spec

LOGS = {8: (0, 5), 32: (0, 5), 128: (4, 5), 512: (0, 5), 1024: (0, 5), 2048: (0, 5)}
"""Seeds that reached train loss 0.05 in the public logs of lottery subspaces."""


def counts(seen: dict[int, tuple[int, int]]) -> Counts:
    return count(results(seen), TARGET)


def test_the_public_logs_are_not_monotone() -> None:
    found = check(counts(LOGS))
    assert found.rejected
    assert found.peak == 128
    assert found.p_value < 0.005


def test_the_public_logs_are_not_fitted() -> None:
    stop = estimate(spec(), TARGET, 1, 4096, results(LOGS))
    assert not stop.monotone
    assert (stop.status, stop.low, stop.k_star, stop.high) == ("unfinished", 9, None, None)
    assert "4 of 15 trials reached at k <= 128, 0 of 15 above" in stop.note


def test_the_first_rise_is_bracketed_once_counts_show_it() -> None:
    seen = LOGS | {32: (0, 5), 116: (0, 8), 128: (12, 13)}
    stop = estimate(spec(), TARGET, 1, 4096, results(seen))
    assert not stop.monotone
    assert (stop.status, stop.low, stop.k_star, stop.high) == ("found", 117, 128, 128)


def test_a_rise_that_starts_at_the_smallest_k() -> None:
    stop = estimate(spec(), TARGET, 8, 4096, results({8: (8, 8), 32: (0, 8), 128: (0, 8)}))
    assert (stop.status, stop.monotone, stop.high) == ("below_range", False, 8)


def test_windows_of_the_bracket_gather_eight_trials() -> None:
    """0 of 5 shows nothing at 2.5 %, 0 of 10 does; the trials lie at and above the k that they speak for."""
    assert bracket_first_rise(spec(), counts(LOGS), 128) == RiseBracket(below=8, reached=None)
    assert bracket_first_rise(spec(), counts({8: (0, 5)}), 128) == RiseBracket(below=None, reached=None)
    assert bracket_first_rise(spec(), counts({8: (0, 8), 32: (8, 8)}), 128) == RiseBracket(below=8, reached=32)


@pytest.mark.parametrize(
    "seen",
    [
        {},
        {64: (3, 9)},
        {8: (0, 5), 32: (0, 5), 128: (2, 5), 512: (5, 5)},
        {8: (0, 5), 32: (1, 5), 128: (2, 5), 512: (1, 5), 1024: (3, 5), 2048: (5, 5)},
        {8: (5, 5), 32: (5, 5)},
        {k: (int(k > 100), 1) for k in (1, 3, 11, 35, 116, 380, 1248, 4096)},
        {k: (int(k in {116, 1248, 4096}), 1) for k in (1, 3, 11, 35, 116, 380, 1248, 4096)},
    ],
)
def test_ordinary_data_are_monotone(seen: dict[int, tuple[int, int]]) -> None:
    assert not check(counts(seen)).suspicious


def test_isotonic_regression_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    trials = rng.integers(1, 9, size=7)
    hits = rng.binomial(trials, 0.5, size=(20, 7)).astype(float)
    for got, row in zip(_isotonic(hits, trials), hits, strict=True):
        expected = IsotonicRegression().fit_transform(np.arange(7), row / trials, sample_weight=trials)
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_false_alarms_are_rare_on_a_rising_curve() -> None:
    rng, k = np.random.default_rng(1), np.arange(1, 25)
    success = 1 / (1 + np.exp(-np.linspace(-3, 3, k.size)))
    alarms = sum(check(Counts(k, rng.binomial(2, success), np.full(k.size, 2))).rejected for _ in range(300))
    assert alarms <= 6


def test_false_alarms_are_few_even_on_a_flat_curve() -> None:
    """The least favourable null: every k succeeds equally often."""
    rng, k = np.random.default_rng(2), np.arange(1, 9)
    alarms = sum(check(Counts(k, rng.binomial(5, 0.5, size=8), np.full(8, 5))).rejected for _ in range(300))
    assert alarms <= 10


def test_the_test_is_reproducible() -> None:
    assert check(counts(LOGS)) == check(counts(dict(reversed(LOGS.items()))))
