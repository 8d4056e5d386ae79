"""Convolutional networks: plain and residual."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from lowdim_bench.kernels import pooling
from lowdim_bench.kernels.mlp import softmax_rows
from lowdim_bench.problems.networks.base import Layout, PackedNetwork, runs_compiled
from lowdim_bench.specs.problem import ResNetwork

_EXAMPLES_AT_ONCE = 32
"""How many examples of a mini-batch go forward and back together: few enough that their activations stay in the caches, and
that their memory is used again rather than asked for anew."""


class _PerTrialNetwork(PackedNetwork):
    """Convolutional networks run one trial at a time: on a CPU, grouped convolutions are slower than a loop.

    Each works on a copy of its parameters: the last bits of a convolution depend on how its tensors lie in memory, and a row of
    a pack starts anywhere.
    """

    @abstractmethod
    def forward_one(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        """Logits (B, C) of one parameter vector on images (B, channels, height, width)."""

    def forward(self, parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
        pack = parts[0].shape[0]
        shared = inputs.shape[0] == 1
        # Channels last: on a CPU the first convolution is then several times faster, and pooling twice.
        images = [
            inputs[0 if shared else row].to(memory_format=torch.channels_last) for row in range(1 if shared else pack)
        ]
        return torch.stack(
            [
                self.forward_one([part[row].clone() for part in parts], images[0 if shared else row])
                for row in range(pack)
            ]
        )


@final
class ConvNet(_PerTrialNetwork):
    """3 x 3 convolution, ReLU and 2 x 2 average pooling for each entry of `channels`, then one dense layer."""

    def __init__(self, image: tuple[int, int, int], channels: Sequence[int], classes: int) -> None:
        layout = Layout()
        before, height, width = image
        for index, after in enumerate(channels):
            layout.conv(f"conv{index}", before, after, 3, bias=True)
            before, height, width = after, height // 2, width // 2
        layout.dense("head", before * height * width, classes)
        super().__init__(layout.blocks)

    def forward_one(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        # The compiled pooling knows nothing of autograd.
        pool = _relu_pool if runs_compiled(images) and not torch.is_grad_enabled() else _relu_pool_with_autograd
        values = images
        for index in range(0, len(parts) - 2, 2):
            values = pool(functional.conv2d(values, parts[index], parts[index + 1], padding=1))
        return torch.addmm(parts[-1], values.flatten(1), parts[-2])

    @torch.no_grad()
    def loss_and_gradient(
        self, weights: Tensor, inputs: Tensor, labels: Tensor, examples: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As the base class, with the chain rule written out: autograd spends more time on ReLU and pooling than on
        convolutions, which are near the machine's limit."""
        if not runs_compiled(weights):
            return super().loss_and_gradient(weights, inputs, labels, examples)
        losses, gradients = [], torch.empty(weights.shape)
        for row, vector in enumerate(weights):
            parts = [part[0] for part in self.split(vector.clone().unsqueeze(0))]
            gradient = torch.zeros(vector.shape)
            slots = [slot[0] for slot in self.split(gradient.unsqueeze(0))]
            own = torch.arange(len(labels)) if examples is None else examples[row]
            loss = 0.0
            for some in own.split(_EXAMPLES_AT_ONCE):
                loss += self._accumulate(parts, inputs[some], labels[some], len(some) / len(own), slots)
            losses.append(loss)
            gradients[row] = gradient
        return torch.tensor(losses), gradients

    def _accumulate(
        self, parts: Sequence[Tensor], images: Tensor, labels: Tensor, share: float, slots: Sequence[Tensor]
    ) -> float:
        """`share` of the mean loss of one parameter vector on images (B, channels, height, width); adds as much of its
        gradient to the slots."""
        pooled = [images.to(memory_format=torch.channels_last)]  # `contiguous` does nothing where there is one channel
        sums: list[Tensor] = []
        for index in range(0, len(parts) - 2, 2):
            sums.append(functional.conv2d(pooled[-1], parts[index], parts[index + 1], padding=1))
            pooled.append(_relu_pool(sums[-1]))
        features = pooled.pop()
        flat = features.flatten(1)
        wrong = torch.addmm(parts[-1], flat, parts[-2])
        loss = share * softmax_rows(wrong.numpy(), labels.numpy())
        if not math.isfinite(loss):
            for slot in slots:
                slot.fill_(math.nan)
            return math.nan
        wrong *= share
        slots[-2].addmm_(flat.T, wrong)
        slots[-1].add_(wrong.sum(dim=0))
        above = torch.mm(wrong, parts[-2].T).view(features.shape)
        for index in range(len(parts) - 4, -1, -2):
            kernel = parts[index]
            delta = _relu_pool_backward(above, sums.pop())
            wanted = [index > 0, True, True]
            above, kernel_gradient, bias_gradient = torch.ops.aten.convolution_backward(
                delta, pooled.pop(), kernel, [len(kernel)], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted
            )
            slots[index].add_(kernel_gradient)
            slots[index + 1].add_(bias_gradient)
        return loss


def _relu_pool(values: Tensor) -> Tensor:
    """2 x 2 means of the positive parts of (B, C, H, W), channels last in memory."""
    pixels = values.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    batch, height, length, depth = pixels.shape
    pooled = torch.empty(batch, height // 2, length // 2, depth)
    pooling.relu_pool(pixels.numpy(), pooled.numpy())
    return pooled.permute(0, 3, 1, 2)


def _relu_pool_backward(above: Tensor, values: Tensor) -> Tensor:
    """The gradient at (B, C, H, W) values, from the one at their pooling; channels last in memory."""
    pixels = values.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    wrong = torch.empty(pixels.shape)
    source = above.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    pooling.relu_pool_backward(source.numpy(), pixels.numpy(), wrong.numpy())
    return wrong.permute(0, 3, 1, 2)


def _relu_pool_with_autograd(values: Tensor) -> Tensor:
    return functional.avg_pool2d(values.relu(), 2)


@final
class ResNet(_PerTrialNetwork):
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
        remaining = iter(parts)

        def conv_norm(values: Tensor, stride: int) -> Tensor:
            kernel = next(remaining)
            values = functional.conv2d(values, kernel, stride=stride, padding=kernel.shape[-1] // 2)
            return functional.group_norm(values, self._groups, next(remaining), next(remaining))

        values = conv_norm(images, 1).relu()
        for stride, projected in self._plan:
            branch = conv_norm(conv_norm(values, stride).relu(), 1)
            shortcut = conv_norm(values, stride) if projected else values
            values = (branch + shortcut).relu()
        head = next(remaining)
        return torch.addmm(next(remaining), values.mean(dim=(2, 3)), head)
