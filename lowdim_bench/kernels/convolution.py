"""A plain convolutional network with cross-entropy at its end, for packs of parameter vectors: for each layer 3 x 3
convolution, ReLU and 2 x 2 average pooling, then one dense layer.

A few images go forward and back together, so that their activations stay in the caches, in memory that is allocated once.
Activations lie in blocks of `LANES` channels, (blocks, height + 2, width + 2, LANES), in a margin of zeros: a convolution is
then a sum of matrix products, and no input has to be copied for them. Numbers of channels are filled up with zeros, but for
the images' own, whose blocks have one channel. The tables of `problems.networks.packing` say where
everything lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdim_bench.kernels.compiling import compiled
from lowdim_bench.kernels.pooling import pool_row, unpool_row
from lowdim_bench.kernels.tiles import tile
from lowdim_bench.kernels.vectors import LANES, WIDE

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

SLOTS = 8
"""Images that go forward and back together, for the sake of the dense layer."""
CHUNK = 256
"""Images whose features an evaluation keeps."""
TAPS = 9
"""Weights of a kernel from one channel to another."""
_SLACK = 16 * LANES  # how far tiles read beyond what they need


# As many sums as there are registers for, and at least as many as additions under way: one that does not fit is stored and
# loaded again for each product, which takes three times as long. Rows of 28 and 14 pixels, as MNIST has, get their own sizes.
# Each sum is added up in the same order whatever the sizes, so that processors with long and short registers agree to the bit.
_VECTORS = 2 if WIDE else 1
_PIXELS = 8 if WIDE else 4
_SEVENS = 14 if WIDE else 5
_TAPS = TAPS if WIDE else 3
_FIRST_1, _FIRST_2 = tile(_PIXELS, 1, 1, _PIXELS), tile(_PIXELS, 2, 1, _PIXELS)
_INNER_1, _INNER_2 = tile(_PIXELS, 1, LANES, _PIXELS), tile(_PIXELS, 2, LANES, _PIXELS)
_INNER_SEVENS_1, _INNER_SEVENS_2 = tile(_SEVENS, 1, LANES, _SEVENS), tile(7, 2, LANES, 7)
_FIRST_TAPS_1, _FIRST_TAPS_2 = tile(_TAPS, 1, 1, 3), tile(_TAPS, 2, 1, 3)
_INNER_TAPS_1, _INNER_TAPS_2 = tile(_TAPS, 1, LANES, 3), tile(_TAPS, 2, LANES, 3)


@compiled
def _convolve(
    memory: Floats,
    source_at: int,
    lanes: int,
    blocks: int,
    packed: Floats,
    kernel: int,
    bias: int,
    outs: int,
    out: Floats,
    out_at: int,
    margin: int,
    height: int,
    width: int,
) -> None:
    """out (outs / LANES, height, width, LANES), from `out_at` on and within a margin, = bias + source * kernel.

    The source (blocks, height + 2, width + 2, lanes) is in memory; kernel (blocks, TAPS, lanes, outs), bias (outs,) in packed.
    """
    row, out_row = (width + 2) * lanes, (width + 2 * margin) * LANES
    plane, out_plane = (height + 2) * row, (height + 2 * margin) * out_row
    counts = (height, blocks, 3, 3 * lanes)
    for first in range(0, outs, _VECTORS * LANES):
        both = _VECTORS == 2 and first + LANES < outs
        sevens = width % 7 == 0 and lanes == LANES
        pixels = (7 if both else _SEVENS) if sevens else _PIXELS
        b_at = (kernel + first, 0, TAPS * lanes * outs, 3 * lanes * outs, outs, LANES)
        base_at = (bias + first, 0, 0, LANES)
        for x in range(0, width, pixels):
            a_at = (source_at + x * lanes, row, plane, row, 1, 0)
            start = out_at + (first // LANES) * out_plane + margin * out_row + (margin + x) * LANES
            to = (start, out_row, LANES, out_plane)
            some = min(pixels, width - x)
            if lanes == 1:
                if both:
                    _FIRST_2(memory, a_at, packed, b_at, counts, packed, base_at, out, to, some)
                else:
                    _FIRST_1(memory, a_at, packed, b_at, counts, packed, base_at, out, to, some)
            elif both:
                if sevens:
                    _INNER_SEVENS_2(memory, a_at, packed, b_at, counts, packed, base_at, out, to, some)
                else:
                    _INNER_2(memory, a_at, packed, b_at, counts, packed, base_at, out, to, some)
            elif sevens:
                _INNER_SEVENS_1(memory, a_at, packed, b_at, counts, packed, base_at, out, to, some)
            else:
                _INNER_1(memory, a_at, packed, b_at, counts, packed, base_at, out, to, some)


@compiled
def _kernel_gradient(
    memory: Floats,
    source_at: int,
    lanes: int,
    blocks: int,
    delta_at: int,
    outs: int,
    height: int,
    width: int,
    slopes: Floats,
    kernel: int,
) -> None:
    """Add an image's share to the gradient of a kernel, in slopes; source and the gradient at the sums are in memory."""
    row, delta_row = (width + 2) * lanes, (width + 2) * LANES
    delta_plane = (height + 2) * delta_row
    for first in range(0, outs, _VECTORS * LANES):
        both = _VECTORS == 2 and first + LANES < outs
        start = delta_at + (first // LANES) * delta_plane + delta_row + LANES
        b_at = (start, 0, 0, delta_row, LANES, delta_plane)
        for block in range(blocks):
            source, to = source_at + block * (height + 2) * row, kernel + block * TAPS * lanes * outs + first
            if WIDE or lanes == 1:  # taps side by side, one channel after the other
                counts = (lanes, 1, height, width)
                for tap in range(0, TAPS, _TAPS):
                    a_at = (source + tap // 3 * row, 1, 0, row, lanes, row)
                    out_at = (to + tap * lanes * outs, outs, lanes * outs, LANES)
                    if lanes == 1:
                        if both:
                            _FIRST_TAPS_2(memory, a_at, memory, b_at, counts, slopes, out_at, slopes, out_at, _TAPS)
                        else:
                            _FIRST_TAPS_1(memory, a_at, memory, b_at, counts, slopes, out_at, slopes, out_at, _TAPS)
                    elif both:
                        _INNER_TAPS_2(memory, a_at, memory, b_at, counts, slopes, out_at, slopes, out_at, _TAPS)
                    else:
                        _INNER_TAPS_1(memory, a_at, memory, b_at, counts, slopes, out_at, slopes, out_at, _TAPS)
            else:  # channels side by side, three taps one after the other
                counts = (3, 1, height, width)
                for tap in range(0, TAPS, 3):
                    for lane in range(0, lanes, _PIXELS):
                        a_at = (source + tap // 3 * row + lane, lanes, 0, row, lanes, 0)
                        out_at = (to + (tap * lanes + lane) * outs, lanes * outs, outs, LANES)
                        _FIRST_1(memory, a_at, memory, b_at, counts, slopes, out_at, slopes, out_at, _PIXELS)


@compiled
def _relu_pool(
    memory: Floats, sums: int, outs: int, height: int, width: int, pooled: Floats, pooled_at: int, margin: int
) -> None:
    """pooled (outs / LANES, height // 2, width // 2, LANES), from `pooled_at` on and within a margin: means of positive parts.

    The sums (outs / LANES, height + 2, width + 2, LANES) are in memory.
    """
    row, out_row = (width + 2) * LANES, (width // 2 + 2 * margin) * LANES
    for block in range(outs // LANES):
        start = sums + block * (height + 2) * row + row + LANES
        to = pooled_at + (block * (height // 2 + 2 * margin) + margin) * out_row + margin * LANES
        for y in range(height // 2):
            pool_row(memory, (start + 2 * y * row, row), pooled, (to + y * out_row,), width // 2)


@compiled
def _relu_pool_backward(
    above: Floats, memory: Floats, sums: int, outs: int, height: int, width: int, slopes: Floats, bias: int
) -> None:
    """The sums (outs / LANES, height + 2, width + 2, LANES) in memory become the gradient at them, from the one above
    (outs / LANES, height // 2, width // 2, LANES), flat; it is added up at `bias` of slopes.

    Pixels that no window covers, in the last row or column of an odd size, get zero.
    """
    row, windows, even = (width + 2) * LANES, width // 2, height // 2 * 2
    totals = np.empty(2 * windows * LANES, np.float32)
    for block in range(outs // LANES):
        totals[:] = 0
        start = sums + block * (height + 2) * row + row + LANES
        for y in range(0, even, 2):
            first = (block * even + y) // 2 * windows * LANES
            unpool_row(above, (first,), memory, (start + y * row, row), totals, (0,), windows)
        if width % 2:
            for y in range(height):
                memory[start + y * row + 2 * windows * LANES : start + y * row + width * LANES] = 0
        if height % 2:
            memory[start + even * row : start + even * row + width * LANES] = 0
        to = slopes[bias + block * LANES : bias + (block + 1) * LANES]
        for x in range(2 * windows):
            for c in range(LANES):
                to[c] += totals[x * LANES + c]


@compiled
def _forward(image: Floats, layers: Places, packed: Floats, memory: Floats, features: Floats) -> None:
    """An image (channels, height, width) to features (blocks * height * width * LANES,); inputs and sums stay in memory."""
    height, width = image.shape[1], image.shape[2]
    for c in range(image.shape[0]):
        for y in range(height):
            start = (c * (height + 2) + y + 1) * (width + 2) + 1
            to, source = memory[start : start + width], image[c, y]
            for x in range(width):
                to[x] = source[x]
    for layer in range(len(layers) - 1):
        height, width, lanes, blocks, outs, inputs, sums, kernel, bias = layers[layer]
        _convolve(memory, inputs, lanes, blocks, packed, kernel, bias, outs, memory, sums, 1, height, width)
        if layer + 2 < len(layers):  # into the next layer's inputs, which follow
            _relu_pool(memory, sums, outs, height, width, memory, sums + outs * (height + 2) * (width + 2), 1)
        else:
            _relu_pool(memory, sums, outs, height, width, features, 0, 0)


@compiled
def _backward(above: Floats, layers: Places, packed: Floats, zeros: int, memory: Floats, slopes: Floats) -> None:
    """Add an image's share to slopes, in the order of the packed parameters; above, the gradient at its features, is lost."""
    flipped = zeros
    for layer in range(len(layers) - 2, -1, -1):
        height, width, lanes, blocks, outs, inputs, sums, kernel, bias = layers[layer]
        _relu_pool_backward(above, memory, sums, outs, height, width, slopes, bias)
        _kernel_gradient(memory, inputs, lanes, blocks, sums, outs, height, width, slopes, kernel)
        flipped -= blocks * lanes * TAPS * outs
        if layer:
            _convolve(
                memory, sums, LANES, outs // LANES, packed, flipped, zeros, blocks * lanes, above, 0, 0, height, width
            )


@compiled
def _softmax(logits: Floats, label: Any, share: float) -> float:
    """Cross-entropy of logits (C,), which become share * (softmax - one-hot); NaN if any is not finite."""
    top, span, mass = logits.max(), np.float32(0), 0.0
    for c in range(len(logits)):
        logits[c] -= top
        span += logits[c]
        mass += np.exp(np.float64(logits[c]))
    if not np.isfinite(span):
        return np.nan
    loss = np.log(mass) - np.float64(logits[label])
    for c in range(len(logits)):
        logits[c] = share * (np.exp(np.float64(logits[c])) / mass)
    logits[label] -= np.float32(share)
    return loss


@compiled
def _dense(features: Floats, packed: Floats, layers: Places, logits: Floats) -> None:
    """logits (B, C) = features (B, F) @ weight + bias."""
    weight, bias = layers[-1, 7], layers[-1, 8]
    np.dot(features, packed[weight:bias].reshape(features.shape[1], logits.shape[1]), logits)
    for place in range(logits.shape[0]):
        for c in range(logits.shape[1]):
            logits[place, c] += packed[bias + c]


@compiled
def _gather(weights: Floats, places: Places, packed: Floats) -> None:
    """packed[i] = weights[places[i]], and zero where that is beyond the end."""
    for i in range(len(places)):
        packed[i] = weights[places[i]] if places[i] < len(weights) else np.float32(0)


@compiled
def _features(
    images: Floats, examples: Places, layers: Places, packed: Floats, memory: Floats, features: Floats
) -> None:
    """Fill features (B, F) of the images of some examples (B,), each with a row of memory of its own."""
    for slot in range(len(examples)):
        if not 0 <= examples[slot] < len(images):
            raise IndexError("an example's index lies outside the data")
        _forward(images[examples[slot]], layers, packed, memory[slot], features[slot])


@compiled
def loss_and_gradient(
    weights: Floats,
    images: Floats,
    labels: Places,
    examples: Places,
    layers: Places,
    places: Places,
    origin: Places,
    losses: Floats,
    gradients: Floats,
) -> None:
    """Fill losses (P,) and gradients (P, D) at weights (P, D); layers, places and origin are those of a `Packing`.

    images (N, channels, height, width) and labels (N,) are the data, examples (P, B) the indices that each row sees; float32
    and int64, C order. A row whose logits are not finite gets NaN in both.
    """
    batch, classes, end = examples.shape[1], layers[-1, 4], layers[-1, 8] + layers[-1, 4]
    width, zeros = layers[-1, 0] * layers[-1, 1] * layers[-1, 3] * LANES, len(places) - layers[:-1, 4].max()
    memory = np.zeros((SLOTS, layers[-1, 5] + _SLACK), np.float32)
    packed, slopes = np.empty(len(places), np.float32), np.empty(end, np.float32)
    features, wrong = np.empty((batch, width), np.float32), np.empty((batch, classes), np.float32)
    back, above = np.empty((SLOTS, width), np.float32), np.empty(layers[-1, 5], np.float32)
    head = packed[layers[-1, 7] : layers[-1, 8]].reshape(width, classes)
    for row in range(len(examples)):
        _gather(weights[row], places, packed)
        slopes[:] = 0
        loss = 0.0
        for start in range(0, batch, SLOTS):
            some = min(SLOTS, batch - start)
            seen, logits = features[start : start + some], wrong[start : start + some]
            _features(images, examples[row, start : start + some], layers, packed, memory, seen)
            _dense(seen, packed, layers, logits)
            for slot in range(some):
                loss += _softmax(logits[slot], labels[examples[row, start + slot]], 1 / batch)
            if not np.isfinite(loss):
                break
            np.dot(logits, head.T, back[:some])
            for slot in range(some):
                above[:width] = back[slot]
                _backward(above, layers, packed, zeros, memory[slot], slopes)
        if not np.isfinite(loss):
            losses[row], gradients[row] = np.nan, np.nan
            continue
        losses[row] = loss / batch
        np.dot(features.T, wrong, slopes[layers[-1, 7] : layers[-1, 8]].reshape(width, classes))
        for place in range(batch):
            for c in range(classes):
                slopes[layers[-1, 8] + c] += wrong[place, c]
        _gather(slopes, origin, gradients[row])


@compiled
def evaluate(
    weights: Floats,
    images: Floats,
    labels: Places,
    layers: Places,
    places: Places,
    losses: NDArray[np.float64],
    correct: Places,
) -> None:
    """Fill losses (P,), sums over all N examples, and correct (P,), how many are classified rightly."""
    width = layers[-1, 0] * layers[-1, 1] * layers[-1, 3] * LANES
    memory, packed = np.zeros(layers[-1, 5] + _SLACK, np.float32), np.empty(len(places), np.float32)
    features, scores = np.empty((CHUNK, width), np.float32), np.empty((CHUNK, layers[-1, 4]), np.float32)
    for row in range(len(weights)):
        _gather(weights[row], places, packed)
        losses[row], correct[row] = 0.0, 0
        for start in range(0, len(labels), CHUNK):
            some = min(CHUNK, len(labels) - start)
            for place in range(some):
                _forward(images[start + place], layers, packed, memory, features[place])
            logits = scores[:some]
            _dense(features[:some], packed, layers, logits)
            for place in range(some):
                correct[row] += logits[place].argmax() == labels[start + place]
                losses[row] += _softmax(logits[place], labels[start + place], 1.0)
