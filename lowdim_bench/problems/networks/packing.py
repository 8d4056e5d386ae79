"""Where the compiled kernels of convolutional networks keep a network's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lowdim_bench.kernels.convolution import LANES, TAPS

Places = NDArray[np.int64]


class Packing:
    """The order in which the kernels want the D parameters, and where they keep activations.

    Packed are, layer by layer, kernels (blocks, TAPS, lanes, outs) and biases (outs,), then dense weight (features, classes)
    and bias (classes,); these are in the gradient too. For the way back follow the kernels of all layers but the first, turned
    round (outs / LANES, TAPS, LANES, ins), and zeros, as many as a layer has biases. Channels are filled up to whole blocks.

    `places` has the place of each packed number among the parameters, D for a zero; `origin` (D,) is the inverse. `layers`
    (L + 1, 9) has for each layer the height and width of its input, its lanes (channels in a block) and blocks, the channels of
    its output, where its padded inputs and its sums start in the memory of an image, and its kernel and biases among the
    packed parameters; the last row is that of the dense layer, whose inputs start where that memory ends.
    """

    layers: Places
    places: Places
    origin: Places

    def __init__(self, image: tuple[int, int, int], channels: Sequence[int], classes: int) -> None:
        inside, height, width = image
        features = channels[-1] * (height >> len(channels)) * (width >> len(channels))
        zero = sum((TAPS * i + 1) * o for i, o in pairwise((inside, *channels))) + (features + 1) * classes
        unread = np.arange(zero)
        rows: list[tuple[int, ...]] = []
        forward: list[Places] = []
        back: list[Places] = []
        memory = packed = 0
        for layer, outside in enumerate(channels):
            lanes = LANES if layer else 1
            kernel, bias, unread = np.split(unread, np.cumsum([outside * inside * TAPS, outside]))
            kernel = _filled(_filled(kernel.reshape(outside, inside, TAPS), 0, LANES, zero), 1, lanes, zero)
            bias = _filled(bias, 0, LANES, zero)
            outs, ins, area = len(bias), kernel.shape[1], (height + 2) * (width + 2)
            places = (memory, memory + ins * area, packed, packed + kernel.size)
            rows.append((height, width, lanes, ins // lanes, outs, *places))
            forward += [kernel.reshape(outs, -1, lanes, TAPS).transpose(1, 3, 2, 0), bias]
            if layer:
                back.append(kernel.reshape(-1, LANES, ins, TAPS)[..., ::-1].transpose(0, 3, 1, 2))
            memory += (ins + outs) * area
            packed += kernel.size + bias.size
            inside, height, width = outside, height // 2, width // 2
        weight = _filled(unread[:-classes].reshape(inside, height * width, classes), 0, LANES, zero)
        forward += [weight.reshape(-1, LANES, height * width, classes).transpose(0, 2, 1, 3), unread[-classes:]]
        rows.append((height, width, LANES, len(weight) // LANES, classes, memory, 0, packed, packed + weight.size))
        zeros = np.full(max(row[4] for row in rows[:-1]), zero)
        self.layers = np.array(rows)
        self.places = np.concatenate([part.reshape(-1) for part in (*forward, *back, zeros)])
        self.origin = np.argsort(np.concatenate([part.reshape(-1) for part in forward]), kind="stable")[:zero]


def _filled(places: Places, axis: int, block: int, zero: int) -> Places:
    """Filled up to whole blocks along an axis, with places of zeros."""
    missing = [(0, -size % block if each == axis else 0) for each, size in enumerate(places.shape)]
    return np.pad(places, missing, constant_values=zero)
