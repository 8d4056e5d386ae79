"""A Bayesian psychometric function: the posterior of k* on a grid, for any slope, lapse rate and asymmetry of the rise.

The success probability at training dimension k is floor + (1 - floor - lapse) * F(offset + slope * (ln k - x)), where F is a
mixture over three links and `offset` puts P = level exactly at ln k = x, the location, lapses included. The family is
that of psychophysics (Wichmann & Hill 2001, Perception & Psychophysics 63:1293; the grid posterior is that of Kontsevich &
Tyler 1999, Vision Research 39:2729). The slope is in units of the logistic: logit P rises by `slope` per unit of ln k.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log
from typing import Literal

import numpy as np
import numpy.typing as npt

from lowdim_bench.specs import ThresholdSpec
from lowdim_bench.threshold.counts import Counts, FloatArray

Link = Literal["logistic", "cloglog", "loglog"]
LINKS: tuple[Link, ...] = ("logistic", "cloglog", "loglog")
"""Symmetric; slow start and sharp end (complementary log-log); sharp start and slow end."""
LINK_WEIGHTS = (0.5, 0.25, 0.25)
GUMBEL_SCALE = log(log(4) / log(4 / 3)) / log(9)
"""Ratio of interquartile ranges, Gumbel to logistic: one `slope` is as steep under every link."""

SLOPES = np.concatenate([np.geomspace(1.5, 80.0, 11), [160.0, 320.0, 640.0]])
SLOPE_WEIGHTS = np.array([1.0] * 11 + [0.5] * 3)
"""Networks were seen at 7 to 36. The steep end is for exact steps: a slope of 80 misplaces them at levels far from 0.5."""
LAPSES = np.array([0.001, 0.01, 0.03, 0.06, 0.1, 0.2])
"""At level 0.5. The first is not 0, or one misfire at a large k would rule out every smaller threshold."""
LAPSE_WEIGHTS = np.array([0.3, 0.2, 0.2, 0.12, 0.1, 0.08])
FLOOR = 0.002
"""At level 0.5: the chance of a fluke far below the threshold."""

LEAST_LEVEL = 1e-6
"""Levels nearer to 0 or 1 are taken as this near: floats hold no asymptotes beyond."""

MARGIN = log(20.0)
"""How far in ln k the locations go beyond the range: from there up, "above the range" is one outcome."""
OUTER_STEP = 0.3
FINE_LOCATIONS = 101
TAIL = 1e-4


@dataclass(frozen=True)
class Shapes:
    """All shapes of the rise, as arrays of shape (q,), those of one link side by side; `log_prior` is normalized."""

    slope: FloatArray
    lapse: FloatArray
    offset: FloatArray
    log_prior: FloatArray
    blocks: tuple[tuple[Link, int, int], ...]
    """For each link, where its shapes begin and end."""
    floor: float

    def success(self, distance: FloatArray) -> FloatArray:
        """P at ln k - x = distance of shape (..., 1), or (..., q) for one distance to each shape: shape (..., q)."""
        z = distance * self.slope
        z += self.offset
        np.clip(z, -30.0, 30.0, out=z)
        for link, begin, end in self.blocks:
            z[..., begin:end] = _cumulative(link, z[..., begin:end])
        z *= 1.0 - self.floor - self.lapse
        z += self.floor
        return z

    def take(self, columns: npt.NDArray[np.int64]) -> Shapes:
        """These shapes, repeats allowed; `columns` of shape (s,) must ascend."""
        blocks: list[tuple[Link, int, int]] = []
        for link, begin, end in self.blocks:
            first, last = np.searchsorted(columns, [begin, end]).tolist()
            blocks.append((link, first, last))
        part = (self.slope[columns], self.lapse[columns], self.offset[columns], self.log_prior[columns])
        return Shapes(*part, blocks=tuple(blocks), floor=self.floor)

    def log_likelihood(self, counts: Counts, location: FloatArray) -> FloatArray:
        """ln of the probability of the counts, up to a constant, for locations of shape (n,): shape (n, q)."""
        total = np.zeros((location.size, self.slope.size))
        for k, hits, trials in zip(counts.k.tolist(), counts.hits.tolist(), counts.trials.tolist(), strict=True):
            success = self.success((log(k) - location)[:, None])
            if hits:
                total += hits * np.log(success)
            if trials > hits:
                total += (trials - hits) * np.log1p(-success)
        return total


def _cumulative(link: Link, z: FloatArray) -> FloatArray:
    if link == "logistic":
        return 1.0 / (1.0 + np.exp(-z))
    if link == "cloglog":
        return -np.expm1(-np.exp(z))
    return np.exp(-np.exp(-z))


def _quantile(link: Link, p: FloatArray) -> FloatArray:
    if link == "logistic":
        return np.log(p / (1 - p))
    if link == "cloglog":
        return np.log(-np.log1p(-p))
    return -np.log(-np.log(p))


def shapes_at(level: float, *, every: int = 1, links: tuple[Link, ...] = LINKS) -> Shapes:
    """The shapes considered when k* is where P = level; of the slopes only one in `every`.

    Lapses scale with 1 - level and the floor with level, so that the asymptotes leave every level within reach.
    """
    level = min(max(level, LEAST_LEVEL), 1 - LEAST_LEVEL)
    lapses, floor = 2 * (1 - level) * LAPSES, 2 * level * FLOOR
    slope, lapse = (grid.ravel() for grid in np.meshgrid(SLOPES[::every], lapses, indexing="ij"))
    weight = np.outer(
        SLOPE_WEIGHTS[::every] / SLOPE_WEIGHTS[::every].sum(), LAPSE_WEIGHTS / LAPSE_WEIGHTS.sum()
    ).ravel()
    link_weights = np.array([LINK_WEIGHTS[LINKS.index(link)] for link in links])
    height = (level - floor) / (1 - floor - lapse)
    return Shapes(
        slope=np.concatenate([slope * (1.0 if link == "logistic" else GUMBEL_SCALE) for link in links]),
        lapse=np.tile(lapse, len(links)),
        offset=np.concatenate([_quantile(link, height) for link in links]),
        log_prior=np.log(np.outer(link_weights / link_weights.sum(), weight).ravel()),
        blocks=tuple((link, i * slope.size, (i + 1) * slope.size) for i, link in enumerate(links)),
        floor=floor,
    )


@dataclass(frozen=True)
class Posterior:
    """P(location, shape | counts) on a grid: cells with `edges` of shape (n + 1,) and mid-points `location` of shape (n,) in
    ln k, and `weight` of shape (n, q), which sums to 1."""

    edges: FloatArray
    location: FloatArray
    weight: FloatArray
    shapes: Shapes

    def below(self, x: float) -> float:
        """P(location <= x)."""
        return float(np.interp(x, self.edges, self._cumulated()))

    def quantiles(self, q: FloatArray) -> FloatArray:
        """Locations in ln k below which a share q lies; same shape as q."""
        return np.interp(q, self._cumulated(), self.edges)

    def _cumulated(self) -> FloatArray:
        mass = np.concatenate([[0.0], np.cumsum(self.weight.sum(axis=1))])
        return mass / mass[-1]


def posterior(spec: ThresholdSpec, k_low: int, k_high: int, counts: Counts) -> Posterior:
    """The posterior given the counts; the prior is flat in ln k* over the range and a margin on both sides.

    A first pass with few shapes finds where the mass is; the grid is fine there and coarse elsewhere.
    """
    bounds = log(k_low) - MARGIN, log(k_high) + MARGIN
    fine = _region(spec.success_probability, bounds, counts)
    step = (fine[1] - fine[0]) / FINE_LOCATIONS
    edges = np.concatenate(
        [
            _cells(bounds[0], fine[0], OUTER_STEP)[:-1],
            _cells(fine[0], fine[1], step),
            _cells(fine[1], bounds[1], OUTER_STEP)[1:],
        ]
    )
    return _on_grid(edges, shapes_at(spec.success_probability), counts)


def _cells(begin: float, end: float, step: float) -> FloatArray:
    return np.linspace(begin, end, 1 + ceil((end - begin) / step))


def _region(level: float, bounds: tuple[float, float], counts: Counts) -> tuple[float, float]:
    """Where all but a small tail of the mass lies, with room to spare, from a coarse grid of logistic shapes."""
    shapes = shapes_at(level, every=2, links=("logistic",))
    edges = np.linspace(*bounds, 1 + round((bounds[1] - bounds[0]) / 0.08))
    coarse = _on_grid(edges, shapes, counts)
    low, high = coarse.quantiles(np.array([TAIL, 1 - TAIL])).tolist()
    room = 0.05 + 0.15 * (high - low)
    return max(bounds[0], low - room), min(bounds[1], high + room)


def _on_grid(edges: FloatArray, shapes: Shapes, counts: Counts) -> Posterior:
    location = (edges[:-1] + edges[1:]) / 2
    log_weight = shapes.log_likelihood(counts, location)
    log_weight += shapes.log_prior + np.log(np.diff(edges))[:, None]
    weight = np.exp(log_weight - log_weight.max())
    return Posterior(edges, location, weight / weight.sum(), shapes)
