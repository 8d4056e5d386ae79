"""A problem: a loss over flat parameters, its metrics, and the reproducible order in which examples come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lowdim_bench.problems.networks import Block
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Target, Task


@dataclass(frozen=True)
class Metrics:
    """Metrics of P parameter vectors, each (P,), on the CPU in float64. A problem without classes has no accuracy."""

    loss: Tensor
    accuracy: Tensor | None

    def value(self, target: Target, row: int) -> float:
        """The metric that a target speaks of, of one row."""
        if target.metric == "train_loss":
            return float(self.loss[row])
        assert self.accuracy is not None
        return float(self.accuracy[row])


class Problem(ABC):
    """Loss, gradient and metrics for a pack of flat parameter vectors. It is fixed: training changes nothing in it."""

    chance_loss: float | None = None
    """Mean loss of calling all classes equally likely; None where there are no classes."""

    def __init__(self, task: Task, blocks: Sequence[Block], example_count: int | None, device: torch.device) -> None:
        self.task = task
        self.blocks = tuple(blocks)
        self.full_dimension = self.blocks[-1].stop
        self.example_count = example_count
        """Training examples, or None where there are none and every gradient is the exact one."""
        self.device = device

    @abstractmethod
    def initial(self, replicate: int) -> Tensor:
        """Initial parameters (D,) of a replicate: the same for every method."""

    @abstractmethod
    def loss_and_gradient(self, weights: Tensor, examples: Tensor | None) -> tuple[Tensor, Tensor]:
        """Loss (P,) and gradient (P, D) at weights (P, D), on the examples (P, B) of each row, or on all for None."""

    @abstractmethod
    def train_metrics(self, weights: Tensor) -> Metrics:
        """Metrics on the full training set at weights (P, D)."""

    @abstractmethod
    def test_accuracy(self, weights: Tensor) -> Tensor | None:
        """Accuracy (P,) on the test set, which never decides anything; None where there is no test set."""

    def generator(self, purpose: str, *parts: str | int) -> torch.Generator:
        """A CPU generator for one purpose of this task: results are then the same on every device."""
        return torch.Generator().manual_seed(derive(purpose, self.task.name, *parts))


class BatchOrder:
    """Which examples each row of a pack sees at each step: a fresh permutation an epoch, a function of the replicate alone.

    `step` counts from initialization; a rewound training that starts at step s goes on with the batches of step s.
    """

    def __init__(self, problem: Problem, replicates: Sequence[int], batch_size: int | None) -> None:
        self._problem = problem
        self._replicates = list(replicates)
        count = problem.example_count
        self._size = None if count is None or batch_size is None else min(batch_size, count)
        self._epoch = -1
        self._permutations = torch.empty(0)

    def examples(self, step: int) -> Tensor | None:
        """Indices (P, B) of the examples of a step, or None for all of them."""
        if self._size is None:
            return None
        assert self._problem.example_count is not None
        epoch, batch = divmod(step, self._problem.example_count // self._size)
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutations = torch.stack([self._permutation(replicate, epoch) for replicate in self._replicates])
            self._permutations = self._permutations.to(self._problem.device)
        return self._permutations[:, batch * self._size : (batch + 1) * self._size]

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows only: `rows` holds their indices, on the CPU."""
        self._replicates = [self._replicates[int(row)] for row in rows]
        if self._epoch >= 0:
            self._permutations = self._permutations[rows.to(self._permutations.device)]

    def _permutation(self, replicate: int, epoch: int) -> Tensor:
        assert self._problem.example_count is not None
        generator = self._problem.generator("batch order", replicate, epoch)
        return torch.randperm(self._problem.example_count, generator=generator)
