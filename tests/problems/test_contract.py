"""What every task that ships owes, clause by clause: its own network, data and recipe, cut short."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lowdim_bench import problems
from lowdim_bench.methods import MethodChoice
from lowdim_bench.methods.pruning import survivors_by_round
from lowdim_bench.problems import Problem
from lowdim_bench.records import Trial
from lowdim_bench.specs import Task, load_task, task_names
from lowdim_bench.trial import run_pack

pytestmark = pytest.mark.contract("task")

SHAPES = {"MNIST": (28, 28), "FashionMNIST": (28, 28), "CIFAR10": (32, 32, 3)}
"""Of one image, as torchvision keeps it."""
METHOD = {"tensor_decomposition": "cp_als"}
"""Where it is not a random subspace."""
DOWNLOADED = 48
"""Images of noise that stand for those of a data set to be downloaded."""


@dataclass(frozen=True)
class Shipped:
    task: Task
    problem: Problem

    def weights(self, *replicates: int) -> Tensor:
        return torch.stack([self.problem.initial(one) for one in replicates])

    def examples(self, rows: int) -> Tensor | None:
        """The same few examples for each row; None where the loss has none or is that of all."""
        size, count = self.task.training.batch_size, self.problem.example_count
        if size is None or count is None:
            return None
        return torch.arange(min(size, count, 16)).expand(rows, -1)


@functools.lru_cache(maxsize=1)  # the tests of a task follow one another
def shipped(name: str) -> Shipped:
    task = load_task(name)
    data = getattr(task.problem, "data", None)
    if shape := SHAPES.get(getattr(data, "dataset", "")):
        generator = np.random.default_rng(0)
        arrays = {}
        for split in ("train", "test"):
            pixels = generator.integers(0, 256, (DOWNLOADED, *shape), np.uint8)
            arrays[f"x_{split}"] = pixels.transpose(0, 3, 1, 2) if pixels.ndim == 4 else pixels[:, None]
            arrays[f"y_{split}"] = np.arange(DOWNLOADED) % 10
    else:
        arrays = problems.load_arrays(task, Path())
    return Shipped(task, problems.build(task, arrays))


each_task = pytest.mark.parametrize("name", task_names(), scope="module")


@each_task
def test_its_blocks_are_the_parameters_one_after_the_other_as_many_as_it_says(name: str) -> None:
    one = shipped(name)
    blocks = one.problem.blocks
    assert blocks[0].start == 0
    assert all(before.stop == after.start for before, after in pairwise(blocks))
    assert blocks[-1].stop == one.problem.full_dimension
    assert f"D = {one.problem.full_dimension:,}" in one.task.description
    assert len({block.name for block in blocks}) == len(blocks)
    assert 1 <= one.task.threshold.k_min < one.task.threshold.k_max <= one.problem.full_dimension


@each_task
def test_a_replicate_always_starts_from_the_same_weights_and_no_two_from_equal_ones(name: str) -> None:
    one = shipped(name)
    first, second = one.weights(0, 1)
    assert first.shape == (one.problem.full_dimension,)
    assert first.isfinite().all()
    assert torch.equal(first, one.problem.initial(0))
    assert not torch.equal(first, second)


@each_task
def test_the_gradient_is_the_slope_of_the_loss(name: str) -> None:
    one = shipped(name)
    weights = one.weights(0)
    loss, gradient = one.problem.loss_and_gradient(weights, one.examples(1))
    length = gradient.norm()
    assert gradient.shape == weights.shape
    assert 0 < length < torch.inf
    # Along the gradient, where the slope is largest; so far that the loss changes by some 0.03 % of its size.
    reach = 0.0003 * float(loss) / length**2 * gradient
    either, _ = one.problem.loss_and_gradient(torch.cat([weights - reach, weights + reach]), one.examples(2))
    slope = float(either[1] - either[0]) / (2 * float(reach.norm()))
    assert slope == pytest.approx(float(length), rel=0.03)


@each_task
def test_rows_of_a_pack_do_not_know_of_one_another(name: str) -> None:
    one = shipped(name)
    weights = one.weights(0, 1)
    together = one.problem.loss_and_gradient(weights, one.examples(2))
    for row in (0, 1):
        alone = one.problem.loss_and_gradient(weights[row : row + 1], one.examples(1))
        for mine, its in zip(alone, together, strict=True):
            assert torch.allclose(mine[0], its[row], rtol=1e-3, atol=1e-5 * float(its[row].abs().max()))


@each_task
def test_its_metrics_are_those_of_its_parts_and_within_their_bounds(name: str) -> None:
    one = shipped(name)
    weights, sizes = one.weights(0, 1), one.problem.part_sizes
    whole = one.problem.train_metrics(weights)
    parts = [one.problem.part_metrics(weights, part) for part in range(len(sizes))]
    shares = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    assert (whole.loss >= 0).all()
    assert torch.allclose(whole.loss, sum((s * p.loss for s, p in zip(shares, parts, strict=True)), torch.zeros(2)))
    for accuracy in (whole.accuracy, one.problem.test_accuracy(weights)):
        assert accuracy is None or ((accuracy >= 0) & (accuracy <= 1)).all()


@each_task
def test_its_targets_are_ever_harder_and_the_last_is_not_reached_at_the_start(name: str) -> None:
    one = shipped(name)
    metrics = one.problem.train_metrics(one.weights(0, 1))
    targets = one.task.targets
    assert len({target.metric for target in targets}) == 1
    assert all(easier.reached(harder.level) for easier, harder in pairwise(targets))
    assert not any(targets[-1].reached(metrics.value(targets[-1], row)) for row in (0, 1))


@each_task
def test_a_method_trains_on_it_and_another_training_of_the_same_trial_says_the_same(name: str) -> None:
    one = shipped(name)
    short = {"steps": 2, "evaluate_every": 1}
    task = one.task.model_copy(update={"training": one.task.training.model_copy(update=short), "futility": None})
    method = MethodChoice(name=METHOD.get(task.problem.kind, "random_subspace"))
    low, high = method.build().k_range(one.problem.blocks)
    trial = Trial(k=min(max(low, task.threshold.k_min, 8), high), replicate=0, round=0)
    (first,), (again,) = (run_pack(one.problem, task, method, [trial]) for _ in range(2))
    assert first.status == "trained", first.reason
    assert [point.step for point in first.curve] == [1, 2]
    assert first.curve == again.curve
    assert first.audit is not None
    assert first.audit.measured_k == trial.k


@each_task
def test_every_method_can_be_afforded_on_it(name: str) -> None:
    one = shipped(name)
    budget, steps = one.task.preparation.gradient_evaluations, one.task.full_training.steps
    if one.task.track == "cold":
        assert budget == 0
        return
    iterative_pruning = len(survivors_by_round(one.problem.full_dimension, one.task.threshold.k_min, 0.2)) * steps
    burn_in, lottery = 64, 128 * 4
    assert max(iterative_pruning, lottery, burn_in, steps) <= budget
