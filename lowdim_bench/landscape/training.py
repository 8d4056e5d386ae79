"""Training of all D weights by a task's own recipe, with what it passes on its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lowdim_bench.engine import Observer, Span, train
from lowdim_bench.parametrizations import AffineSubspace, Pack
from lowdim_bench.problems import Ledger, MeteredProblem, Problem
from lowdim_bench.specs import Task

CHECKPOINTS = 20
"""Evenly spaced over the training beside its start, the last one at its end; fewer where a recipe has fewer steps."""


@dataclass(frozen=True)
class Trained:
    """Where full trainings began, what they passed, and where they ended."""

    passed: Tensor
    """(R, checkpoints, D), from w_0 to the end."""
    steps: tuple[int, ...]
    """After how many steps each checkpoint was left: 0 for w_0."""

    @property
    def starts(self) -> Tensor:
        """(R, D)."""
        return self.passed[:, 0]

    @property
    def ends(self) -> Tensor:
        """(R, D)."""
        return self.passed[:, -1]


def full_training(task: Task, problem: Problem, replicates: Sequence[int]) -> Trained:
    """Train all D weights of each replicate by the task's full-training recipe."""
    starts = torch.stack([problem.initial(replicate) for replicate in replicates])
    recipe = task.full_training
    keeper = _Keeper(max(1, recipe.steps // CHECKPOINTS), starts)
    continued(task, problem, replicates, list(starts), Span(0, recipe.steps), keeper)
    return Trained(torch.stack([torch.stack(one) for one in keeper.kept]), tuple(keeper.steps))


def continued(
    task: Task,
    problem: Problem,
    orders: Sequence[int],
    starts: Sequence[Tensor],
    span: Span,
    observer: Observer | None = None,
) -> list[Tensor]:
    """Where full training leads from `starts` (D,) over some of its steps, each with the batches of a replicate of `orders`."""
    if span.start == span.stop:
        return list(starts)
    spaces = [AffineSubspace.full_space(start) for start in starts]
    rate = task.full_training.learning_rate.at(problem.full_dimension)
    metered = MeteredProblem(problem, orders, [Ledger() for _ in orders])
    thetas = train(metered, spaces, task.full_training, [rate] * len(spaces), span, observer)
    return [space.map(theta) for space, theta in zip(spaces, thetas, strict=True)]


class _Keeper:
    """Keeps the weights of every row at every look, and ends none."""

    def __init__(self, every: int, starts: Tensor) -> None:
        self.every = every
        self.kept: list[list[Tensor]] = [[start] for start in starts]
        self.steps = [0]

    def __call__(self, step: int, rows: Sequence[int], theta: Tensor, pack: Pack) -> list[bool]:
        if step not in self.steps:  # rows may be trained some at a time, each group from the first step
            self.steps.append(step)
        for row, weights in zip(rows, pack.map(theta), strict=True):
            self.kept[row].append(weights.clone())
        return [True] * len(rows)
