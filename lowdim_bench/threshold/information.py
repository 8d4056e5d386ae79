"""Which training dimensions to try next: the batch whose outcomes, taken together, tell most about the location of k*.

This is the Psi method's expected information gain with the shape as a nuisance (Prins 2013, J. Vision 13(7):3), taken
jointly over a batch as in BatchBALD (Kirsch, van Amersfoort & Gal 2019): the batch grows greedily, each time by the k with
the largest mutual information between the location and *all* outcomes of the batch.
"""

from __future__ import annotations

from math import log

import numpy as np

from lowdim_bench.specs import ThresholdSpec
from lowdim_bench.threshold.counts import FloatArray, IntArray
from lowdim_bench.threshold.psychometric import Posterior, shapes_at

LOCATIONS = 32
"""Equally likely locations that stand for the posterior."""
HISTORIES = 32
"""Outcome sequences kept: all of them up to five trials, and as many drawn by weight beyond."""
DISTINCT = 16
"""At most so many choices by information in one batch; a larger batch runs through them again and again."""
FINE_CANDIDATES = 32
OUTER_CANDIDATES = 12


def candidates(spec: ThresholdSpec, k_low: int, k_high: int, belief: Posterior) -> IntArray:
    """Training dimensions worth a look, ascending: a few over the whole range, many where k* is likely.

    They lie on one lattice for the whole sweep, so that trials meet at the same k and counts add up.
    """
    step = min(0.05, log(spec.precision) / 6)
    low, high = belief.quantiles(np.array([0.01, 0.99])).tolist()
    begin, end = max(log(k_low), low - 0.5), min(log(k_high), high + 0.5)
    first, last = int(np.floor((begin - log(k_low)) / step)), int(np.ceil((end - log(k_low)) / step))
    stride = max(1, -(-(last - first) // FINE_CANDIDATES))
    inner = log(k_low) + step * np.arange(first - first % stride, last + stride, stride)
    outer = np.linspace(log(k_low), log(k_high), OUTER_CANDIDATES)
    ks = np.rint(np.exp(np.concatenate([inner, outer]))).astype(np.int64)
    return np.unique(np.clip(ks, k_low, k_high))


def most_informative(spec: ThresholdSpec, k_low: int, k_high: int, belief: Posterior, size: int) -> list[int]:
    """`size` training dimensions, in the order in which they were chosen, repeats allowed."""
    ks = candidates(spec, k_low, k_high, belief)
    success, weight = _states(spec, belief, ks)
    chosen: list[int] = []
    joint = weight[None]
    for _ in range(min(size, DISTINCT)):
        best = int(np.argmax(_information(joint, success)))
        chosen.append(int(ks[best]))
        joint = _keep(np.concatenate([joint * success[None, :, :, best], joint * (1 - success[None, :, :, best])]))
    return [chosen[i % len(chosen)] for i in range(size)]


def _states(spec: ThresholdSpec, belief: Posterior, ks: IntArray) -> tuple[FloatArray, FloatArray]:
    """P(success) of shape (locations, shapes, candidates) and the weight of each state, (locations, shapes), sum 1.

    Links are merged: they matter for the interval, hardly for where to look.
    """
    shapes = shapes_at(spec.success_probability, links=("logistic",))
    merged = belief.weight.reshape(belief.location.size, -1, shapes.slope.size).sum(axis=1)
    location = belief.quantiles((np.arange(LOCATIONS) + 0.5) / LOCATIONS)
    nearest = np.clip(np.searchsorted(belief.edges, location) - 1, 0, belief.location.size - 1)
    weight = merged[nearest] + 1e-300
    weight /= weight.sum(axis=1, keepdims=True) * LOCATIONS
    success = shapes.success((np.log(ks)[None, :] - location[:, None])[:, :, None])
    return np.ascontiguousarray(success.transpose(0, 2, 1)), weight


def _information(joint: FloatArray, success: FloatArray) -> FloatArray:
    """Mutual information in nats, up to a constant, between the location and the outcomes of the batch and one more trial.

    joint: P(outcomes so far, location, shape) of shape (o, x, s); success: (x, s, c). Returns shape (c,).
    """
    hit = np.matmul(joint.transpose(1, 0, 2), success)
    miss = joint.sum(axis=2).T[:, :, None] - hit
    gain = np.zeros(success.shape[2])
    for outcome in (hit, np.maximum(miss, 0.0)):
        gain += _xlogx(outcome).sum(axis=(0, 1)) - _xlogx(outcome.sum(axis=0)).sum(axis=0)
    return gain


def _xlogx(p: FloatArray) -> FloatArray:
    return p * np.log(p + 1e-300)


def _keep(joint: FloatArray) -> FloatArray:
    """At most `HISTORIES` outcome sequences, by systematic resampling without randomness."""
    if joint.shape[0] <= HISTORIES:
        return joint
    weight = joint.sum(axis=(1, 2))
    ticks = (np.arange(HISTORIES) + 0.5) / HISTORIES * weight.sum()
    drawn = np.minimum(np.searchsorted(np.cumsum(weight), ticks), weight.size - 1)
    return joint[drawn] / (weight[drawn] * HISTORIES)[:, None, None]
