"""What training costs in operations, bytes and examples, counted from the network itself: no data and no weights are needed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lowdim_bench.errors import UserError
from lowdim_bench.problems.networks import build_network
from lowdim_bench.problems.networks.transformer import Transformer
from lowdim_bench.problems.text_data import characters
from lowdim_bench.specs import Task
from lowdim_bench.specs.problem import Classification, DigitsData, NextCharacter, TorchvisionData, TorchvisionNetwork

FLOAT = 4
"""Bytes of a number."""
PASSES = 11
"""How often a step reads or writes as many numbers as there are parameters, beside the optimizer's, which has only k: the map
from k numbers (reads offset, places and signs, writes weights: 4), forward and backward pass (read weights twice, write the
gradient, once more as one vector: 4), and the way back to k numbers (reads gradient, places and signs: 3)."""
_DIGITS = 1797
_SHAPES = {"MNIST": (1, 28, 28), "FashionMNIST": (1, 28, 28), "CIFAR10": (3, 32, 32), "CIFAR100": (3, 32, 32)}
_EXAMPLES = {"MNIST": 60_000, "FashionMNIST": 60_000, "CIFAR10": 50_000, "CIFAR100": 50_000}


@dataclass(frozen=True)
class Workload:
    """What one training in k numbers consists of."""

    name: str
    dimension: int
    """D."""
    forward_operations: int
    """Floating-point operations of the loss of one example; a multiplication and an addition are two."""
    activations: int
    """Numbers that the forward pass of one example leaves for the backward pass."""
    examples: int
    batch: int
    statistics_examples: int
    """Examples whose batch statistics each evaluation takes first."""
    steps: int
    evaluations: int
    runs: int
    """Trainings of one trial: one for each learning rate that is tried."""

    @property
    def step_operations(self) -> int:
        """Of one step of one training: a backward pass is two forward ones."""
        return 3 * self.batch * self.forward_operations

    @property
    def step_bytes(self) -> int:
        """Moved in one step of one training beside what the products themselves move."""
        return FLOAT * (PASSES * self.dimension + 2 * self.batch * self.activations)

    @property
    def evaluation_operations(self) -> int:
        """Of one evaluation on the full training set."""
        return (self.examples + self.statistics_examples) * self.forward_operations

    @property
    def trial_bytes(self) -> int:
        """Memory that one more trial in a pack takes: offset, weights, gradient, and that gradient in parts; activations."""
        return FLOAT * (4 * self.dimension + self.batch * self.activations)


def workload(task: Task) -> Workload:
    """Of a task's scored training. Raises `UserError` where the shape of its data cannot be known without reading it."""
    problem, recipe = task.problem, task.training
    runs = len(recipe.learning_rate.multipliers)
    evaluations = math.ceil(recipe.steps / recipe.evaluate_every) + 2  # a confirmation, and the test set
    if isinstance(problem, NextCharacter):
        data, context = problem.data, problem.network.context
        examples = ((data.train_characters or 113_179) - 1) // context
        network = Transformer(problem.network, characters(data))
        # Of each position and layer: two normalizations, queries, keys, values, heads, sums, and the wide layer twice.
        activations = context * problem.network.layers * (16 * problem.network.width + problem.network.heads * context)
        dimension, operations, statistics = network.blocks[-1].stop, 2 * network.multiplications, 0
    elif isinstance(problem, Classification):
        shape, examples = _shape(problem, task.name)
        dimension, operations, activations = count(problem, shape, _classes(problem))
        statistics = min(examples, _statistics_examples(problem))
    else:
        raise UserError(
            f"{task.name} is a {problem.kind}; costs are extrapolated for classification and next_character."
        )
    batch = min(recipe.batch_size or examples, examples)
    return Workload(
        task.name, dimension, operations, activations, examples, batch, statistics, recipe.steps, evaluations, runs
    )


def imagenet_resnet50(epochs: int = 90, batch: int = 256) -> Workload:
    """ResNet-50 on ImageNet (1,281,167 training images, 224 x 224 pixels, 1,000 classes) for as long as He et al. 2016 and
    Goyal et al. 2017 (arXiv 1706.02677) train it, looked at after every fifth epoch."""
    network = TorchvisionNetwork(kind="torchvision", model="resnet50")
    problem = Classification(
        kind="classification", data=TorchvisionData(kind="torchvision", dataset="CIFAR10"), network=network
    )
    dimension, operations, activations = count(problem, (3, 224, 224), 1000)
    images = 1_281_167
    return Workload(
        name="imagenet-resnet50",
        dimension=dimension,
        forward_operations=operations,
        activations=activations,
        examples=images,
        batch=batch,
        statistics_examples=network.statistics_examples,
        steps=epochs * (images // batch),
        evaluations=epochs // 5 + 2,
        runs=1,
    )


def count(problem: Classification, shape: tuple[int, ...], classes: int) -> tuple[int, int, int]:
    """D, and floating-point operations and activations of one example, by running the network without numbers.

    Activations are what autograd keeps for the backward pass, weights aside.
    """
    from torch.utils.flop_counter import FlopCounterMode  # takes a second to import

    network = build_network(problem.network, shape, classes)
    two = 2  # examples: one alone cannot be normalized by its batch
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        of_examples = tensor.shape[:1] == (two,) or tensor.shape[:2] == (1, two)
        kept[id(tensor)] = tensor.numel() if of_examples else 0
        held.append(tensor)  # so that no two have one id
        return tensor

    held: list[Tensor] = []
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        parts = [part.requires_grad_() for part in network.split(torch.zeros(1, network.full_dimension))]
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network.forward(parts, torch.zeros(1, two, *shape))
    return network.full_dimension, counter.get_total_flops() // two, sum(kept.values()) // two


def _shape(problem: Classification, name: str) -> tuple[tuple[int, ...], int]:
    """Shape of an example, and how many there are."""
    if isinstance(problem.data, DigitsData):
        return (1, 8, 8), _DIGITS - problem.data.test_examples
    if isinstance(problem.data, TorchvisionData):
        dataset = problem.data.dataset
        return _SHAPES[dataset], problem.data.train_examples or _EXAMPLES[dataset]
    raise UserError(
        f"The data of {name} are arrays, whose shape is not known before they are read: leave --device out to measure here."
    )


def _classes(problem: Classification) -> int:
    return 100 if isinstance(problem.data, TorchvisionData) and problem.data.dataset == "CIFAR100" else 10


def _statistics_examples(problem: Classification) -> int:
    if isinstance(problem.network, TorchvisionNetwork):
        return problem.network.statistics_examples
    normalization = getattr(problem.network, "normalization", None)
    return normalization.statistics_examples if normalization else 0
