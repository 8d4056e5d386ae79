"""The model-free design: brackets, their order statistics, and where they are cut next."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from lowdim_bench.threshold.bisection import Bracket, Shares, brackets, next_bisections, quantile_interval
from tests.threshold.made_up import TARGET, result, spec


def exact(thresholds: list[int]) -> list[Bracket]:
    return [Bracket(replicate, threshold - 1, threshold) for replicate, threshold in enumerate(thresholds)]


def test_brackets_hold_the_threshold_of_each_replicate() -> None:
    seen = [result(10, 0, False), result(40, 0, True), result(20, 0, False), result(5, 1, False), result(64, 2, True)]
    assert brackets(TARGET, 2, 64, seen) == [Bracket(0, 20, 40), Bracket(1, 5, 65), Bracket(2, 1, 64)]


def test_a_failure_above_a_success_leaves_the_first_rise() -> None:
    seen = [result(10, 0, False), result(20, 0, True), result(40, 0, False)]
    assert brackets(TARGET, 1, 64, seen) == [Bracket(0, 10, 20)]


def test_order_statistics_of_twenty_thresholds() -> None:
    """For the median of 20 the sixth and the fifteenth: 95.9 % (any table of the sign test)."""
    interval = quantile_interval(0.5, 1, 4096, exact(list(range(101, 121))))
    assert (interval.low, interval.high) == (106, 115)
    assert binom.cdf(5, 20, 0.5) < 0.025 < binom.cdf(6, 20, 0.5)
    assert 109 < interval.quantile <= 111


def test_five_thresholds_bound_no_median() -> None:
    interval = quantile_interval(0.5, 1, 4096, exact([100] * 5))
    assert (interval.low, interval.high) == (1, 4097)


def test_wide_brackets_count_by_their_outer_ends() -> None:
    interval = quantile_interval(0.5, 1, 4096, [Bracket(i, 99, 140) for i in range(12)])
    assert (interval.low, interval.high) == (100, 140)
    assert 100 <= interval.quantile <= 140


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_interval_covers_the_quantile(level: float) -> None:
    rng, hits, sweeps = np.random.default_rng(3), 0, 300
    truth = 500 * np.exp(0.2 * np.log(level / (1 - level)))
    for _ in range(sweeps):
        thresholds = np.ceil(500 * np.exp(0.2 * rng.logistic(size=40))).astype(int).tolist()
        interval = quantile_interval(level, 1, 100_000, exact(thresholds))
        hits += interval.low <= np.ceil(truth) <= interval.high
    assert hits / sweeps >= 0.93


def test_shares_are_a_distribution() -> None:
    found = [Bracket(0, 0, 4097), Bracket(1, 99, 140), Bracket(2, 4096, 4097), Bracket(3, 0, 1), Bracket(4, 119, 120)]
    shares = Shares.of(found, 1, 4096)
    np.testing.assert_allclose(shares.claims.sum(axis=1), 1)
    assert np.all(np.diff(shares.edges) > 0)
    low, high = np.exp(shares.quantiles(np.array([0.0, 1.0])))
    assert low <= 1
    assert high >= 4096


def test_a_cut_is_a_new_k_inside_the_bracket() -> None:
    found = [Bracket(0, 0, 4097), Bracket(1, 99, 140), Bracket(2, 120, 121), Bracket(3, 99, 104)]
    asked = next_bisections(spec(design="bisection"), 1, 4096, found, 4, 6)
    by_replicate = {replicate: k for k, replicate in asked}
    assert len(by_replicate) == len(asked) == 6
    assert 2 not in by_replicate
    for item in found[:2]:
        if item.replicate in by_replicate:
            assert item.failed < by_replicate[item.replicate] < item.reached


def test_once_the_estimate_is_known_two_cuts_are_asked_for() -> None:
    found = [Bracket(i, 95 + i, 97 + i) for i in range(12)]
    asked = next_bisections(spec(design="bisection"), 1, 4096, found, 12, 8)
    ks = sorted({k for k, _ in asked})
    assert len(ks) == 2
    assert ks[0] < 101 < ks[1]
    assert ks[1] / ks[0] < 1.2
    assert [replicate for _, replicate in asked] == list(range(12, 20))
