"""Does success fall again as k grows? A likelihood-ratio test, and where the first rise ends.

Null hypothesis: P(k) never decreases. Alternative: it falls once, between two neighbouring groups of k, and never
decreases on either side. Both are fitted by isotonic regression (Barlow et al. 1972); the p-value is that of a seeded
parametric bootstrap from the null fit. Where the observed ratio is small the bootstrap is left out and p is 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

from lowdim_bench.seeds import derive
from lowdim_bench.threshold.counts import Counts, FloatArray, IntArray

SIGNIFICANT = 0.01
SUSPICIOUS = 0.1
"""Below this p-value the planner spends half a round on finding out."""
GROUP_TRIALS = 4
GROUPS = 12
BOOTSTRAPS = 999
LEAST_GAIN = 2.0
"""Gains of log-likelihood below this are never significant: no bootstrap is spent on them."""


@dataclass(frozen=True)
class Monotonicity:
    """Result of the test; `peak` is the largest k on the first rise, the last before the most likely fall."""

    p_value: float
    peak: int | None = None

    @property
    def rejected(self) -> bool:
        return self.p_value < SIGNIFICANT

    @property
    def suspicious(self) -> bool:
        return self.p_value < SUSPICIOUS

    @property
    def suspected_peak(self) -> int | None:
        return self.peak if self.suspicious else None


def check(counts: Counts) -> Monotonicity:
    """Test the counts for a fall of the success probability."""
    last, hits, trials = _groups(counts)
    if trials.size < 2:
        return Monotonicity(1.0)
    gains = _gains(hits[None].astype(np.float64), trials)[0]
    where, gain = int(np.argmax(gains)), float(gains.max())
    if gain < LEAST_GAIN:
        return Monotonicity(1.0)
    null = np.clip(_isotonic(hits[None].astype(np.float64), trials)[0], 0.0, 1.0)
    seed = derive("monotonicity", *counts.k.tolist(), *counts.hits.tolist(), *counts.trials.tolist())
    drawn = np.random.default_rng(seed).binomial(trials, null, size=(BOOTSTRAPS, trials.size)).astype(np.float64)
    as_large = int((_gains(drawn, trials).max(axis=1) >= gain - 1e-9).sum())
    return Monotonicity((1 + as_large) / (1 + BOOTSTRAPS), peak=int(last[where]))


def _groups(counts: Counts) -> tuple[IntArray, IntArray, IntArray]:
    """Neighbouring k pooled until each group has enough trials: its largest k, its hits, its trials; shapes (g,).

    The groups depend on where trials were made, not on how they ended.
    """
    enough = max(GROUP_TRIALS, -(-counts.total_trials // GROUPS))
    ends: list[int] = []
    gathered = 0
    for index, trials in enumerate(counts.trials.tolist()):
        gathered += trials
        if gathered >= enough:
            ends.append(index)
            gathered = 0
    if ends:
        ends[-1] = ends[-1] if gathered * 2 >= enough else counts.k.size - 1
    if not ends or ends[-1] < counts.k.size - 1:
        ends.append(counts.k.size - 1)
    if not counts.k.size:
        return counts.k, counts.hits, counts.trials
    starts = [0, *(end + 1 for end in ends[:-1])]
    return counts.k[ends], np.add.reduceat(counts.hits, starts), np.add.reduceat(counts.trials, starts)


def _gains(hits: FloatArray, trials: IntArray) -> FloatArray:
    """Gain of log-likelihood by a fall after group 0, 1, ...: hits (b, g), trials (g,) -> (b, g - 1)."""
    whole = _log_likelihood(hits, trials)
    parts = [
        _log_likelihood(hits[:, :split], trials[:split]) + _log_likelihood(hits[:, split:], trials[split:])
        for split in range(1, trials.size)
    ]
    return np.stack(parts, axis=1) - whole[:, None]


def _log_likelihood(hits: FloatArray, trials: IntArray) -> FloatArray:
    """The largest binomial log-likelihood under a non-decreasing P, without its constant: (b, g), (g,) -> (b,)."""
    fit = _isotonic(hits, trials)
    return (xlogy(hits, fit) + xlogy(trials - hits, 1 - fit)).sum(axis=1)


def _isotonic(hits: FloatArray, trials: IntArray) -> FloatArray:
    """Isotonic regression by the max-min formula, many at once: (b, g), (g,) -> (b, g)."""
    groups = trials.size
    above = np.concatenate([np.zeros((hits.shape[0], 1)), np.cumsum(hits, axis=1)], axis=1)
    below = np.concatenate([[0], np.cumsum(trials)])
    fit = np.zeros_like(hits)
    for begin in range(groups):
        mean = (above[:, begin + 1 :] - above[:, begin, None]) / (below[begin + 1 :] - below[begin])
        least = np.minimum.accumulate(mean[:, ::-1], axis=1)[:, ::-1]
        np.maximum(fit[:, begin:], least, out=fit[:, begin:])
    return np.minimum(fit, 1.0)
