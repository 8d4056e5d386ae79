"""The model-free design, for methods whose subspaces are nested in k within a replicate.

There each replicate has a sharp threshold of its own, the smallest k at which it reaches, and P(k) is the share of replicates
whose threshold is at most k. A replicate bisects its threshold to a bracket (failed, reached]; k* is the level-quantile of
these thresholds, and its interval is that of order statistics (binomial; David & Nagaraja 2003, section 7.1), taken from the
outer ends of the brackets, so that it holds for any distribution and any state of the bisection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, floor, log, sqrt

import numpy as np
from scipy.special import bdtr

from lowdim_bench.records import TrialResult
from lowdim_bench.specs import ThresholdSpec
from lowdim_bench.threshold.counts import FloatArray, observed

ROUGH = 3.0
"""While one standard error of the quantile on each side spans more than this power of the precision, look everywhere."""
CUT_LATTICE, CUT_DISTANCE = 0.25, 0.49
"""Spacing of possible cuts, and distance of the two cuts from the estimate, as powers of the precision."""
CELLS = 64
SELF_CONSISTENCY_STEPS = 10


@dataclass(frozen=True)
class Bracket:
    """The threshold of one replicate lies in failed < threshold <= reached.

    `failed` is k_low - 1 where nothing failed, `reached` is k_high + 1 where nothing reached: the threshold may then lie
    beyond the range.
    """

    replicate: int
    failed: int
    reached: int

    @property
    def width(self) -> float:
        """In ln k; 0 where the threshold is known exactly."""
        return log(self.reached / (self.failed + 1))

    def open_cuts(self, cuts: Sequence[int]) -> list[int]:
        """Those k at which it is open whether this replicate reaches."""
        return [cut for cut in cuts if self.failed < cut < self.reached]


def brackets(target: str, k_low: int, k_high: int, results: Sequence[TrialResult]) -> list[Bracket]:
    """One bracket for each replicate with an observation, by replicate.

    Where a replicate failed above a k that it reached, its threshold is the first rise: `failed` is the largest k below.
    """
    own: dict[int, list[tuple[int, bool]]] = {}
    for result in observed(results):
        own.setdefault(result.trial.replicate, []).append((result.trial.k, result.reached(target)))
    found = []
    for replicate, trials in own.items():
        reached = min((max(k, k_low) for k, hit in trials if hit and k <= k_high), default=k_high + 1)
        failed = max((k for k, hit in trials if not hit and k_low <= k < reached), default=k_low - 1)
        found.append(Bracket(replicate, failed, reached))
    return found


@dataclass(frozen=True)
class QuantileInterval:
    """The level-quantile of the thresholds with its 95 % interval: low - 1 < quantile <= high.

    `low` = k_low leaves open that the quantile lies below the range; `high` = k_high + 1 that it lies above it.
    """

    low: int
    quantile: float
    high: int


def quantile_interval(level: float, k_low: int, k_high: int, found: Sequence[Bracket]) -> QuantileInterval:
    """Order statistics of the outer ends of the brackets; the quantile itself is that of `Shares`."""
    n = len(found)
    middle = exp(float(Shares.of(found, k_low, k_high).quantiles(np.array([level]))[0]))
    below = bdtr(np.arange(n + 1), n, level)  # binomial probabilities of at most 0, 1, ..., n
    lower, upper = int(np.searchsorted(below, 0.025)), int(np.searchsorted(below, 0.975)) + 1
    failed, reached = sorted(item.failed for item in found), sorted(item.reached for item in found)
    low = failed[lower - 1] + 1 if lower >= 1 else k_low
    high = reached[upper - 1] if upper <= n else k_high + 1
    return QuantileInterval(low, min(max(middle, low), high), high)


def next_bisections(
    spec: ThresholdSpec, k_low: int, k_high: int, found: Sequence[Bracket], first_new: int, size: int
) -> list[tuple[int, int]]:
    """The next (k, replicate), at most one for each replicate, `size` in all; new replicates count from `first_new`.

    While k* is roughly known, the round is spread over where thresholds may lie. Then all that matters is on which side of
    two cuts, a little less than `precision` apart, each replicate's threshold lies: the interval will rest on these
    counts. Replicates for which that is open come first, the widest bracket before the others; then new replicates.
    """
    shares, level = Shares.of(found, k_low, k_high), spec.success_probability
    error = sqrt(level * (1 - level) / max(len(found), 1))
    low, centre, high = shares.quantiles(np.clip([level - error, level, level + error], 0.0, 1.0)).tolist()
    cuts = _cuts(spec, k_low, k_high, centre)
    rough = high - low > ROUGH * log(spec.precision)
    opened = [item for item in found if item.width > log(spec.precision) / 4]
    opened = [item for item in opened if item.reached - item.failed > 1 and (rough or item.open_cuts(cuts))]
    opened = sorted(opened, key=lambda item: (-item.width, item.replicate))[:size]
    opened += [Bracket(first_new + i, k_low - 1, k_high + 1) for i in range(size - len(opened))]
    if not rough:
        return [(_at_cut(item, cuts), item.replicate) for item in opened]
    # Low brackets take low quantiles, so that few have to be moved into their bracket.
    opened.sort(key=lambda item: (item.failed + item.reached, item.replicate))
    spread = np.exp(shares.quantiles((np.arange(size) + 0.5) / size)).tolist()
    return [
        (min(max(round(k), item.failed + 1), item.reached - 1), item.replicate)
        for item, k in zip(opened, spread, strict=True)
    ]


def _cuts(spec: ThresholdSpec, k_low: int, k_high: int, centre: float) -> tuple[int, int]:
    """k on both sides of the estimate (in ln k), from a lattice, so that a small move of the estimate moves no cut."""
    step, half = CUT_LATTICE * log(spec.precision), CUT_DISTANCE * log(spec.precision)
    middle = log(k_low) + step * round((centre - log(k_low)) / step)
    right = min(max(floor(exp(middle + half)), ceil(exp(centre)), k_low + 1), k_high)
    left = max(min(ceil(exp(middle - half)), right - 1), k_low)
    return left, right


def _at_cut(item: Bracket, cuts: tuple[int, int]) -> int:
    """One of the cuts that are open; replicates take turns at the two."""
    inside = item.open_cuts(cuts)
    return inside[item.replicate % len(inside)]


@dataclass(frozen=True)
class Shares:
    """The distribution of thresholds over replicates: cells with `edges` in ln k, shape (c + 1,), and `claims`, of shape
    (replicates, c), whose rows sum to 1: where the threshold of each replicate lies.

    This is Turnbull's (1976, JRSS B 38:290) self-consistent estimate from interval-censored data, from a log-uniform start
    and stopped early: more steps would push all mass into the narrowest overlaps of brackets.
    """

    edges: FloatArray
    claims: FloatArray

    @classmethod
    def of(cls, found: Sequence[Bracket], k_low: int, k_high: int) -> Shares:
        # An integer threshold t is spread over (t - 1/2, t - 1/4): its ceiling is t, and neighbours do not touch.
        low = np.log(np.array([k_low - 0.5, *(item.failed + 0.5 for item in found)]))
        high = np.log(np.array([k_high + 0.75, *(item.reached - 0.25 for item in found)]))
        edges = np.unique(np.concatenate([low, high, np.linspace(low[0], high[0], CELLS + 1)]))
        if not found:
            low, high = np.append(low, low), np.append(high, high)
        inside = (edges[:-1] >= low[1:, None]) & (edges[1:] <= high[1:, None])
        claims = inside * np.diff(edges)
        claims /= claims.sum(axis=1, keepdims=True)
        for _ in range(SELF_CONSISTENCY_STEPS):
            claims = inside * claims.mean(axis=0)
            claims /= claims.sum(axis=1, keepdims=True)
        return cls(edges, claims)

    def quantiles(self, q: FloatArray) -> FloatArray:
        """The ln k below which a share q of the replicates lies; shape of q."""
        return np.interp(q, np.concatenate([[0.0], np.cumsum(self.claims.mean(axis=0))]), self.edges)
