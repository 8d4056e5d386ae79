"""Which training examples are linearly connected: no higher in loss between networks than at them (Paul et al. 2022, arXiv
2206.01278)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowdim_bench.engine import Span
from lowdim_bench.landscape.training import continued
from lowdim_bench.problems.classification import ClassificationProblem
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Task

_CHILDREN = 2


@dataclass(frozen=True)
class LinearConnection:
    """The barrier of each training example, between networks that were trained from the same weights."""

    barriers: NDArray[np.float64]
    """(N,): the loss in the middle of the straight line between two networks less the mean of that at them, on average over
    their pairs. May be negative."""

    @property
    def mean(self) -> float:
        """Over all examples."""
        return float(self.barriers.mean())

    def share(self, tolerance: float) -> float:
        """Of examples whose barrier is at most `tolerance`."""
        return float((self.barriers <= tolerance).mean())


def linear_connection(problem: ClassificationProblem, ends: Tensor) -> LinearConnection:
    """Between networks `ends` (m, D), m >= 2, as they are evaluated."""
    pairs = list(combinations(ends, 2))
    middles = torch.stack([0.5 * (one + other) for one, other in pairs])
    at_ends = [0.5 * (one + other) for one, other in combinations(problem.example_losses(ends).double(), 2)]
    between = problem.example_losses(middles).double() - torch.stack(at_ends)
    return LinearConnection(between.mean(dim=0).cpu().numpy())


def spawned_connections(
    task: Task, problem: ClassificationProblem, starts: Sequence[Tensor], step: int, replicates: Sequence[int]
) -> list[LinearConnection]:
    """Between three networks that full training makes of each of `starts` (D,), from `step` on.

    The parent goes on with the batches of its replicate, two children with orders of their own; all optimizers start anew.
    """
    orders: list[int] = []
    for one in replicates:
        orders += [one, *(derive("spawned", one, child) % 2**31 for child in range(_CHILDREN))]
    everyone = [start for start in starts for _ in range(1 + _CHILDREN)]
    ends = torch.stack(continued(task, problem, orders, everyone, Span(step, task.full_training.steps)))
    return [linear_connection(problem, family) for family in ends.split(1 + _CHILDREN)]
