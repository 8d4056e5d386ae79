"""How much smaller is one method's k* than another's? A bootstrap over replicates, paired where both have trained the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from lowdim_bench.records import TrialResult
from lowdim_bench.seeds import derive
from lowdim_bench.specs import ThresholdSpec
from lowdim_bench.threshold.bisection import Shares, brackets
from lowdim_bench.threshold.counts import Counts, FloatArray, IntArray, count, observed
from lowdim_bench.threshold.estimation import assess
from lowdim_bench.threshold.psychometric import MARGIN, shapes_at

LOCATIONS = 160
BLOCK = 100
"""Draws refitted at a time: bounds the memory."""


@dataclass(frozen=True)
class _Sweep:
    """What a bootstrap needs of one sweep: a row for each replicate.

    Bayesian design: rows of log-likelihood over (location, shape), flattened, `log_prior` added once. Bisection
    design: rows of shares over cells in ln k, and `log_prior` is None. `edges` bound the cells or locations.
    """

    replicates: tuple[int, ...]
    rows: FloatArray
    edges: FloatArray
    log_prior: FloatArray | None
    level: float
    k_range: tuple[int, int]

    def log_thresholds(self, times: IntArray) -> FloatArray:
        """ln k* when each replicate counts `times` over: (draws, replicates) -> (draws,).

        As in the estimate k* is an integer. Where it lies beyond the range it is set to the end of the range, so that
        the ratio is then a bound.
        """
        blocks = [self._location(times[begin : begin + BLOCK]) for begin in range(0, len(times), BLOCK)]
        k_star = np.ceil(np.exp(np.concatenate(blocks)) * (1 - 1e-12))
        return np.log(np.clip(k_star, *self.k_range))

    def _location(self, times: IntArray) -> FloatArray:
        mass, share = times @ self.rows, self.level
        if self.log_prior is not None:
            mass += self.log_prior
            mass = np.exp(mass - mass.max(axis=1, keepdims=True))
            mass, share = mass.reshape(len(mass), self.edges.size - 1, -1).sum(axis=2), 0.5
        total = np.cumsum(mass, axis=1)
        return np.array([np.interp(share * row[-1], np.append(0.0, row), self.edges) for row in total])


def paired_log_ratios(
    spec: ThresholdSpec,
    target: str,
    ranges_a: tuple[int, int],
    results_a: Sequence[TrialResult],
    ranges_b: tuple[int, int],
    results_b: Sequence[TrialResult],
    *,
    draws: int = 1000,
    seed: int,
) -> FloatArray:
    """Bootstrap draws of ln(k* of a / k* of b), shape (draws,); `ranges` are (k_low, k_high) of the two sweeps.

    Each draw takes the replicates that both sweeps have with replacement, the same ones for both, and the others for each
    sweep alone, then refits: the posterior median, or the quantile of the bracketed thresholds in the bisection design.
    Where success is not monotone only its first rise is fitted. NaN where a sweep has no observation.
    """
    sweeps = [(ranges_a, results_a), (ranges_b, results_b)]
    a, b = bootstrap_log_thresholds(spec, target, sweeps, draws=draws, seed=seed)
    return a - b


def bootstrap_log_thresholds(
    spec: ThresholdSpec,
    target: str,
    sweeps: Sequence[tuple[tuple[int, int], Sequence[TrialResult]]],
    *,
    draws: int = 1000,
    seed: int,
) -> list[FloatArray]:
    """Bootstrap draws of ln k* of several sweeps of one task, (draws,) each; a sweep is ((k_low, k_high), results).

    In one draw all sweeps see the same resampled replicates: those that the same sweeps have are drawn with replacement
    together. See `paired_log_ratios`. NaN where a sweep has no observation.
    """
    made = [_sweep(spec, target, k_range, results) for k_range, results in sweeps]
    rng = np.random.default_rng(derive("paired log ratios", seed))
    owners: dict[int, tuple[int, ...]] = {}
    for place, sweep in enumerate(made):
        for replicate in sweep.replicates if sweep else ():
            owners[replicate] = (*owners.get(replicate, ()), place)
    times = [np.zeros((draws, len(sweep.replicates) if sweep else 0), dtype=np.int64) for sweep in made]
    for members in sorted(set(owners.values()), key=lambda some: (-len(some), some)):
        group = sorted(replicate for replicate, some in owners.items() if some == members)
        drawn = _multiplicities(rng, len(group), draws)
        for place in members:
            sweep = made[place]
            assert sweep is not None
            rows = [sweep.replicates.index(replicate) for replicate in group]
            times[place][:, rows] = drawn
    return [
        np.full(draws, np.nan) if sweep is None else sweep.log_thresholds(counts).astype(np.float64)
        for sweep, counts in zip(made, times, strict=True)
    ]


def _multiplicities(rng: np.random.Generator, n: int, draws: int) -> IntArray:
    """How often each of n things is drawn in n draws with replacement: (draws, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws)


def _sweep(spec: ThresholdSpec, target: str, k_range: tuple[int, int], results: Sequence[TrialResult]) -> _Sweep | None:
    monotonicity = assess(spec, target, *k_range, results).monotonicity
    seen = observed(results)
    k_high = k_range[1]
    if monotonicity.rejected and monotonicity.peak is not None:
        k_high = min(k_high, monotonicity.peak)
        seen = [result for result in seen if result.trial.k <= k_high]
    if not seen:
        return None
    replicates = tuple(sorted({result.trial.replicate for result in seen}))
    level = spec.success_probability
    if spec.design == "bisection":
        shares = Shares.of(brackets(target, k_range[0], k_high, seen), k_range[0], k_high)
        return _Sweep(replicates, shares.claims, shares.edges, None, level, k_range)
    edges = np.linspace(log(k_range[0]) - MARGIN, log(k_high) + MARGIN, LOCATIONS + 1)
    shapes = shapes_at(level, every=2, links=("logistic",))
    by_replicate: list[Counts] = [
        count([result for result in seen if result.trial.replicate == replicate], target) for replicate in replicates
    ]
    location = (edges[:-1] + edges[1:]) / 2
    rows = np.stack([shapes.log_likelihood(counts, location).ravel() for counts in by_replicate])
    return _Sweep(replicates, rows, edges, np.tile(shapes.log_prior, LOCATIONS), level, k_range)
