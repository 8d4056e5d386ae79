"""The threshold where success is not monotone in k: a bracket around the first rise, from local counts alone.

No curve is fitted. On the first rise, from `k_low` up to its `peak`, success is taken to grow with k, so that trials at a k and
just below, if they reached often enough, show P(k) >= level, and trials at a k and just above, if they reached too seldom, show
P(k) < level. "Just" is a factor of sqrt(precision), or as far as it takes to gather eight trials; "show" is an exact one-sided
binomial test at 2.5 %. Which trials count for a k depends on where they were made, not on how they ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
from scipy.special import bdtr, bdtrc

from lowdim_bench.specs import ThresholdSpec
from lowdim_bench.threshold.counts import Counts
from lowdim_bench.threshold.information import most_informative
from lowdim_bench.threshold.psychometric import posterior

ERROR = 0.025
WINDOW_TRIALS = 8


@dataclass(frozen=True)
class RiseBracket:
    """Evidence on the first rise: the largest k shown below the level and the smallest k shown at or above it."""

    below: int | None
    reached: int | None


def bracket_first_rise(spec: ThresholdSpec, counts: Counts, peak: int) -> RiseBracket:
    """What the counts up to `peak` show."""
    rise, level = counts.up_to(peak), spec.success_probability
    ks = rise.k.tolist()
    reached = below = None
    for index, k in enumerate(ks):
        hits, trials = rise.between(_window_end(ks[index::-1], rise, k, spec.precision), k)
        if bdtrc(hits - 1, trials, level) <= ERROR:
            reached = k
            break
    for index, k in reversed(list(enumerate(ks))):
        hits, trials = rise.between(k, _window_end(ks[index:], rise, k, spec.precision))
        if (reached is None or k < reached) and bdtr(hits, trials, level) <= ERROR:
            below = k
            break
    return RiseBracket(below, reached)


def _window_end(path: list[int], rise: Counts, k: int, precision: float) -> int:
    """The last k of a window that begins at k = path[0] and goes along `path`, up or down."""
    end = k
    for step in path:
        near = abs(log(step / k)) < log(precision) / 2
        if not near and rise.between(min(k, end), max(k, end))[1] >= WINDOW_TRIALS:
            break
        end = step
    return end


def next_on_first_rise(spec: ThresholdSpec, k_low: int, peak: int, counts: Counts, size: int) -> list[int]:
    """`size` training dimensions that narrow the bracket.

    As long as the rise is only roughly known they are the most informative ones; then they lie on its two sides, `precision`
    apart, where counts can show what the bracket needs.
    """
    if k_low >= peak:
        return [peak] * size
    belief = posterior(spec, k_low, peak, counts.up_to(peak))
    low, middle, high = belief.quantiles(np.array([0.025, 0.5, 0.975])).tolist()
    if high - low > 2 * log(spec.precision):
        return most_informative(spec, k_low, peak, belief, size)
    aside = 0.45 * log(spec.precision)
    right = min(max(round(np.exp(middle + aside)), k_low + 1), peak)
    left = min(max(round(np.exp(middle - aside)), k_low), right - 1)
    return [(left, right)[i % 2] for i in range(size)]
