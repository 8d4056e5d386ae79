"""What the search has seen, as plain arrays: successes and trials at each training dimension k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lowdim_bench.records import TrialResult

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """Successes and trials at distinct k: three arrays of shape (m,), k strictly increasing, trials >= 1."""

    k: IntArray
    hits: IntArray
    trials: IntArray

    @property
    def total_hits(self) -> int:
        return int(self.hits.sum())

    @property
    def total_trials(self) -> int:
        return int(self.trials.sum())

    def between(self, low: float, high: float) -> tuple[int, int]:
        """(hits, trials) at low <= k <= high."""
        inside = (self.k >= low) & (self.k <= high)
        return int(self.hits[inside].sum()), int(self.trials[inside].sum())

    def up_to(self, k: int) -> Counts:
        """The part at or below k."""
        keep = self.k <= k
        return Counts(self.k[keep], self.hits[keep], self.trials[keep])


def observed(results: Sequence[TrialResult]) -> list[TrialResult]:
    """The results by replicate, then k: every sum over them has one order.

    A `diverged` or `failed` trial is one that did not reach: a method that does not get through has not reached the target,
    and failing can never lower a threshold.
    """
    return sorted(results, key=lambda result: (result.trial.replicate, result.trial.k, result.trial.round))


def first_of_each_replicate(results: Sequence[TrialResult]) -> list[TrialResult]:
    """The earliest observation of every replicate.

    Its k was chosen before anything was known about that replicate, so rates over these trials are free of the selection
    that bisection within a replicate brings: there, trials at large k are those of replicates that failed below.
    """
    first: dict[int, TrialResult] = {}
    for result in sorted(observed(results), key=lambda result: (result.trial.round, result.trial.k)):
        first.setdefault(result.trial.replicate, result)
    return [first[replicate] for replicate in sorted(first)]


def count(results: Sequence[TrialResult], target: str) -> Counts:
    """Counts of the observations, whatever their order."""
    seen = observed(results)
    ks = np.array([result.trial.k for result in seen], dtype=np.int64)
    reached = np.array([result.reached(target) for result in seen], dtype=np.int64)
    distinct, where = np.unique(ks, return_inverse=True)
    hits = np.bincount(where, weights=reached, minlength=distinct.size).astype(np.int64)
    trials = np.bincount(where, minlength=distinct.size).astype(np.int64)
    return Counts(distinct, hits, trials)
