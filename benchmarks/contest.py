"""What all loops that are compared have in common: one task, its arrays, initial weights, batches and Gaussian bases.

A competitor is a `Loop`. Its trainings are driven from here, so that throughput, whole jobs and cost curves time the same code,
and every loop is evaluated on the same schedule and stops at success.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from lowdim_bench import problems
from lowdim_bench.problems import BatchOrder
from lowdim_bench.problems.classification import ClassificationProblem
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Task, load_task
from lowdim_bench.specs.problem import Classification, ConvNetwork, MlpNetwork
from lowdim_bench.specs.task import Descent


@dataclass(frozen=True)
class Contest:
    """One classification task as every loop gets it."""

    task: Task
    problem: ClassificationProblem
    network: MlpNetwork | ConvNetwork

    @classmethod
    def load(cls, name: str, data_root: Path) -> Self:
        """A shipped task or a task file. Raises SystemExit where no competitor can train it."""
        return cls.of(load_task(name), data_root)

    @classmethod
    def of(cls, task: Task, data_root: Path) -> Self:
        """A task as it is given. Raises SystemExit where no competitor can train it."""
        spec, recipe = task.problem, task.training
        if not isinstance(spec, Classification) or not isinstance(spec.network, MlpNetwork | ConvNetwork):
            raise SystemExit(f"{task.name}: the loops to compare with train MLPs and plain convolutional nets only")
        if recipe.batch_size is None or recipe.learning_rate.schedule != "constant":
            raise SystemExit(
                f"{task.name}: the loops to compare with take mini-batches and a constant learning rate only"
            )
        if isinstance(recipe.optimizer, Descent) and recipe.optimizer.weight_decay:
            raise SystemExit(f"{task.name}: the loops to compare with know no weight decay")
        if recipe.learning_rate.multipliers != (1.0,) or task.ranked_target.at_most is None:
            raise SystemExit(f"{task.name}: the loops to compare with do not tune, and aim at a loss")
        problem = problems.build(task, problems.load_arrays(task, data_root))
        assert isinstance(problem, ClassificationProblem)
        return cls(task, problem, spec.network)

    @property
    def full_dimension(self) -> int:
        return self.problem.full_dimension

    @property
    def classes(self) -> int:
        return int(self.problem.labels.max()) + 1

    @property
    def batch_size(self) -> int:
        assert self.task.training.batch_size is not None
        return min(self.task.training.batch_size, len(self.problem.labels))

    def learning_rate(self, k: int) -> float:
        return self.task.training.learning_rate.at(k)

    def batches(self, replicate: int) -> BatchOrder:
        """The order of examples of a replicate; what the engine trains on."""
        return BatchOrder(self.problem, [replicate], self.task.training.batch_size)

    def gaussian_basis(self, k: int, replicate: int) -> Tensor:
        """Independent normal rows of unit norm, (k, D): what Li et al. 2018 train in, drawn in one call."""
        generator = torch.Generator().manual_seed(derive("benchmark basis", self.task.name, replicate))
        basis = torch.randn(k, self.full_dimension, generator=generator)
        return basis.div_(basis.norm(dim=1, keepdim=True))


class Training(Protocol):
    """One training under way."""

    def advance(self, steps: int) -> None:
        """Take so many steps, and return only when they are done."""
        ...

    def loss(self) -> float:
        """The loss on the full training set."""
        ...


class Loop(Protocol):
    """A way to train one trial at a time."""

    name: str
    order: Tensor
    """(D,) int64: its parameter i is the engine's parameter order[i]. Layouts differ, networks do not."""

    def begin(self, k: int, replicate: int, basis: Tensor | None = None) -> Training:
        """A training in the span of `basis` (k, D) in the loop's own layout; draws a Gaussian one where none is given."""
        ...


def loss_curve(training: Training, task: Task) -> Iterator[tuple[int, float]]:
    """(steps, loss on the training set) at each scheduled evaluation; a caller that has seen enough asks no further."""
    done = 0
    while done < task.training.steps:
        steps = min(task.training.evaluate_every, task.training.steps - done)
        training.advance(steps)
        done += steps
        yield done, training.loss()
