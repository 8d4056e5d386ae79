"""Comparisons over tasks, by hand-computed cases and by properties that must hold whatever the draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowdim_bench.statistics import (
    WIDEST_RATIO,
    Comparison,
    RankInterval,
    Result,
    compare,
    profiles,
    rank_if_stopped,
    rank_intervals,
    ratio,
    win_matrix,
)


def logs(*ks: float) -> np.ndarray:
    return np.log(np.array(ks, dtype=float))


GOLDEN: dict[str, dict[str, Result]] = {
    # a and b tie in half of the draws, c lies above the range
    "one": {"a": logs(10, 10, 10, 10), "b": logs(10, 10, 20, 20), "c": "above_range"},
    # b is best, a needs four times as many, c was not finished
    "two": {"a": logs(40, 40, 40, 40), "b": logs(10, 10, 10, 10), "c": "unfinished"},
    # only c was run
    "three": {"c": logs(5, 5, 5, 5)},
}
THRESHOLDS = {"one": {"a": 10.0, "b": 15.0}, "two": {"a": 40.0, "b": 10.0}, "three": {"c": 5.0}}


def test_ranks_share_ties_and_leave_out_what_is_not_solved() -> None:
    assert rank_intervals(GOLDEN["one"]) == {"a": RankInterval(1, 1), "b": RankInterval(1, 2)}
    assert rank_intervals(GOLDEN["two"]) == {"a": RankInterval(2, 2), "b": RankInterval(1, 1)}
    assert rank_intervals({"c": "above_range"}) == {}


def test_profiles_of_the_golden_board() -> None:
    by = profiles(GOLDEN, THRESHOLDS, points=5)  # tau = 1, 2, 4, 8, 16
    np.testing.assert_allclose(by["a"].tau, [1, 2, 4, 8, 16])
    np.testing.assert_allclose(by["a"].share, [1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    np.testing.assert_allclose(by["b"].share, [1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    np.testing.assert_allclose(by["c"].share, [1 / 3] * 5)
    assert by["a"].area == pytest.approx((1 + (1 - math.log(4) / math.log(16))) / 3)
    assert by["b"].area == pytest.approx((1 + (1 - math.log(1.5) / math.log(16))) / 3)
    assert by["c"].area == pytest.approx(1 / 3)
    assert (by["a"].solved, dict(by["a"].unsolved)) == (2, {"not_run": 1})
    assert (by["c"].solved, dict(by["c"].unsolved)) == (1, {"above_range": 1, "unfinished": 1})


def test_wins_of_the_golden_board() -> None:
    # On task one a wins in half of the draws and ties in the other half; on task two b always wins.
    assert compare(GOLDEN, "a", "b") == Comparison((0.75 + 0.0) / 2, 2)
    # c lies above the range on one, is unfinished on two, and alone on three: one comparison.
    assert compare(GOLDEN, "a", "c") == Comparison(1.0, 1)
    assert compare(GOLDEN, "c", "b") == Comparison(0.0, 1)
    assert compare({"three": {"c": logs(5)}}, "c", "a") == Comparison(None, 0)
    assert win_matrix(GOLDEN)["b"]["a"] == Comparison(1 - 0.375, 2)


draws = st.integers(1, 9).map(lambda n: np.random.default_rng(n).integers(1, 6, 40).astype(float))
results = st.dictionaries(
    st.sampled_from("abcde"), st.one_of(draws, st.sampled_from(["above_range", "unfinished"])), min_size=1
)


@given(results)
def test_ranks_lie_within_the_solved_ones_and_one_of_them_may_be_first(by_method: dict[str, Result]) -> None:
    ranks = rank_intervals(by_method)
    assert set(ranks) == {name for name, result in by_method.items() if not isinstance(result, str)}
    for rank in ranks.values():
        assert 1 <= rank.low <= rank.high <= len(ranks)
    assert not ranks or min(rank.low for rank in ranks.values()) == 1


@given(results, results)
def test_what_one_wins_the_other_loses(first: dict[str, Result], second: dict[str, Result]) -> None:
    board = {"first": first, "second": second}
    for a, row in win_matrix(board).items():
        for b, comparison in row.items():
            mirrored = compare(board, b, a)
            assert comparison.tasks == mirrored.tasks
            if comparison.probability is not None and mirrored.probability is not None:
                assert comparison.probability + mirrored.probability == pytest.approx(1.0)


@given(results)
def test_a_profile_never_falls_and_its_area_is_a_share(by_method: dict[str, Result]) -> None:
    found = {name: 2.0 + len(name) * ord(name) for name in by_method}
    for profile in profiles({"task": by_method}, {"task": found}).values():
        assert all(earlier <= later for earlier, later in zip(profile.share, profile.share[1:], strict=False))
        assert 0 <= profile.area <= 1
        assert profile.tau[-1] == pytest.approx(WIDEST_RATIO)
        assert profile.solved + sum(profile.unsolved.values()) == 1


@pytest.mark.parametrize(
    ("k_star", "low", "high", "expected"),
    [
        (150, 120, 250, (3, 3, 4)),  # two of the four need fewer, and one more at the upper end
        (150, None, None, (3, 1, 5)),  # an end that is not known leaves all open
        (100, 100, 100, (1, 1, 1)),  # a tie is shared
        (5, 5, 5, (1, 1, 1)),
    ],
)
def test_the_rank_of_what_is_stopped_now(
    k_star: float, low: float | None, high: float | None, expected: tuple[int, int, int]
) -> None:
    assert rank_if_stopped([100, 100, 200, 300], k_star, low, high) == expected


def test_the_ratio_of_two_methods() -> None:
    middle, low, high, probability = ratio(logs(10, 10, 10, 10), logs(20, 20, 20, 10))
    assert (middle, high, probability) == (pytest.approx(2), pytest.approx(2), 0.875)
    assert low == pytest.approx(
        math.exp(math.log(2) * 0.075)
    )  # 2.5 % of the way from the first draw of four to the second
    assert ratio(logs(20, 20), logs(10, 10))[0] == pytest.approx(0.5)
