"""The success probability P(k) with its 95 % band, for figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv

from lowdim_bench.records import TrialResult
from lowdim_bench.specs import ThresholdSpec
from lowdim_bench.threshold.bisection import Bracket
from lowdim_bench.threshold.counts import Counts, FloatArray, IntArray
from lowdim_bench.threshold.estimation import TAIL, assess
from lowdim_bench.threshold.psychometric import Posterior, posterior

DRAWS = 1000


def success_curve(
    spec: ThresholdSpec,
    target: str,
    k_low: int,
    k_high: int,
    results: Sequence[TrialResult],
    ks: Sequence[int] | IntArray,
) -> FloatArray:
    """Mean of P(k) and its pointwise 95 % band at each k: shape (len(ks), 3), columns mean, low, high.

    From the posterior in the Bayesian design. In the bisection design, the share of replicates whose threshold is at most k,
    with binomial bands. Where success is not monotone, from the trials within a factor of `precision` around each k.
    """
    at = np.asarray(ks, dtype=np.float64)
    assessment = assess(spec, target, k_low, k_high, results)
    if not assessment.estimate.monotone:
        return _local(spec, assessment.rates, at)
    if assessment.found is not None:
        return _of_brackets(assessment.found, at)
    belief = assessment.belief or posterior(spec, k_low, k_high, assessment.rates)
    return _of_posterior(belief, at)


def _of_posterior(belief: Posterior, at: FloatArray) -> FloatArray:
    """From states drawn from the posterior at evenly spaced shares of its mass, without randomness."""
    ticks = (np.arange(DRAWS) + 0.5) / DRAWS
    drawn = np.searchsorted(np.cumsum(belief.weight.ravel()), ticks * belief.weight.sum())
    row, column = np.divmod(np.minimum(drawn, belief.weight.size - 1), belief.weight.shape[1])
    order = np.argsort(column, kind="stable")
    shapes = belief.shapes.take(column[order])
    success = shapes.success(np.log(at)[:, None] - belief.location[row[order]])
    return np.column_stack([success.mean(axis=1), np.quantile(success, [TAIL, 1 - TAIL], axis=1).T])


def _of_brackets(found: Sequence[Bracket], at: FloatArray) -> FloatArray:
    """Surely below k: reached at most k. Surely above: failed at least k. The others are open."""
    failed, reached = (np.array([getattr(item, name) for item in found])[:, None] for name in ("failed", "reached"))
    sure, possible = (reached <= at).sum(axis=0), (failed < at).sum(axis=0)
    n = len(found)
    low = np.where(sure > 0, betaincinv(np.maximum(sure, 1), n - sure + 1, TAIL), 0.0)
    high = np.where(possible < n, betaincinv(possible + 1, np.maximum(n - possible, 1), 1 - TAIL), 1.0)
    return np.column_stack([(sure + possible) / (2 * n) if n else np.full(at.shape, 0.5), low, high])


def _local(spec: ThresholdSpec, rates: Counts, at: FloatArray) -> FloatArray:
    """Jeffreys' mean and interval of the counts around each k; wide where there are none."""
    near = [rates.between(k / spec.precision, k * spec.precision) for k in at.tolist()]
    hits, trials = np.array(near, dtype=np.float64).reshape(-1, 2).T
    a, b = hits + 0.5, trials - hits + 0.5
    return np.column_stack([a / (a + b), betaincinv(a, b, TAIL), betaincinv(a, b, 1 - TAIL)])
