"""Convolutional networks: plain and residual."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lowdim_bench.kernels import convolution
from lowdim_bench.problems.networks.base import Layout, PackedNetwork, runs_compiled
from lowdim_bench.problems.networks.packing import Packing
from lowdim_bench.specs.problem import ResNetwork

Forward = Callable[[Sequence[Tensor], Tensor], Tensor]
"""From one parameter vector's tensors and images (B, channels, height, width) to logits (B, C)."""
Normalization = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From values (B, C, H, W), scale and shift (C,) to values (B, C, H, W)."""


class PerTrialNetwork(PackedNetwork):
    """Convolutional networks run one trial at a time: on a CPU, grouped convolutions are slower than a loop.

    Each works on a copy of its parameters: the last bits of a convolution depend on how its tensors lie in memory, and a row of
    a pack starts anywhere.
    """

    @abstractmethod
    def forward_one(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        """Logits (B, C) of one parameter vector on images (B, channels, height, width)."""

    def forward(self, parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
        return self._one_by_one(self.forward_one, parts, inputs)

    def _one_by_one(self, one: Forward, parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Logits (P, B, C), where `one` works them out for one parameter vector."""
        pack = parts[0].shape[0]
        shared = inputs.shape[0] == 1
        # Channels last: on a CPU the first convolution is then several times faster, and pooling twice.
        images = [
            inputs[0 if shared else row].to(memory_format=torch.channels_last) for row in range(1 if shared else pack)
        ]
        return torch.stack(
            [one([part[row].clone() for part in parts], images[0 if shared else row]) for row in range(pack)]
        )


@final
class ConvNet(PerTrialNetwork):
    """3 x 3 convolution, ReLU and 2 x 2 average pooling for each entry of `channels`, then one dense layer."""

    def __init__(self, image: tuple[int, int, int], channels: Sequence[int], classes: int) -> None:
        layout = Layout()
        before, height, width = image
        for index, after in enumerate(channels):
            layout.conv(f"conv{index}", before, after, 3, bias=True, neurons=(index, index - 1 if index else None))
            before, height, width = after, height // 2, width // 2
        layout.dense("head", before * height * width, classes, (len(channels) - 1, None))
        super().__init__(layout.blocks)
        self._packing = Packing(image, channels, classes)

    def forward_one(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        values = images
        for index in range(0, len(parts) - 2, 2):
            values = functional.conv2d(values, parts[index], parts[index + 1], padding=1)
            values = functional.avg_pool2d(values.relu(), 2)
        return torch.addmm(parts[-1], values.flatten(1), parts[-2])

    def loss_and_gradient(
        self, weights: Tensor, inputs: Tensor, labels: Tensor, examples: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if not runs_compiled(weights):
            return super().loss_and_gradient(weights, inputs, labels, examples)
        if examples is None:
            examples = torch.arange(len(labels)).expand(len(weights), -1)
        losses, gradient = torch.empty(len(weights)), torch.empty(weights.shape)
        convolution.loss_and_gradient(
            weights.contiguous().numpy(),
            inputs.contiguous().numpy(),
            labels.numpy(),
            examples.contiguous().numpy(),
            self._packing.layers,
            self._packing.places,
            self._packing.origin,
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
        convolution.evaluate(
            weights.contiguous().numpy(),
            inputs.contiguous().numpy(),
            labels.numpy(),
            self._packing.layers,
            self._packing.places,
            loss,
            correct,
        )
        return torch.from_numpy(loss / len(labels)), torch.from_numpy(correct / len(labels))


@final
class ResNet(PerTrialNetwork):
    """The residual network of 6n + 2 layers of He et al. 2016, section 4.2, with group normalization."""

    def __init__(self, image: tuple[int, int, int], spec: ResNetwork, classes: int) -> None:
        self._groups = spec.norm_groups
        self._plan: list[tuple[int, bool]] = []  # (stride, has a projection shortcut) of each residual block
        layout = Layout()
        layout.conv("stem.conv", image[0], spec.widths[0], 3, bias=False)
        layout.norm("stem.norm", spec.widths[0])
        before = spec.widths[0]
        for group, after in enumerate(spec.widths):
            for block in range(spec.blocks_per_group):
                stride = 2 if group and not block else 1
                projected = stride != 1 or before != after
                name = f"group{group}.block{block}"
                layout.conv(f"{name}.conv0", before, after, 3, bias=False)
                layout.norm(f"{name}.norm0", after)
                layout.conv(f"{name}.conv1", after, after, 3, bias=False)
                layout.norm(f"{name}.norm1", after)
                if projected:
                    layout.conv(f"{name}.shortcut", before, after, 1, bias=False)
                    layout.norm(f"{name}.shortcut_norm", after)
                self._plan.append((stride, projected))
                before = after
        layout.dense("head", before, classes)
        super().__init__(layout.blocks)

    def forward_one(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        return self._logits(
            parts, images, lambda values, scale, shift: functional.group_norm(values, self._groups, scale, shift)
        )

    def linear(self, parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
        def affine(values: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
            return values * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)

        return self._one_by_one(lambda own, images: self._logits(own, images, affine), parts, inputs)

    def _logits(self, parts: Sequence[Tensor], images: Tensor, normalize: Normalization) -> Tensor:
        """Logits (B, C), with `normalize` in the place of group normalization."""
        remaining = iter(parts)

        def conv_norm(values: Tensor, stride: int) -> Tensor:
            kernel = next(remaining)
            if kernel.shape[-1] == 1:
                # Pixels that a 1 x 1 kernel steps over are left out beforehand: torch 2.15's own way back through such steps,
                # with fewer than eight channels and without AVX-512, writes beyond its memory.
                values, stride = values[:, :, ::stride, ::stride], 1
            values = functional.conv2d(values, kernel, stride=stride, padding=kernel.shape[-1] // 2)
            return normalize(values, next(remaining), next(remaining))

        values = conv_norm(images, 1).relu()
        for stride, projected in self._plan:
            branch = conv_norm(conv_norm(values, stride).relu(), 1)
            shortcut = conv_norm(values, stride) if projected else values
            values = (branch + shortcut).relu()
        head = next(remaining)
        return torch.addmm(next(remaining), values.mean(dim=(2, 3)), head)
