"""Thresholds of random subspaces, predicted from the curvature where full training ends.

The loss is taken to be L* + (w - w*)'H(w - w*) / 2 around w*, where training of all D weights ends. For a quadratic well that
is what it is. For a network it is a heuristic, which holds as far as the loss stays near that form from w_0 to w*; `Landscape`
carries what tells: the loss that the form gives at w_0 beside the true one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lowdim_bench import theory
from lowdim_bench.errors import UserError
from lowdim_bench.landscape.curvature import Curvature
from lowdim_bench.landscape.training import full_training
from lowdim_bench.problems import Problem
from lowdim_bench.records import PredictedThreshold, Predictions, Spread
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Task

_PROBES = 8
_SIMULATED_DIMENSION = 512
_TRUSTED_FACTOR = 2.0
"""The quadratic form counts as a description of the loss at w_0 where it is right there within this factor."""


@dataclass(frozen=True)
class Prediction:
    """Thresholds of one target, a value for every replicate; None where the target lies below the minimum that was found."""

    target: str
    formula: tuple[float | None, ...]
    """D minus the local angular dimension (Larsen et al. 2022). Far too high where the threshold is far below D."""
    equivalent: tuple[float | None, ...]
    """The deterministic equivalent of a random projector; within some units of exact simulation for a quadratic loss."""
    simulated: tuple[float | None, ...]
    """By exact minimization of the quadratic form over random subspaces; None where D is too large."""
    failing: tuple[int | None, ...]
    """Up to this k a random subspace misses the quadratic form's sub-level set with 95 % by Gordon's escape theorem, as far as
    the local angular dimension is right."""


@dataclass(frozen=True)
class Landscape:
    """What a task's predictions rest on, a value for every replicate."""

    dimension: int
    exact: bool
    """Whether the loss is quadratic, so that nothing is approximated but by the formulas themselves."""
    minimum: tuple[float, ...]
    """The loss L* where full training ends."""
    distance: tuple[float, ...]
    """|w_0 - w*|."""
    start: tuple[float, ...]
    """The loss at w_0."""
    start_by_form: tuple[float, ...]
    """What the quadratic form gives there."""
    negative_share: tuple[float, ...]
    """The share of the spectrum's absolute mass below zero at w*, which is taken as flat; NaN where D is too large to know."""
    predictions: tuple[Prediction, ...]

    @property
    def conditions(self) -> list[str]:
        """What has to hold for the predictions to mean something, and how far it does."""
        if self.exact:
            return ["The loss is quadratic: the equivalent is exact up to fluctuations; the formula assumes k* near D."]
        ratios = [form / true for form, true in zip(self.start_by_form, self.start, strict=True)]
        worst = max(ratios, key=lambda ratio: abs(math.log(max(ratio, 1e-12))))
        said = [
            f"Heuristic: a quadratic form fitted at the end of full training gives {worst:.2g} times the true loss at w_0."
        ]
        if not 1 / _TRUSTED_FACTOR <= worst <= _TRUSTED_FACTOR:
            said.append("It does not describe the loss that far out: take these thresholds as orders of magnitude.")
        if any(one is None for prediction in self.predictions for one in prediction.equivalent):
            said.append("Where a target lies below the loss at which full training ended, nothing is predicted.")
        return said


def recorded(found: Landscape) -> Predictions:
    """Predictions as they are kept beside measured thresholds."""
    return Predictions(
        thresholds=tuple(
            PredictedThreshold(
                target=one.target,
                formula=Spread.of(one.formula),
                equivalent=Spread.of(one.equivalent),
                simulated=Spread.of(one.simulated),
            )
            for one in found.predictions
        ),
        conditions=tuple(found.conditions),
    )


def predict(
    task: Task, problem: Problem, replicates: Sequence[int], progress: Callable[[int, int], None] | None = None
) -> Landscape:
    """Predict the thresholds of random subspaces at every loss target, from some replicates.

    Trains all D weights of each by the task's full-training recipe, and decomposes the Hessian there. Raises `UserError` where
    a target is no training loss, and `MethodFailure` where the problem gives no products with its Hessian.
    """
    if task.ranked_target.at_most is None:
        raise UserError(
            f"The targets of {task.name} are accuracies; thresholds can be predicted of a training loss only."
        )
    if task.problem.kind == "tensor_decomposition":
        raise UserError(
            f"{task.name} decomposes a tensor, which no random subspace does; k* = rank * (sum of its sizes) where the rank is "
            "known. Choose a task of another kind."
        )
    exact = task.problem.kind == "quadratic_well"
    starts = torch.stack([problem.initial(replicate) for replicate in replicates])
    ends = torch.zeros_like(starts) if exact else full_training(task, problem, replicates).ends
    at_start, at_end = (problem.train_metrics(weights).loss.tolist() for weights in (starts, ends))
    pieces = []
    for place, replicate in enumerate(replicates):
        pieces.append(_one(task, problem, replicate, (starts[place], ends[place]), at_end[place]))
        if progress:
            progress(place + 1, len(replicates))
    return Landscape(
        dimension=problem.full_dimension,
        exact=exact,
        minimum=tuple(at_end),
        distance=tuple(piece.distance for piece in pieces),
        start=tuple(at_start),
        start_by_form=tuple(piece.form_at_start for piece in pieces),
        negative_share=tuple(piece.negative_share for piece in pieces),
        predictions=tuple(
            Prediction(target.name, *(tuple(values) for values in zip(*found, strict=True)))
            for target, found in zip(
                task.targets, zip(*(piece.thresholds for piece in pieces), strict=True), strict=True
            )
        ),
    )


Thresholds = tuple[float | None, float | None, float | None, int | None]


@dataclass(frozen=True)
class _Piece:
    distance: float
    form_at_start: float
    negative_share: float
    thresholds: list[Thresholds]
    """Of every target: formula, equivalent, simulated, failing."""


def _one(task: Task, problem: Problem, replicate: int, ends: tuple[Tensor, Tensor], minimum: float) -> _Piece:
    """The predictions of one replicate, from its w_0 and w*."""
    rng = np.random.default_rng(derive("prediction", task.name, replicate))
    curvature = Curvature(problem, ends[1])
    displacement = (ends[0] - ends[1]).double().cpu().numpy()
    density, spread = curvature.density(_PROBES, rng), curvature.spread(displacement)
    energy = theory.Measure(spread.eigenvalues, 0.5 * spread.eigenvalues * spread.mass)
    thresholds: list[Thresholds] = []
    for target in task.targets:
        epsilon = target.level - minimum
        if epsilon <= 0:
            thresholds.append((None, None, None, None))
            continue
        angular = theory.local_angular_dimension(density, float(np.linalg.norm(displacement)), epsilon)
        simulated = None
        if problem.full_dimension <= _SIMULATED_DIMENSION:
            simulated = theory.simulated_threshold(spread.eigenvalues, np.sqrt(spread.mass), epsilon, rng)
        thresholds.append(
            (
                density.total - angular,
                theory.equivalent_threshold(density, energy, epsilon),
                simulated,
                theory.certain_failure(problem.full_dimension, angular),
            )
        )
    return _Piece(float(np.linalg.norm(displacement)), minimum + energy.total, curvature.negative_share(), thresholds)
