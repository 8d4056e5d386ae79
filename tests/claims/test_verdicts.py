"""Verdicts follow from intervals alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lowdim_bench.claims.verdicts import Check, Verdict, difference, mean, median_difference, share, weakest


def check(low: float | None, high: float | None, above: float | None = None, below: float | None = None) -> Check:
    return Check(what="x", above=above, below=below, estimate=0.0, low=low, high=high, n=5, interval="anyone's")


@pytest.mark.parametrize(
    ("low", "high", "above", "below", "verdict"),
    [
        (0.1, 0.3, 0.0, None, "reproduced"),
        (-0.1, 0.3, 0.0, None, "undecided"),
        (-0.3, -0.1, 0.0, None, "contradicted"),
        (0.0, 0.0, 0.0, None, "contradicted"),  # no difference at all is no gain
        (-0.3, -0.1, None, 0.0, "reproduced"),
        (0.1, 0.3, None, 0.0, "contradicted"),
        (-0.3, 0.1, None, 0.0, "undecided"),
        (-0.5, 0.5, -1.0, 1.0, "reproduced"),
        (-2.0, 2.0, -1.0, 1.0, "undecided"),
        (1.0, 2.0, -1.0, 1.0, "contradicted"),
        (0.5, 2.0, -1.0, 1.0, "undecided"),
        (None, None, 0.0, None, "undecided"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(
    low: float | None, high: float | None, above: float | None, below: float | None, verdict: Verdict
) -> None:
    assert check(low, high, above, below).verdict == verdict


def test_the_weakest_check_decides_and_the_first_of_equals() -> None:
    good, open_, bad = check(1, 2, 0), check(-1, 2, 0), check(-2, -1, 0)
    assert weakest([good, open_, bad, open_]) is bad
    assert weakest([good, open_, good]) is open_
    assert weakest([good, check(1, 3, 0)]) is good


def test_means_have_students_intervals_and_pairs_are_compared_seed_by_seed() -> None:
    one, other = [0.5, 0.9, 0.4, 1.2], [0.8, 1.0, 0.9, 1.1]
    expected = stats.ttest_rel(one, other).confidence_interval()
    found = difference("one less other", one, other, below=0.0)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.estimate, found.n) == (pytest.approx(-0.2), 4)
    alone = stats.ttest_1samp(one, 0.0).confidence_interval()
    assert (mean("one", one).low, mean("one", one).high) == pytest.approx((alone.low, alone.high))


def test_a_number_that_is_missing_leaves_no_interval() -> None:
    """Or seeds that diverged would be dropped where that helps."""
    found = mean("x", [1.0, 1.1, math.nan, 0.9], above=0.0)
    assert (found.verdict, found.n, found.low) == ("undecided", 3, None)
    assert mean("x", [1.0], above=0.0).verdict == "undecided"
    with pytest.raises(ValueError, match="none of 2 numbers is finite"):
        mean("x", [math.nan, math.inf])


def test_medians_have_the_interval_of_order_statistics_whatever_gets_stuck() -> None:
    """n = 24: the 7th and the 18th (Conover 1999, section 3.2: coverage 0.977)."""
    gaps = np.arange(24.0)
    found = median_difference("x", np.random.default_rng(0).permutation(gaps).tolist(), [0.0] * 24)
    assert (found.low, found.high, found.estimate) == (6.0, 17.0, 11.5)
    stuck = np.where(gaps > 20, 1e9, gaps).tolist()
    assert median_difference("x", stuck, [0.0] * 24).high == 17.0
    assert median_difference("x", [*gaps[:23], math.nan], [0.0] * 24, above=-1.0).verdict == "undecided"
    assert median_difference("x", [1.0] * 5, [0.0] * 5, above=0.0).verdict == "undecided"  # five are too few
    with pytest.raises(ValueError, match="none of 2"):
        median_difference("x", [math.nan, math.inf], [0.0, 0.0])
    rng = np.random.default_rng(1)
    drawn = [median_difference("x", rng.exponential(size=15).tolist(), [0.0] * 15) for _ in range(1500)]
    covered = [one.low < math.log(2) < one.high for one in drawn if one.low is not None and one.high is not None]
    assert 0.945 < np.mean(covered) < 0.98


def test_shares_have_exact_intervals() -> None:
    found = share("x", 9, 10, above=0.5)
    exact = stats.binomtest(9, 10).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    assert found.verdict == "reproduced"
    assert share("x", 10, 10, above=0.9).verdict == "undecided"  # ten of ten may be by chance
    with pytest.raises(ValueError, match="no share"):
        share("x", 3, 2)
    with pytest.raises(ValueError, match="no share"):
        share("x", 0, 0)


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = [check.low < 0.3 < check.high for check in (mean("x", rng.normal(0.3, 1, 6).tolist()) for _ in range(2000))
               if check.low is not None and check.high is not None]  # fmt: skip
    assert 0.93 < np.mean(covered) < 0.97
