"""Cross-entropy of predicting the next character of a text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from lowdim_bench.problems.base import Metrics
from lowdim_bench.problems.differentiated import DifferentiatedProblem, alone
from lowdim_bench.problems.networks.base import EVALUATION_EXAMPLES, split
from lowdim_bench.problems.networks.transformer import Transformer
from lowdim_bench.problems.text_data import characters
from lowdim_bench.specs import Task
from lowdim_bench.specs.problem import NextCharacter


@final
class TextProblem(DifferentiatedProblem):
    """Mean cross-entropy over windows and positions; one window is one example."""

    def __init__(self, task: Task, arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
        spec = task.problem
        assert isinstance(spec, NextCharacter)
        alphabet = characters(spec.data)
        self.network = Transformer(spec.network, alphabet)
        super().__init__(task, self.network.blocks, len(arrays["x_train"]), device)
        self._train, self._test = (
            (torch.tensor(arrays[f"x_{part}"]).to(device), torch.tensor(arrays[f"y_{part}"]).to(device))
            for part in ("train", "test")
        )
        self.chance_loss = math.log(alphabet)

    def initial(self, replicate: int) -> Tensor:
        return self.network.initial(self.generator("initial weights", replicate)).to(self.device)

    def losses(self, parts: Sequence[Tensor], examples: Tensor | None) -> Tensor:
        windows, following = (one.unsqueeze(0) if examples is None else one[examples] for one in self._train)
        logits = self.network.forward(parts, windows)
        wanted = following.expand(logits.shape[:3])
        losses = functional.cross_entropy(logits.flatten(0, 2), wanted.flatten(), reduction="none")
        return losses.view(len(logits), -1).mean(dim=1)

    def hessian_vector(self, weights: Tensor, vectors: Tensor, examples: Tensor | None) -> Tensor:
        """Some windows at a time, and each row alone: second derivatives of all at once would not fit."""
        if examples is None:
            examples = torch.arange(len(self._train[0]), device=self.device).expand(len(weights), -1)
        products = torch.zeros_like(weights)
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivatives
            for row, point in enumerate(alone(weights)):
                for some in examples[row : row + 1].split(EVALUATION_EXAMPLES, dim=1):
                    (product,) = super().hessian_vector(point, vectors[row : row + 1], some)
                    products[row] += product * (some.shape[1] / examples.shape[1])
        return products

    def train_metrics(self, weights: Tensor) -> Metrics:
        return Metrics(*self._measure(weights, *self._train))

    def test_accuracy(self, weights: Tensor) -> Tensor:
        return self._measure(weights, *self._test)[1]

    @torch.no_grad()
    def _measure(self, weights: Tensor, windows: Tensor, following: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and accuracy on all windows (N, T): each (P,), float64, on the CPU."""
        found = torch.zeros(2, len(weights), dtype=torch.float64, device=weights.device)
        for row, point in enumerate(alone(weights)):
            parts = split(self.blocks, point)
            for some, wanted in zip(
                windows.split(EVALUATION_EXAMPLES), following.split(EVALUATION_EXAMPLES), strict=True
            ):
                logits = self.network.forward(parts, some.unsqueeze(0))[0].flatten(0, 1)
                losses = functional.cross_entropy(logits, wanted.flatten(), reduction="none")
                found[0, row] += losses.sum(dtype=torch.float64)
                found[1, row] += (logits.argmax(dim=1) == wanted.flatten()).sum()
        loss, accuracy = (found / windows.numel()).cpu()
        return loss, accuracy
