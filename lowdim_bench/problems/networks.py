"""Networks as functions of flat parameter vectors, for a whole pack of parameter vectors at once.

Shapes: P parameter vectors in the pack, D parameters each, B examples each, C classes. Inputs are (P or 1, B, features) or
(P or 1, B, channels, height, width); a leading 1 means that all of the pack see the same examples.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn import functional

from lowdim_bench.errors import UserError
from lowdim_bench.specs.problem import ConvNetwork, MlpNetwork, Network, ResNetwork


@dataclass(frozen=True)
class Block:
    """One tensor of a network and where it lies in the flat parameter vector."""

    name: str
    role: Literal["weight", "bias", "norm_scale"]
    shape: tuple[int, ...]
    start: int
    fan_in: int

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape)


class _Layout:
    """Collects blocks one after the other."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def add(
        self, name: str, role: Literal["weight", "bias", "norm_scale"], shape: tuple[int, ...], fan_in: int
    ) -> None:
        start = self.blocks[-1].stop if self.blocks else 0
        self.blocks.append(Block(name, role, shape, start, fan_in))

    def dense(self, name: str, inputs: int, outputs: int) -> None:
        self.add(f"{name}.weight", "weight", (inputs, outputs), inputs)
        self.add(f"{name}.bias", "bias", (outputs,), inputs)

    def conv(self, name: str, inputs: int, outputs: int, size: int, *, bias: bool) -> None:
        fan_in = inputs * size * size
        self.add(f"{name}.weight", "weight", (outputs, inputs, size, size), fan_in)
        if bias:
            self.add(f"{name}.bias", "bias", (outputs,), fan_in)

    def norm(self, name: str, channels: int) -> None:
        self.add(f"{name}.scale", "norm_scale", (channels,), channels)
        self.add(f"{name}.shift", "bias", (channels,), channels)


class PackedNetwork(ABC):
    """A network of fixed shape. Subclasses say which blocks it has and how logits come from them."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = tuple(blocks)
        self.full_dimension = self.blocks[-1].stop

    @abstractmethod
    def forward(self, parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Logits (P, B, C). `parts` holds a (P, *shape) tensor for each block, in order."""

    def split(self, weights: Tensor) -> list[Tensor]:
        """Views (P, *shape), one a block, of weights (P, D)."""
        return [weights[:, block.start : block.stop].unflatten(1, block.shape) for block in self.blocks]

    def initial(self, generator: torch.Generator) -> Tensor:
        """Initial parameters (D,): truncated LeCun-normal weights (variance 1 / fan-in), zero biases, unit norm scales."""
        weights = torch.zeros(self.full_dimension)
        for block in self.blocks:
            values = weights[block.start : block.stop]
            if block.role == "weight":
                # flax's lecun_normal: a normal cut at two deviations, rescaled to keep the variance.
                deviation = math.sqrt(1 / block.fan_in) / 0.87962566103423978
                torch.nn.init.trunc_normal_(
                    values, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator
                )
            elif block.role == "norm_scale":
                values.fill_(1.0)
        return weights

    def loss_and_gradient(self, weights: Tensor, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy (P,) and its gradient (P, D), at weights (P, D) on inputs (P, B, ...) and labels (P, B)."""
        # The parts are leaves of their own: one concatenation at the end, instead of a zero-padded (P, D) a slice.
        with torch.enable_grad():
            parts = [part.detach().requires_grad_() for part in self.split(weights)]
            losses = cross_entropy(self.forward(parts, inputs), labels)
            gradients = torch.autograd.grad(losses.sum(), parts)
        return losses.detach(), torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy (P,) of logits (P, B, C) against labels (P, B)."""
    losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(dim=1)


@final
class Mlp(PackedNetwork):
    """Fully connected layers, ReLU between them: one batched matrix product a layer for the whole pack."""

    def __init__(self, inputs: int, hidden: Sequence[int], classes: int) -> None:
        layout = _Layout()
        widths = [inputs, *hidden, classes]
        for index, (before, after) in enumerate(pairwise(widths)):
            layout.dense(f"layer{index}", before, after)
        super().__init__(layout.blocks)

    def forward(self, parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
        values = inputs.flatten(2).expand(parts[0].shape[0], -1, -1)
        for index in range(0, len(parts), 2):
            if index:
                values = values.relu()
            values = torch.baddbmm(parts[index + 1].unsqueeze(1), values, parts[index])
        return values

    @torch.no_grad()
    def loss_and_gradient(self, weights: Tensor, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """As the base class; the chain rule written out, so that products land in the gradient without a copy."""
        parts = self.split(weights)
        layers = range(0, len(parts), 2)
        values = [inputs.flatten(2).expand(len(weights), -1, -1)]
        for index in layers:
            before = values[-1].relu_() if index else values[-1]
            values.append(torch.baddbmm(parts[index + 1].unsqueeze(1), before, parts[index]))
        log_probability = functional.log_softmax(values.pop(), dim=2)
        picked = log_probability.gather(2, labels.unsqueeze(2))
        # d(mean cross-entropy) / d(logits) = (softmax - one-hot) / B
        delta = log_probability.exp_().scatter_add_(2, labels.unsqueeze(2), torch.full_like(picked, -1.0))
        delta.div_(labels.shape[1])
        gradient = torch.empty_like(weights)
        slots = self.split(gradient)
        for index in reversed(layers):
            before = values.pop()
            slots[index].copy_(torch.bmm(before.transpose(1, 2), delta))
            slots[index + 1].copy_(delta.sum(dim=1))
            if index:
                delta = torch.bmm(delta, parts[index].transpose(1, 2)).mul_(before > 0)
        return -picked.squeeze(2).mean(dim=1), gradient


class _PerTrialNetwork(PackedNetwork):
    """Convolutional networks run one trial at a time: on a CPU, grouped convolutions are slower than a loop."""

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
            [self.forward_one([part[row] for part in parts], images[0 if shared else row]) for row in range(pack)]
        )


@final
class ConvNet(_PerTrialNetwork):
    """3 x 3 convolution, ReLU and 2 x 2 average pooling for each entry of `channels`, then one dense layer."""

    def __init__(self, image: tuple[int, int, int], channels: Sequence[int], classes: int) -> None:
        layout = _Layout()
        before, height, width = image
        for index, after in enumerate(channels):
            layout.conv(f"conv{index}", before, after, 3, bias=True)
            before, height, width = after, height // 2, width // 2
        layout.dense("head", before * height * width, classes)
        super().__init__(layout.blocks)

    def forward_one(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        values = images
        for index in range(0, len(parts) - 2, 2):
            values = functional.conv2d(values, parts[index], parts[index + 1], padding=1)
            values = functional.avg_pool2d(values.relu(), 2)
        return torch.addmm(parts[-1], values.flatten(1), parts[-2])


@final
class ResNet(_PerTrialNetwork):
    """The residual network of 6n + 2 layers of He et al. 2016, section 4.2, with group normalization."""

    def __init__(self, image: tuple[int, int, int], spec: ResNetwork, classes: int) -> None:
        self._groups = spec.norm_groups
        self._plan: list[tuple[int, bool]] = []  # (stride, has a projection shortcut) of each residual block
        layout = _Layout()
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


def build_network(spec: Network, example_shape: Sequence[int], classes: int) -> PackedNetwork:
    """The network for examples of a shape (features,) or (channels, height, width). Raises `UserError` on a misfit."""
    if isinstance(spec, MlpNetwork):
        return Mlp(math.prod(example_shape), spec.hidden, classes)
    if len(example_shape) != 3:
        raise UserError(
            f"A {spec.kind} needs images (channels, height, width); the data has shape {tuple(example_shape)}."
        )
    image = (example_shape[0], example_shape[1], example_shape[2])
    if isinstance(spec, ConvNetwork):
        if min(image[1:]) < 2 ** len(spec.channels):
            raise UserError(
                f"{len(spec.channels)} poolings need images of at least {2 ** len(spec.channels)} pixels a side."
            )
        return ConvNet(image, spec.channels, classes)
    if any(width % spec.norm_groups for width in spec.widths):
        raise UserError(f"norm_groups ({spec.norm_groups}) must divide every width of {spec.widths}.")
    return ResNet(image, spec, classes)
