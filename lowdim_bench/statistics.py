"""How methods compare over tasks: rank intervals, performance profiles, win matrix, probability of improvement. Pure.

Everything starts from bootstrap draws of ln k* (`threshold.bootstrap_log_thresholds`), one row a draw, in which all methods
of a task see the same resampled replicates. A threshold that was not found is never a number here: it is `Unsolved`, with
the reason, and every summary counts it as not solved and says so.

Rules, each written down once, here:

- A rank is one more than how many methods are strictly better; ties share it.
- A rank interval holds the middle 95 % of the ranks that a method takes over the draws.
- An unfinished sweep has no rank. The rank that it would have if it were stopped now is one more than how many ranked methods
  have a k* below its estimate so far; its ends count those with a k* below the ends of its interval, and where an end is not
  known, all of them or none.
- Two methods are compared on one task by draws of the ratio of their k*, whose median and middle 95 % are shown. In each
  draw both see the same resample of the seeds that they share.
- Over all tasks a method's ratio to the random subspace is the geometric mean over the tasks where both thresholds are found.
  It is ranked among those that have a threshold on every task where the random subspace has one.
- A method's ratio on a task is its k* over the smallest k* found on that task; unsolved tasks have no ratio.
- The performance profile (Dolan & Moré 2002, arXiv cs/0102001) at a factor tau is the share of all tasks of the board on which
  the ratio is at most tau; unsolved tasks stay in the denominator. Its area is the mean of the profile over ln tau from 0 to
  ln `WIDEST_RATIO`, so that it lies between 0 and 1.
- One method wins against another on a task in the share of draws in which its k* is smaller, ties counting half. A found
  threshold wins against one above the range; two unsolved ones, and an unfinished or missing one, are not compared. The
  probability of improvement (Agarwal et al. 2021, arXiv 2108.13264) is the mean of that over the tasks that are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Unsolved = Literal["above_range", "unfinished", "not_run"]
"""above_range: k* exceeds the largest k allowed. unfinished: the sweep failed, or its interval is still too wide. not_run:
there is no such sweep."""
Result = FloatArray | Unsolved
"""Bootstrap draws of ln k* (draws,), or why there are none."""
Results = Mapping[str, Mapping[str, Result]]
"""By task, then by method. A method that is absent from a task was not run on it."""

WIDEST_RATIO = 16.0
"""Where performance profiles end: four octaves from the best."""
_INTERVAL = (0.025, 0.975)


@dataclass(frozen=True)
class RankInterval:
    """The ranks that a method takes among the solved ones of its task, in the middle 95 % of the draws."""

    low: int
    high: int


@dataclass(frozen=True)
class Profile:
    """The performance profile of one method."""

    tau: tuple[float, ...]
    share: tuple[float, ...]
    """Of all tasks, those on which the method needs at most tau times the fewest k."""
    area: float
    solved: int
    unsolved: Mapping[Unsolved, int]
    """How many tasks it is not solved on, by reason."""


@dataclass(frozen=True)
class Comparison:
    """One method against another."""

    probability: float | None
    """That it needs fewer k, over the tasks compared; None without one."""
    tasks: int


def rank_intervals(results: Mapping[str, Result]) -> dict[str, RankInterval]:
    """By method, of one task: only solved ones have ranks."""
    names = [name for name, result in results.items() if not isinstance(result, str)]
    if not names:
        return {}
    draws = np.stack([np.asarray(results[name]) for name in names])
    ranks = 1 + (draws[None, :, :] < draws[:, None, :]).sum(axis=1)
    low, high = np.quantile(ranks, _INTERVAL, axis=1, method="inverted_cdf")
    return {name: RankInterval(int(low[row]), int(high[row])) for row, name in enumerate(names)}


def rank_if_stopped(
    ranked: Sequence[float], k_star: float, low: float | None, high: float | None
) -> tuple[int, int, int]:
    """(rank, its lowest, its highest) of an unfinished sweep among the k* of the ranked ones."""

    def place(k: float) -> int:
        return 1 + sum(other < k for other in ranked)

    return place(k_star), place(low if low is not None else 0.0), place(high if high is not None else math.inf)


def ratio(one: FloatArray, other: FloatArray) -> tuple[float, float, float, float]:
    """k* of the other over k* of the one, from draws of ln k* (draws,) of both: its median and the ends of its 95 % interval;
    and the probability that the one needs fewer."""
    low, middle, high = np.exp(np.quantile(other - one, [_INTERVAL[0], 0.5, _INTERVAL[1]]))
    return float(middle), float(low), float(high), _share(one, other)


def profiles(results: Results, thresholds: Mapping[str, Mapping[str, float]], points: int = 65) -> dict[str, Profile]:
    """The performance profile of every method; `thresholds` are the estimates of k* themselves, by task and method."""
    tau = np.exp(np.linspace(0.0, math.log(WIDEST_RATIO), points))
    return {method: _profile(method, results, thresholds, tau) for method in methods_of(results)}


def _profile(method: str, results: Results, thresholds: Mapping[str, Mapping[str, float]], tau: FloatArray) -> Profile:
    unsolved: dict[Unsolved, int] = {}
    ratios: list[float] = []
    for task, by_method in results.items():
        result = by_method.get(method, "not_run")
        if isinstance(result, str):
            unsolved[result] = unsolved.get(result, 0) + 1
        else:
            found = [thresholds[task][name] for name, other in by_method.items() if not isinstance(other, str)]
            ratios.append(thresholds[task][method] / min(found))
    share = (np.asarray(ratios)[:, None] <= tau * (1 + 1e-12)).sum(axis=0) / len(results)
    # A step function, integrated exactly: each ratio adds from where it lies up to the end.
    reach = [max(0.0, 1 - math.log(ratio) / math.log(WIDEST_RATIO)) for ratio in ratios]
    return Profile(tuple(tau.tolist()), tuple(share.tolist()), sum(reach) / len(results), len(ratios), unsolved)


def win_matrix(results: Results) -> dict[str, dict[str, Comparison]]:
    """Every method against every other one: `win_matrix(...)[a][b]` is a against b."""
    names = methods_of(results)
    return {a: {b: compare(results, a, b) for b in names if b != a} for a in names}


def compare(results: Results, method: str, other: str) -> Comparison:
    """The probability of improvement of one method over another."""
    wins = [
        probability
        for by_method in results.values()
        if (probability := _win(by_method.get(method, "not_run"), by_method.get(other, "not_run"))) is not None
    ]
    return Comparison(float(np.mean(wins)) if wins else None, len(wins))


def _win(one: Result, other: Result) -> float | None:
    if isinstance(one, str) and isinstance(other, str):
        return None
    if isinstance(one, str):
        return 0.0 if one == "above_range" else None
    if isinstance(other, str):
        return 1.0 if other == "above_range" else None
    return _share(one, other)


def _share(one: FloatArray, other: FloatArray) -> float:
    return float(np.mean((one < other) + 0.5 * (one == other)))


def methods_of(results: Results) -> Sequence[str]:
    """All methods of a board, by name."""
    return sorted({method for by_method in results.values() for method in by_method})
