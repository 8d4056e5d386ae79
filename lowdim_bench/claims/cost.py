"""What a claim would take, told before anything is spent, and without its data: trainings, steps, floating-point operations."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lowdim_bench import problems
from lowdim_bench.methods import Trained, parse_choice
from lowdim_bench.methods.base import Preparation, Setting, Train
from lowdim_bench.problems import Ledger, MeteredProblem
from lowdim_bench.specs import Recipe, Spec, Task
from lowdim_bench.specs.pixels import PixelLabelling
from lowdim_bench.specs.problem import Classification, DigitsData, TorchvisionData
from lowdim_bench.specs.tensors import PlantedTensor, TensorDecomposition

_IMAGES: Mapping[str, tuple[tuple[int, ...], int, int]] = {
    "MNIST": ((28, 28), 10, 60_000),
    "FashionMNIST": ((28, 28), 10, 60_000),
    "CIFAR10": ((32, 32, 3), 10, 50_000),
    "CIFAR100": ((32, 32, 3), 100, 50_000),
}
"""Shape, classes and training examples."""
_DIGITS = ((8, 8), 10, 1797)
_STAND_INS = 200
_BACKWARD = 3
"""A gradient takes about three times as many operations as the loss."""


class Cost(Spec):
    """What measurements take, at most: runs that reach their hardest target stop before."""

    trainings: int = 0
    steps: int = 0
    """Of all trainings, those of preparations among them: one gradient of a batch each."""
    operations: float = 0.0
    """Floating-point operations of losses and gradients, a gradient counted as three losses; or of matrices, where nothing is
    trained."""

    def times(self, count: int) -> Cost:
        return Cost(trainings=count * self.trainings, steps=count * self.steps, operations=count * self.operations)


def total(costs: Sequence[Cost]) -> Cost:
    """The sum of some costs."""
    return Cost(
        trainings=sum(one.trainings for one in costs),
        steps=sum(one.steps for one in costs),
        operations=float(sum(one.operations for one in costs)),
    )


def passes(task: Task, *, trainings: int, steps: int, recipe: Recipe, evaluations: int) -> Cost:
    """The cost of some trainings with `steps` gradients of the recipe's batches in all, and of `evaluations` of the loss on all
    training examples."""
    forward, count = problems.forward_operations(task, _arrays(task)), _examples(task)
    batch = count if recipe.batch_size is None else min(recipe.batch_size, count)
    operations = float(forward) * (_BACKWARD * batch * steps + count * evaluations)
    return Cost(trainings=trainings, steps=steps, operations=operations)


def training(task: Task, method: str, k: int) -> Cost:
    """The cost of one trial of a method at k.

    Its preparation is run on made-up examples of the data's shape, with every training that it asks for answered at once by
    random weights: how many steps it asks for does not depend on what they lead to.
    """
    asked = _Asked()
    problem = problems.build(task, _arrays(task))
    ledger = Ledger(None, problem.example_count)
    setting = Setting(MeteredProblem(problem, [0], [ledger]), k, 0, task.full_training)
    outcome = parse_choice(method).build().prepare(setting)
    if isinstance(outcome, Generator):
        asked.answer(outcome)
    rates = len(task.training.learning_rate.multipliers)
    recipe = task.training
    evaluations = rates * -(-recipe.steps // recipe.evaluate_every) + _BACKWARD * ledger.spent.gradient_evaluations
    return total(
        [
            passes(task, trainings=asked.trainings, steps=asked.steps, recipe=task.full_training, evaluations=0),
            passes(task, trainings=rates, steps=rates * recipe.steps, recipe=recipe, evaluations=evaluations),
        ]
    )


class _Asked:
    """Counts what a preparation asks to be trained."""

    def __init__(self) -> None:
        self.trainings = self.steps = 0
        self._random = torch.Generator().manual_seed(0)

    def answer(self, preparation: Preparation) -> None:
        try:
            request = next(preparation)
            while True:
                self.trainings += 1
                self.steps += request.stop - request.start
                request = preparation.send(self._made_up(request))
        except StopIteration:
            return

    def _made_up(self, request: Train) -> Trained:
        weights = request.subspace.map(request.subspace.start)
        count = 0 if request.snapshot_every is None else 1 + (request.stop - request.start) // request.snapshot_every
        moved = [weights + 0.1 * torch.randn(weights.shape, generator=self._random) for _ in range(1 + count)]
        return Trained(moved[0], tuple(moved[1:]))


def full_dimension(task: Task) -> int:
    """D of a task."""
    return problems.layout(task, _arrays(task))[-1].stop


def _arrays(task: Task) -> dict[str, Any]:
    """A few made-up examples of the shape of a task's data; none where a problem has none."""
    if isinstance(task.problem, PixelLabelling):
        sizes = {"x": task.problem.data.inputs, "y": task.problem.data.outputs}
        on = {axis: np.ones((_STAND_INS, size), np.uint8) for axis, size in sizes.items()}
        return {f"{axis}_{split}": on[axis] for axis in "xy" for split in ("train", "test")}
    if isinstance(task.problem, TensorDecomposition):
        return {"tensor": np.ones(_tensor_shape(task.problem), np.float32)}
    if not isinstance(task.problem, Classification):
        return {}
    shape, classes, _ = _known(task.problem)
    channels_first = (shape[-1], *shape[:2]) if len(shape) == 3 else (1, *shape)
    inputs = np.random.default_rng(0).integers(0, 256, (_STAND_INS, *channels_first)).astype(np.uint8)
    labels = np.arange(_STAND_INS) % classes
    return {"x_train": inputs, "y_train": labels, "x_test": inputs, "y_test": labels}


def _examples(task: Task) -> int:
    """How many training examples a task has; 1 where a loss is of the whole problem at once."""
    if isinstance(task.problem, PixelLabelling):
        return task.problem.data.train_examples
    if isinstance(task.problem, TensorDecomposition):
        return math.prod(_tensor_shape(task.problem))
    if not isinstance(task.problem, Classification):
        return 1
    data, (_, _, count) = task.problem.data, _known(task.problem)
    if isinstance(data, DigitsData):
        return count - data.test_examples
    return count if data.train_examples is None else min(count, data.train_examples)


def _tensor_shape(problem: TensorDecomposition) -> tuple[int, ...]:
    """Raises ValueError for one's own tensor: no claim is about these."""
    if isinstance(problem.data, PlantedTensor):
        return problem.data.shape
    raise ValueError("nothing is known of one's own tensor before it is read")


def _known(problem: Classification) -> tuple[tuple[int, ...], int, int]:
    """Shape, classes and examples of a problem's data. Raises ValueError for one's own arrays: no claim is about these."""
    if isinstance(problem.data, DigitsData):
        return _DIGITS
    if isinstance(problem.data, TorchvisionData):
        return _IMAGES[problem.data.dataset]
    raise ValueError("nothing is known of one's own arrays before they are read")
