"""Cross-entropy of a network on labelled examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import final

import numpy as np
import torch
from torch import Tensor

from lowdim_bench.errors import UserError
from lowdim_bench.problems.base import Metrics, Problem
from lowdim_bench.problems.networks import build_network
from lowdim_bench.problems.networks.base import EVALUATION_EXAMPLES
from lowdim_bench.specs import Task
from lowdim_bench.specs.problem import Classification

_MOST_PARTS = 64
"""Of the training set: enough that a quarter of them is a fair sample, few enough that their losses are no burden to keep."""


@final
class ClassificationProblem(Problem):
    """Mean cross-entropy. Inputs are scaled to [0, 1], then the training set's mean of each pixel is taken off."""

    def __init__(self, task: Task, arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
        spec = task.problem
        assert isinstance(spec, Classification)
        scale = _scale(arrays["x_train"])
        inputs = torch.tensor(arrays["x_train"]).float().div_(scale)
        mean = inputs.mean(dim=0)
        self.inputs = inputs.sub_(mean).to(device)
        self.labels = torch.tensor(arrays["y_train"]).long().to(device)
        self._test_inputs = torch.tensor(arrays["x_test"]).float().div_(scale).sub_(mean).to(device)
        self._test_labels = torch.tensor(arrays["y_test"]).long().to(device)
        classes = int(self.labels.max()) + 1
        self.network = build_network(spec.network, tuple(inputs.shape[1:]), classes)
        super().__init__(task, self.network.blocks, len(self.labels), device)
        self.chance_loss = math.log(classes)

    def initial(self, replicate: int) -> Tensor:
        return self.network.initial(self.generator("initial weights", replicate)).to(self.device)

    def loss_and_gradient(self, weights: Tensor, examples: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.network.loss_and_gradient(weights, self.inputs, self.labels, examples)

    def train_metrics(self, weights: Tensor) -> Metrics:
        return Metrics(*self.network.measure(weights, self.inputs, self.labels))

    @property
    def part_sizes(self) -> tuple[int, ...]:
        if self.network.has_statistics:  # each part would take a pass over all of the data
            return (len(self.labels),)
        bounds = self._bounds()
        return tuple(stop - start for start, stop in pairwise(bounds))

    def part_metrics(self, weights: Tensor, part: int) -> Metrics:
        if len(self.part_sizes) == 1:
            return self.train_metrics(weights)
        start, stop = self._bounds()[part : part + 2]
        return Metrics(*self.network.measure(weights, self.inputs[start:stop], self.labels[start:stop]))

    def _bounds(self) -> list[int]:
        """Where parts of the training set begin, and its end."""
        count = len(self.labels)
        parts = min(max(1, count // EVALUATION_EXAMPLES), _MOST_PARTS)
        return [count * part // parts for part in range(parts + 1)]

    def hessian_vector(self, weights: Tensor, vectors: Tensor, examples: Tensor | None) -> Tensor:
        return self.network.hessian_vector(weights, vectors, self.inputs, self.labels, examples)

    def error_norms(self, weights: Tensor) -> Tensor:
        return self.network.error_norms(weights, self.inputs, self.labels)

    def example_losses(self, weights: Tensor) -> Tensor:
        """Cross-entropy (P, N) of every training example at weights (P, D), as it is evaluated."""
        return self.network.example_losses(weights, self.inputs, self.labels)

    def synaptic_flow(self, weights: Tensor) -> Tensor:
        return self.network.synaptic_flow(weights, self.inputs.shape[1:])

    def test_accuracy(self, weights: Tensor) -> Tensor:
        return self.network.measure(weights, self._test_inputs, self._test_labels, self.inputs)[1]

    @torch.no_grad()
    def test_predictions(self, weights: Tensor) -> Tensor:
        """The most likely class (P, N) of every test example at weights (P, D), on the CPU."""
        parts, statistics = self.network.split(weights), self.network.statistics(weights, self.inputs)
        chunks = [some.unsqueeze(0) for some in self._test_inputs.split(EVALUATION_EXAMPLES)]
        return torch.cat([self.network.evaluate(parts, some, statistics).argmax(dim=2) for some in chunks], dim=1).cpu()


def _scale(inputs: np.ndarray) -> float:
    """What brings the inputs to [0, 1]: 255 for bytes, else the largest magnitude of the training set."""
    if inputs.dtype == np.uint8:
        return 255.0
    largest = float(np.abs(inputs).max()) if inputs.size else 0.0
    if not np.isfinite(largest) or largest == 0.0:
        raise UserError("The training inputs are empty, all zero or not finite; nothing can be learnt from them.")
    return largest
