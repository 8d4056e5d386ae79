"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import numpy as np
import torch
from torch import Tensor

from lowdim_bench.kernels import mlp
from lowdim_bench.problems.networks.base import Layout, PackedNetwork, runs_compiled


@final
class Mlp(PackedNetwork):
    """Fully connected layers, ReLU between them: one batched matrix product a layer for the whole pack."""

    def __init__(self, inputs: int, hidden: Sequence[int], classes: int) -> None:
        layout = Layout()
        widths = [inputs, *hidden, classes]
        for index, (before, after) in enumerate(pairwise(widths)):
            neurons = index - 1 if index else None, index if index < len(hidden) else None
            layout.dense(f"layer{index}", before, after, neurons)
        super().__init__(layout.blocks)
        self._widths = np.array(widths)

    def forward(self, parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
        values = inputs.flatten(2).expand(parts[0].shape[0], -1, -1)
        for index in range(0, len(parts), 2):
            if index:
                values = values.relu()
            values = torch.baddbmm(parts[index + 1].unsqueeze(1), values, parts[index])
        return values

    def loss_and_gradient(
        self, weights: Tensor, inputs: Tensor, labels: Tensor, examples: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if not runs_compiled(weights):
            return super().loss_and_gradient(weights, inputs, labels, examples)
        if examples is None:
            examples = torch.arange(len(labels)).expand(len(weights), -1)
        losses, gradient = torch.empty(len(weights)), torch.empty(weights.shape)
        mlp.loss_and_gradient(
            weights.contiguous().numpy(),
            inputs.flatten(1).numpy(),
            labels.numpy(),
            examples.contiguous().numpy(),
            self._widths,
            losses.numpy(),
            gradient.numpy(),
        )
        return losses, gradient

    def measure(
        self, weights: Tensor, inputs: Tensor, labels: Tensor, reference: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if not runs_compiled(weights):
            return super().measure(weights, inputs, labels, reference)
        loss, correct = np.empty(len(weights)), np.empty(len(weights), np.int64)
        mlp.evaluate(
            weights.contiguous().numpy(), inputs.flatten(1).numpy(), labels.numpy(), self._widths, loss, correct
        )
        return torch.from_numpy(loss / len(labels)), torch.from_numpy(correct / len(labels))
