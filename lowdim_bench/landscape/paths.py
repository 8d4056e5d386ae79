"""The loss between trained weights: on straight lines, on trained curves, and at averages.

Losses and errors are those of the full training set. Where batches are normalized, statistics are taken anew at every point, as
in every evaluation: they are a function of the weights. All vectors are flat, (D,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowdim_bench.engine import Span, train
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.problems import Ledger, MeteredProblem, Metrics, Problem
from lowdim_bench.specs import Recipe

Floats = NDArray[np.float64]

POINTS = 51
"""Points of a path, both ends and the middle among them."""
MONOTONE = 1e-6
"""A larger rise than this on the way breaks monotonicity."""
_NODES = 8
"""Points of a curve, or of each spoke, whose mean loss is trained."""
_AT_ONCE = 16
"""Points evaluated together."""


@dataclass(frozen=True)
class LinearPath:
    """The straight line between two points, at evenly spaced positions."""

    losses: tuple[float, ...]
    errors: tuple[float, ...] | None
    """Shares of examples that are misclassified; None where there are no classes."""
    distance: float
    """|end - start|."""
    relative_distance: float
    """The same as a multiple of |start|; NaN where that is zero."""
    rise: float
    """The smallest Delta for which the loss is Delta-monotone: the most that it rises from one position to a later one (Lucas
    et al. 2021, arXiv 2104.11044)."""
    loss_barrier: float
    """The most by which the loss lies above the straight line between its values at the ends (Entezari et al. 2022, arXiv
    2110.06296). Zero or more."""
    error_barrier: float | None
    """The highest error less the mean of the errors at the ends (Frankle et al. 2020, arXiv 1912.05671)."""

    @property
    def monotone(self) -> bool:
        """Whether linear interpolation is monotonic, up to `MONOTONE`."""
        return self.rise <= MONOTONE


@dataclass(frozen=True)
class Curve:
    """What was found on a trained connection."""

    loss_excess: float
    """The highest loss on it less the mean loss of what it connects. May be negative where it passes below them."""
    error_excess: float | None
    length_ratio: float
    """Its length as a multiple of the straight distance; NaN where that is zero. Of a wedge, the mean over all pairs."""
    losses: tuple[float, ...]
    """At all points that were looked at, in their order; of a wedge, one spoke after the other, each from the hub."""


@dataclass(frozen=True)
class Average:
    """The mean of some points, beside the points themselves."""

    points: int
    loss: float
    loss_gap: float
    """The loss at the mean less the mean loss; not above zero where the loss is convex."""
    error_gap: float | None


def evaluate(problem: Problem, points: Tensor) -> tuple[Floats, Floats | None]:
    """Loss and error (n,) at points (n, D); the errors are None where there are no classes."""
    found: list[Metrics] = [problem.train_metrics(some.contiguous()) for some in points.split(_AT_ONCE)]
    losses = torch.cat([one.loss for one in found]).numpy()
    accuracies = [one.accuracy for one in found if one.accuracy is not None]
    return losses, 1 - torch.cat(accuracies).numpy() if accuracies else None


def linear_path(problem: Problem, start: Tensor, end: Tensor, points: int = POINTS) -> LinearPath:
    """The loss from `start` to `end` at `points` >= 2 positions."""
    positions = np.linspace(0, 1, points)
    steps = torch.from_numpy(positions).to(start).unsqueeze(1)
    losses, errors = evaluate(problem, (1 - steps) * start + steps * end)
    chord = (1 - positions) * losses[0] + positions * losses[-1]
    distance, size = float((end - start).double().norm()), float(start.double().norm())
    return LinearPath(
        losses=tuple(losses.tolist()),
        errors=None if errors is None else tuple(errors.tolist()),
        distance=distance,
        relative_distance=distance / size if size else math.nan,
        rise=float((losses - np.minimum.accumulate(losses)).max()),
        loss_barrier=float((losses - chord).max()),
        error_barrier=None if errors is None else float(errors.max() - (errors[0] + errors[-1]) / 2),
    )


def average(problem: Problem, points: Tensor) -> Average:
    """The mean of points (n, D): of late iterates of one training (Izmailov et al. 2018, arXiv 1803.05407), or the centroid of
    minima of several (Fort & Jastrzebski 2019, arXiv 1906.04724)."""
    losses, errors = evaluate(problem, points)
    loss, error = evaluate(problem, points.double().mean(dim=0, keepdim=True).to(points))
    return Average(
        points=len(points),
        loss=float(loss[0]),
        loss_gap=float(loss[0] - losses.mean()),
        error_gap=None if error is None or errors is None else round(float(error[0] - errors.mean()), 12),
    )


def bezier_curve(problem: Problem, ends: tuple[Tensor, Tensor], recipe: Recipe, points: int = POINTS) -> Curve:
    """The quadratic Bezier curve (1 - t)^2 w_1 + 2t(1 - t) bend + t^2 w_2 of low mean loss (Garipov et al. 2018, arXiv
    1802.10026).

    The bend starts in the middle of the straight line and is trained by `recipe`, each step on the mean gradient of the same
    eight points of the curve, where Garipov et al. draw one at random.
    """
    bend = trained_bend(_arc(problem, ends, _midpoints()), 0.5 * (ends[0] + ends[1]), recipe)
    return curve_of(problem, torch.stack(ends), _arc(problem, ends, np.linspace(0, 1, points)).points(bend))


def wedge(problem: Problem, minima: Tensor, recipe: Recipe, points: int = POINTS) -> tuple[Curve, Tensor]:
    """A connector of minima (m, D): straight spokes of low mean loss from each of them to one hub (D,), which comes with it.

    The hub starts at their centroid and is trained by `recipe`, each step on the mean gradient of eight points of every spoke:
    the smallest instance of the connectors of m minima of Fort & Jastrzebski 2019 (arXiv 1906.04724).
    """
    hub = trained_bend(_spokes(problem, minima, _midpoints()), minima.double().mean(dim=0).to(minima), recipe)
    return curve_of(problem, minima, _spokes(problem, minima, np.linspace(0, 1, points)).points(hub), len(minima)), hub


@final
class BentPath(Problem):
    """The mean loss of points `fixed` + `shares` * bend, as a problem whose weights are the bend.

    So curves are trained by the same loop as everything else. fixed: (n, D); shares: (n,).
    """

    def __init__(self, problem: Problem, fixed: Tensor, shares: Tensor) -> None:
        super().__init__(problem.task, problem.blocks, problem.example_count, problem.device)
        self._problem, self._fixed, self._shares = problem, fixed, shares

    def points(self, bend: Tensor) -> Tensor:
        """The points (n, D) that a bend (D,) gives."""
        return self._fixed + self._shares.unsqueeze(1) * bend

    def initial(self, replicate: int) -> Tensor:
        return self._problem.initial(replicate)

    def loss_and_gradient(self, weights: Tensor, examples: Tensor | None) -> tuple[Tensor, Tensor]:
        losses, gradients = [], []
        for row, bend in enumerate(weights):
            some = None if examples is None else examples[row].expand(len(self._shares), -1)
            loss, gradient = self._problem.loss_and_gradient(self.points(bend), some)
            losses.append(loss.mean())
            gradients.append(self._shares @ gradient / len(self._shares))
        return torch.stack(losses), torch.stack(gradients)

    def train_metrics(self, weights: Tensor) -> Metrics:
        losses = [evaluate(self._problem, self.points(bend))[0].mean() for bend in weights]
        return Metrics(torch.tensor(losses, dtype=torch.float64), None)

    def test_accuracy(self, weights: Tensor) -> None:
        return None


def trained_bend(path: BentPath, start: Tensor, recipe: Recipe) -> Tensor:
    """The bend (D,) that training by `recipe` makes of `start` (D,)."""
    space = AffineSubspace.full_space(start)
    rate = recipe.learning_rate.at(path.full_dimension)
    (theta,) = train(MeteredProblem(path, [0], [Ledger()]), [space], recipe, [rate], Span(0, recipe.steps))
    return space.map(theta)


def _midpoints() -> Floats:
    """Evenly spaced positions that stand for equal parts of a path."""
    return (np.arange(_NODES) + 0.5) / _NODES


def _arc(problem: Problem, ends: tuple[Tensor, Tensor], positions: Floats) -> BentPath:
    t = torch.from_numpy(positions).to(ends[0]).unsqueeze(1)
    return BentPath(problem, (1 - t) ** 2 * ends[0] + t**2 * ends[1], (2 * t * (1 - t)).squeeze(1))


def _spokes(problem: Problem, minima: Tensor, positions: Floats) -> BentPath:
    t = torch.from_numpy(positions).to(minima)
    fixed = (t.view(1, -1, 1) * minima.unsqueeze(1)).flatten(0, 1)
    return BentPath(problem, fixed, (1 - t).repeat(len(minima)))


def curve_of(problem: Problem, connected: Tensor, points: Tensor, branches: int = 1) -> Curve:
    """What lies on points (branches * n, D), n of each branch in order, that connect the rows of `connected`."""
    losses, errors = evaluate(problem, points)
    end_losses, end_errors = evaluate(problem, connected)
    each = points.double().unflatten(0, (branches, -1))
    lengths = (each[:, 1:] - each[:, :-1]).norm(dim=2).sum(dim=1).tolist()
    return Curve(
        loss_excess=float(losses.max() - end_losses.mean()),
        error_excess=None if errors is None or end_errors is None else float(errors.max() - end_errors.mean()),
        length_ratio=_length_ratio(connected, lengths),
        losses=tuple(losses.tolist()),
    )


def _length_ratio(connected: Tensor, lengths: Sequence[float]) -> float:
    """Length of the way over the straight distance: of one curve, or the mean over pairs of spokes."""
    straight = torch.pdist(connected.double()).tolist()
    if not all(straight):
        return math.nan
    if len(lengths) == 1:
        return lengths[0] / straight[0]
    ways = [one + other for place, one in enumerate(lengths) for other in lengths[place + 1 :]]
    return float(np.mean([way / short for way, short in zip(ways, straight, strict=True)]))
