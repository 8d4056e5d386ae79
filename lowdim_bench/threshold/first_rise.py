"""The threshold where success is not monotone in k: a bracket around the first rise, from local counts alone.

No curve is fitted. On the first rise, from `k_low` up to its `peak`, success is taken to grow with k, so that the trials just
below a k that reached often enough show P(k) >= level, and those just above a k that reached too seldom show P(k) < level.
"Just" is a factor of sqrt(precision); "show" is an exact one-sided binomial test at 2.5 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from scipy.stats import binom

from lowdim_bench.specs import ThresholdSpec
from lowdim_bench.threshold.counts import Counts
from lowdim_bench.threshold.information import most_informative
from lowdim_bench.threshold.psychometric import posterior

ERROR = 0.025


@dataclass(frozen=True)
class RiseBracket:
    """Evidence on the first rise: the largest k shown below the level and the smallest k shown at or above it."""

    below: int | None
    reached: int | None


def bracket_first_rise(spec: ThresholdSpec, counts: Counts, peak: int) -> RiseBracket:
    """What the counts up to `peak` show."""
    rise, near, level = counts.up_to(peak), sqrt(spec.precision) * (1 - 1e-12), spec.success_probability
    reached = None
    for k in rise.k.tolist():
        hits, trials = rise.between(k / near, k)
        if binom.sf(hits - 1, trials, level) <= ERROR:
            reached = k
            break
    below = None
    for k in reversed(rise.k.tolist()):
        hits, trials = rise.between(k, k * near)
        if (reached is None or k < reached) and binom.cdf(hits, trials, level) <= ERROR:
            below = k
            break
    return RiseBracket(below, reached)


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
