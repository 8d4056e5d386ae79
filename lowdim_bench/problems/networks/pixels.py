"""Networks that label every pixel of an image: feed-forward ones, recurrent ones, and both in a row.

Larsen & Druckmann 2022, doi 10.1371/journal.pcbi.1010227. Shapes: P parameter vectors in the pack, B images, n pixels each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import final

import numpy as np
import torch
from torch import Tensor

from lowdim_bench.problems.networks.base import Layout, lecun_normal
from lowdim_bench.specs.problem import PixelFeedForward, PixelRecurrent

FIRST_GAIN = 2.0
"""Where the trained gain of a recurrent network starts."""


class PixelNetwork(ABC):
    """A network of fixed shape from n pixels to n outputs in (-1, 1)."""

    def __init__(self, layout: Layout) -> None:
        self.blocks = tuple(layout.blocks)
        self.full_dimension = self.blocks[-1].stop

    @abstractmethod
    def forward(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        """Outputs (P, B, n) for images (P or 1, B, n) of -1 and 1; `parts` holds a (P, *shape) tensor for each block."""

    def initial(self, generator: torch.Generator) -> Tensor:
        """Initial parameters (D,): LeCun-normal connections, zero biases, each pixel's own input weight 1, gain 2."""
        weights = lecun_normal(self.blocks, generator)
        for block in self.blocks:
            if block.name == "recurrent.gain":
                weights[block.start : block.stop] = FIRST_GAIN
            elif block.name == "recurrent.input" and len(block.shape) == 1:
                weights[block.start : block.stop] = 1.0  # of a random sign, half of the pixels would see the negative
        return weights


def build_pixel_network(spec: PixelFeedForward | PixelRecurrent, side: int) -> PixelNetwork:
    """The network for images of side x side pixels."""
    return FeedForward(spec, side) if isinstance(spec, PixelFeedForward) else Recurrent(spec, side)


@final
class FeedForward(PixelNetwork):
    """Hidden layers, to some of which the image is added again; one tanh output a pixel."""

    def __init__(self, spec: PixelFeedForward, side: int) -> None:
        pixels = side * side
        width = spec.width or pixels
        self._act = torch.tanh if spec.activation == "tanh" else torch.relu
        self._with_image = [
            bool(layer and spec.input_every and layer % spec.input_every == 0) for layer in range(spec.layers)
        ]
        layout = Layout()
        for layer, (before, after) in enumerate(pairwise([pixels, *[width] * spec.layers, pixels])):
            below, above = layer - 1 if layer else None, layer if layer < spec.layers else None
            layout.dense(f"layer{layer}", before, after, (below, above))
            if layer < spec.layers and self._with_image[layer]:
                layout.add(f"layer{layer}.image", "weight", (pixels, width), pixels, (None, above))
        super().__init__(layout)

    def forward(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        remaining = iter(parts)
        images = images.expand(len(parts[0]), -1, -1)
        values = images
        for with_image in self._with_image:
            values = _dense(values, next(remaining), next(remaining))
            if with_image:
                values = torch.baddbmm(values, images, next(remaining))
            values = self._act(values)
        return _dense(values, next(remaining), next(remaining)).tanh()


@final
class Recurrent(PixelNetwork):
    """u <- tanh(gain * (W u + V x + b)) with the same weights at every step, after feed-forward layers if there are any."""

    def __init__(self, spec: PixelRecurrent, side: int) -> None:
        self._spec = spec
        self._pixels = pixels = side * side
        layout = Layout()
        for layer in range(spec.layers):
            layout.dense(f"layer{layer}", pixels, pixels, (layer - 1 if layer else None, layer))
        self._joined: Tensor | None = None
        if spec.connections == "dense":
            layout.add("recurrent.weight", "weight", (pixels, pixels), pixels)
            layout.add("recurrent.input", "weight", (pixels, pixels), pixels)
        else:
            joined = neighbours(spec.connections, side)
            self._joined = torch.from_numpy(np.flatnonzero(joined))
            layout.add("recurrent.weight", "weight", (len(self._joined),), int(joined.sum(axis=0).max()))
            layout.add("recurrent.input", "weight", (pixels,), 1)
        layout.add("recurrent.bias", "bias", (pixels,), pixels)
        layout.add("recurrent.gain", "gain", (1,), 1)
        if spec.connections == "dense":
            layout.dense("readout", pixels, pixels)
        super().__init__(layout)

    def forward(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        remaining = iter(parts)
        values = images.expand(len(parts[0]), -1, -1)
        for _ in range(self._spec.layers):
            values = _dense(values, next(remaining), next(remaining)).tanh()
        recurrent, entering, bias, gain = (next(remaining) for _ in range(4))
        gain = gain.unsqueeze(2)
        if self._joined is None:
            drive = _dense(values, entering, bias) * gain
            units = torch.zeros_like(drive)
        else:
            drive = (values * entering.unsqueeze(1) + bias.unsqueeze(1)) * gain
            units = torch.full_like(drive, -1.0)
            places = self._joined.to(recurrent.device)
            full = recurrent.new_zeros(len(recurrent), self._pixels**2).index_copy(1, places, recurrent)
            recurrent = full.unflatten(1, (self._pixels, self._pixels))
        recurrent = recurrent * gain
        for _ in range(self._spec.steps):
            units = torch.baddbmm(drive, units, recurrent).tanh()
        return units if self._joined is not None else _dense(units, next(remaining), next(remaining)).tanh()

    def engineered(self) -> Tensor:
        """Parameters (D,) with which `steps` steps label every path of at most `steps` pixels right: a pixel turns on when it
        is on in the image and a neighbour is on. Raises ValueError but for a grid without feed-forward layers."""
        if self._spec.connections != "grid" or self._spec.layers:
            raise ValueError("only a grid without feed-forward layers has an engineered solution")
        values = {"weight": 0.25, "input": 1.0, "bias": -0.15, "gain": 20.0}
        return torch.cat([torch.full(block.shape, values[block.name.split(".")[1]]) for block in self.blocks])


def neighbours(connections: str, side: int) -> np.ndarray:
    """(n, n) bool: whether pixel j hears pixel i, at [i, j]."""
    rows, columns = np.divmod(np.arange(side * side), side)
    down, right = abs(rows[:, None] - rows), abs(columns[:, None] - columns)
    if connections == "square5":
        return (down <= 2) & (right <= 2)
    inner = (rows > 0) & (rows < side - 1) & (columns > 0) & (columns < side - 1)
    return (down + right == 1) & inner


def _dense(values: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(1), values, weights)
