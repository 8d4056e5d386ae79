"""Measurements of landscapes: pairs of networks, the lines between them, wells and grids whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lowdim_bench.claims.base import Part, Values
from lowdim_bench.claims.cost import Cost, passes
from lowdim_bench.engine import Span
from lowdim_bench.landscape import align, linear_path
from lowdim_bench.landscape.paths import POINTS
from lowdim_bench.landscape.training import continued, full_training
from lowdim_bench.parametrizations import Pack
from lowdim_bench.problems import Problem
from lowdim_bench.problems.networks.pixels import Recurrent
from lowdim_bench.problems.pixel_labelling import PixelProblem
from lowdim_bench.problems.quadratic import QuadraticProblem
from lowdim_bench.seeds import derive
from lowdim_bench.specs.pixels import PixelLabelling
from lowdim_bench.specs.problem import QuadraticWell
from lowdim_bench.theory import deterministic_equivalent, gaussian_width_formula, simulated_threshold

_LINE_POINTS = 50
_CHILDREN = 2


@final
class SpawnedPairs(Part):
    """Two copies of a network that go on from the same weights with different batches (Frankle et al. 2020), for each of
    `spawn_steps`: the barriers on the straight line between where they end.

    Up to the spawn step the replicate's own batches are trained on; from there on each child has an order of its own, and its
    optimizer starts anew. All by the task's full-training recipe, whose steps are counted from the start.
    """

    spawn_steps: tuple[Annotated[int, Field(ge=0)], ...]

    def measure(self, problem: Problem, replicates: Sequence[int]) -> Sequence[Values]:
        parents = _passed(self, problem, replicates)
        found: list[dict[str, Values]] = [{} for _ in replicates]
        for step, weights in parents.items():
            orders = [derive("spawned", one, child) % 2**31 for one in replicates for child in range(_CHILDREN)]
            starts = [start for start in weights for _ in range(_CHILDREN)]
            ends = continued(self.task, problem, orders, starts, Span(step, self.task.full_training.steps))
            for row, one in enumerate(found):
                line = linear_path(problem, ends[_CHILDREN * row], ends[_CHILDREN * row + 1])
                one[str(step)] = {
                    "loss_barrier": _known(line.loss_barrier),
                    "error_barrier": _known(line.error_barrier),
                }
        return found

    def cost(self) -> Cost:
        last, recipe = max(self.spawn_steps), self.task.full_training
        children = [_CHILDREN * (recipe.steps - step) for step in self.spawn_steps]
        return passes(
            self.task,
            trainings=(last > 0) + _CHILDREN * len(self.spawn_steps),
            steps=last + sum(children),
            recipe=recipe,
            evaluations=POINTS * len(self.spawn_steps),
        )


@final
class AlignedPairs(Part):
    """Two networks from independent initializations, trained in full: the loss barrier on the straight line between them,
    before and after the second one's hidden neurons are permuted to match the first one's."""

    def measure(self, problem: Problem, replicates: Sequence[int]) -> Sequence[Values]:
        ends = full_training(self.task, problem, [2 * one + side for one in replicates for side in (0, 1)]).ends
        found = []
        for one, other in zip(ends[::2], ends[1::2], strict=True):
            aligned, matched = align(problem, one, other)
            raw, after = linear_path(problem, one, other), linear_path(problem, one, aligned)
            found.append({"raw": raw.loss_barrier, "aligned": after.loss_barrier, "loss_change": matched.loss_change})
        return found

    def cost(self) -> Cost:
        recipe = self.task.full_training
        return passes(self.task, trainings=2, steps=2 * recipe.steps, recipe=recipe, evaluations=2 * POINTS)


@final
class StraightLines(Part):
    """From w_0 to where full training ends, at 50 points: the most that the loss rises on the way (min Delta of Lucas et al.
    2021), whether it never does, and how far it is."""

    def measure(self, problem: Problem, replicates: Sequence[int]) -> Sequence[Values]:
        trained = full_training(self.task, problem, replicates)
        found = []
        for start, end in zip(trained.starts, trained.ends, strict=True):
            line = linear_path(problem, start, end, _LINE_POINTS)
            known = math.isfinite(line.rise)
            rise, distance = _known(line.rise), _known(line.relative_distance)
            found.append({"rise": rise, "monotone": line.monotone if known else None, "distance": distance})
        return found

    def cost(self) -> Cost:
        recipe = self.task.full_training
        return passes(self.task, trainings=1, steps=recipe.steps, recipe=recipe, evaluations=_LINE_POINTS)


@final
class WellThresholds(Part):
    """Of a quadratic well, from each replicate's w_0: the k at which the exact minimum over a random subspace reaches the
    target in half of `draws` draws, and what theory says of it. No optimizer takes part."""

    draws: Annotated[int, Field(ge=1)] = 16
    sharpness: Annotated[float, Field(gt=0)] = 1.0
    """What every eigenvalue is multiplied with, at the same w_0 and target."""
    draw: Annotated[int, Field(ge=0)] = 0
    """Another number draws other subspaces."""

    def measure(self, problem: Problem, replicates: Sequence[int]) -> Sequence[Values]:
        assert isinstance(problem, QuadraticProblem)
        values, level = self.sharpness * problem.eigenvalues, self.task.ranked_target.level * problem.unit
        found = []
        for one in replicates:
            start = (problem.initial(one).double() @ problem.eigenvectors).numpy()
            rng = np.random.default_rng(derive("well", self.task.name, one, self.draw))
            found.append(
                {
                    "simulated": simulated_threshold(values, start, level / 2, rng, self.draws),
                    "equivalent": deterministic_equivalent(values, start, level),
                    "formula": gaussian_width_formula(values, float(np.linalg.norm(start)), level),
                }
            )
        return found

    def cost(self) -> Cost:
        problem = self.task.problem
        assert isinstance(problem, QuadraticWell)
        # A QR decomposition of a D x D matrix with its orthogonal factor takes 8/3 D^3 operations.
        return Cost(operations=self.draws * 8 / 3 * float(problem.dimension) ** 3)


@final
class EngineeredGrid(Part):
    """The recurrent grid with the weights of Larsen & Druckmann 2022, untrained, on the test images: by path length, how many
    images it labels without a mistake, and how many there are."""

    replicates: Annotated[int, Field(ge=1, le=1)] = 1

    def measure(self, problem: Problem, replicates: Sequence[int]) -> Sequence[Values]:
        assert isinstance(problem, PixelProblem)
        assert isinstance(problem.network, Recurrent)
        errors = problem.test_errors(problem.network.engineered())
        solved = {
            str(length): [round((1 - missed) * errors.images[length]), errors.images[length]]
            for length, missed in errors.by_path_length.items()
        }
        return [{"images": solved} for _ in replicates]

    def cost(self) -> Cost:
        problem = self.task.problem
        assert isinstance(problem, PixelLabelling)
        return Cost(operations=2.0 * problem.multiply_accumulates * problem.data.test_examples)


def _passed(part: SpawnedPairs, problem: Problem, replicates: Sequence[int]) -> dict[int, Tensor]:
    """The weights (R, D) at each spawn step."""
    starts = [problem.initial(one) for one in replicates]
    last = max(part.spawn_steps)
    keeper = _Keeper(math.gcd(*part.spawn_steps) or 1, starts, part.spawn_steps)
    if last:
        continued(part.task, problem, replicates, starts, Span(0, last), keeper)
    return {step: torch.stack([keeper.kept[step][row] for row in range(len(starts))]) for step in part.spawn_steps}


class _Keeper:
    """Keeps the weights of every row after some steps, and ends none."""

    def __init__(self, every: int, starts: Sequence[Tensor], steps: Sequence[int]) -> None:
        self.every = every
        self.kept: dict[int, dict[int, Tensor]] = {step: {} for step in steps}
        self.kept[0] = dict(enumerate(starts))

    def __call__(self, step: int, rows: Sequence[int], theta: Tensor, pack: Pack) -> list[bool]:
        if step in self.kept:
            for row, weights in zip(rows, pack.map(theta), strict=True):
                self.kept[step][row] = weights.clone()
        return [True] * len(rows)


def _known(value: float | None) -> float | None:
    """A number; None where there is none."""
    return value if value is not None and math.isfinite(value) else None
