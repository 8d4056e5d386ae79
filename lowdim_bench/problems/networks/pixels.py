"""Networks that label the pixels of an image: feed-forward ones, recurrent ones, both in a row, and tags that spread.

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
from lowdim_bench.specs.pixels import HideOrRun, PixelFeedForward, PixelLabelling, PixelPropagation, PixelRecurrent

_NEIGHBOURS = 4
FIRST_GAIN = 2.0
"""Where the trained gain of a recurrent network starts."""
_FIRST_DECISION = {"decision.sense": FIRST_GAIN, "decision.inhibit": -FIRST_GAIN}


class PixelNetwork(ABC):
    """A network of fixed shape from what it sees of n pixels to outputs in (-1, 1)."""

    def __init__(self, layout: Layout) -> None:
        self.blocks = tuple(layout.blocks)
        self.full_dimension = self.blocks[-1].stop

    @abstractmethod
    def forward(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        """Outputs (P, B, outputs) for images (P or 1, B, inputs) of -1 and 1; `parts` holds a (P, *shape) tensor for each
        block."""

    def initial(self, generator: torch.Generator) -> Tensor:
        """Initial parameters (D,): LeCun-normal connections, zero biases, each pixel's own input weight 1, gain 2."""
        weights = lecun_normal(self.blocks, generator)
        for block in self.blocks:
            if block.role == "gain":
                weights[block.start : block.stop] = FIRST_GAIN
            elif block.name.endswith(".input") and len(block.shape) == 1:
                weights[block.start : block.stop] = 1.0  # of a random sign, half of the pixels would see the negative
        return weights


def build_pixel_network(problem: PixelLabelling) -> PixelNetwork:
    """The network of a problem, for its images."""
    match problem.network:
        case PixelFeedForward():
            return FeedForward(problem.network, problem.data.inputs, problem.data.side**2, problem.data.outputs)
        case PixelRecurrent():
            return Recurrent(problem.network, problem.data.side)
        case PixelPropagation():
            decides = isinstance(problem.data, HideOrRun)
            return Propagation(problem.network, problem.data.side, decides=decides)


@final
class FeedForward(PixelNetwork):
    """Hidden layers, to some of which the image is added again; one tanh output a label."""

    def __init__(self, spec: PixelFeedForward, inputs: int, pixels: int, outputs: int) -> None:
        width = spec.width or pixels
        self._act = torch.tanh if spec.activation == "tanh" else torch.relu
        self._with_image = [
            bool(layer and spec.input_every and layer % spec.input_every == 0) for layer in range(spec.layers)
        ]
        layout = Layout()
        for layer, (before, after) in enumerate(pairwise([inputs, *[width] * spec.layers, outputs])):
            below, above = layer - 1 if layer else None, layer if layer < spec.layers else None
            layout.dense(f"layer{layer}", before, after, (below, above))
            if layer < spec.layers and self._with_image[layer]:
                layout.add(f"layer{layer}.image", "weight", (inputs, width), inputs, (None, above))
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


@final
class Propagation(PixelNetwork):
    """Tags spread from their sources to the neighbours of where they are, if these are free.

    The tag of predators is the output. With `decides`, that of the prey spreads at the same time, and two units watch the cave:
    each is turned on by its tag, and off by the other one.
    """

    def __init__(self, spec: PixelPropagation, side: int, *, decides: bool) -> None:
        self._steps, self._decides = spec.steps, decides
        self._joined = torch.from_numpy(adjacent(side)).float()
        layout = Layout()
        for tag in ("predator", "prey") if decides else ("predator",):
            layout.add(f"{tag}.weight", "weight", (side**2,), _NEIGHBOURS)
            layout.add(f"{tag}.input", "weight", (side**2,), 1)
            layout.add(f"{tag}.bias", "bias", (side**2,), 1)
            layout.add(f"{tag}.gain", "gain", (1,), 1)
        if decides:
            layout.add("decision.sense", "weight", (2,), 1)
            layout.add("decision.inhibit", "weight", (2,), 1)
        super().__init__(layout)

    def initial(self, generator: torch.Generator) -> Tensor:
        """As for other networks, but neighbours turn a cell on, never off, and the numbers that decide are 2 and -2: a tag that
        every other cell turns round gets nowhere, and a decision from it has nothing to be trained on."""
        weights = super().initial(generator)
        for block in self.blocks:
            values = weights[block.start : block.stop]
            if block.name in _FIRST_DECISION:
                values.fill_(_FIRST_DECISION[block.name])
            elif block.name.endswith(".weight"):
                values.abs_()
        return weights

    def forward(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        free, *sources = images.expand(len(parts[0]), -1, -1).chunk(4 if self._decides else 2, dim=2)
        cave = (sources.pop() + 1) / 2 if self._decides else None
        # Tags stand beside one another as (P, tags, B, n), and as if they were so many more of the pack where they spread.
        weight, entering, bias, gain = (
            torch.stack(list(parts[i : 4 * len(sources) : 4]), dim=1).unsqueeze(2) for i in range(4)
        )
        units = torch.stack(sources, dim=1)
        drive = (((units + 1) / 2 + free.unsqueeze(1) * entering + bias) * gain).flatten(0, 1)
        recurrent = (self._joined.to(weight) * weight * gain).flatten(0, 1)
        units = units.flatten(0, 1)
        seen: list[Tensor] = []
        for _ in range(self._steps):
            units = torch.baddbmm(drive, units, recurrent).tanh()
            if cave is not None:
                seen.append((units.unflatten(0, (-1, len(sources))) * cave.unsqueeze(1)).sum(dim=3))
        return units if cave is None else _decide(seen, *parts[-2:])

    def engineered(self) -> Tensor:
        """Parameters (D,) with which tags are, after each step, where predators and prey get to in so many steps, and the
        decision is that of who gets to the cave first, or none as long as nobody does.

        Of Larsen & Druckmann 2022: a cell's weight is 0.25, 0.34 at an edge and 0.5 in a corner, so that one neighbour is
        enough to turn it on where it is free, and all of them are too few where it is not.
        """
        count = self._joined.sum(dim=0)
        values = {
            "weight": torch.where(count == _NEIGHBOURS, 0.25, torch.where(count == _NEIGHBOURS - 1, 0.34, 0.5)),
            "input": torch.ones_like(count),
            "bias": torch.full_like(count, -0.15),
            "gain": torch.tensor([20.0]),
            "sense": torch.full((2,), 20.0),
            "inhibit": torch.full((2,), -100.0),
        }
        return torch.cat([values[block.name.split(".")[1]] for block in self.blocks])


def _decide(seen: Sequence[Tensor], sense: Tensor, inhibit: Tensor) -> Tensor:
    """Whether to hide and whether to run, (P, B, 2) in (-1, 1), of what both tags (P, 2, B) were at the cave at each step."""
    sense, inhibit = sense.unsqueeze(2), inhibit.unsqueeze(2)
    hide = run = torch.zeros_like(seen[0][:, 0])
    for tags in seen:
        hide = (sense[:, 0] * tags[:, 0] + inhibit[:, 0] * run).sigmoid()
        run = (sense[:, 1] * tags[:, 1] + inhibit[:, 1] * hide).sigmoid()
    return torch.stack([hide, run], dim=2) * 2 - 1


def adjacent(side: int) -> np.ndarray:
    """(n, n) bool: whether pixels i and j are above, below or beside each other."""
    rows, columns = np.divmod(np.arange(side * side), side)
    return abs(rows[:, None] - rows) + abs(columns[:, None] - columns) == 1


def neighbours(connections: str, side: int) -> np.ndarray:
    """(n, n) bool: whether pixel j hears pixel i, at [i, j]."""
    rows, columns = np.divmod(np.arange(side * side), side)
    down, right = abs(rows[:, None] - rows), abs(columns[:, None] - columns)
    if connections == "square5":
        return (down <= 2) & (right <= 2)
    inner = (rows > 0) & (rows < side - 1) & (columns > 0) & (columns < side - 1)
    return adjacent(side) & inner


def _dense(values: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(1), values, weights)
