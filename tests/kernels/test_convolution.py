"""Convolutional networks' kernels: exact gradients whatever the sizes, the same bits in every pack, nothing out of bounds."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lowdim_bench.kernels import convolution
from lowdim_bench.problems.networks import ConvNet, PackedNetwork
from lowdim_bench.problems.networks.packing import Packing

# (image, channels, classes): whole and partial blocks of channels, one and two blocks a tile, rows that tiles fit and do not,
# odd sizes, whose last row and column are not pooled, and images of a single window.
SHAPES = [
    ((1, 28, 28), (16, 32), 10),
    ((3, 32, 32), (32, 64), 10),
    ((3, 13, 15), (40, 17, 33), 3),
    ((1, 7, 5), (16,), 100),
    ((2, 2, 2), (1,), 2),
]
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = convolution.SLOTS + 3
"""In a mini-batch: the last group of images is smaller than the others."""


def draw(image: tuple[int, int, int], channels: tuple[int, ...], classes: int) -> tuple[ConvNet, list[Tensor]]:
    """A network with three parameter vectors, twenty labelled images and the examples that each vector sees."""
    network, generator = ConvNet(image, channels, classes), torch.Generator().manual_seed(5)
    weights = torch.stack([network.initial(generator) for _ in range(3)])
    weights += 0.05 * torch.randn(weights.shape, generator=generator)
    inputs = torch.randn(20, *image, generator=generator)
    labels = torch.randint(0, classes, (20,), generator=generator)
    return network, [weights, inputs, labels, torch.randint(0, 20, (3, EXAMPLES), generator=generator)]


@pytest.mark.parametrize(("image", "channels", "classes"), SHAPES)
def test_gradients_are_those_of_autograd_in_float64(
    image: tuple[int, int, int], channels: tuple[int, ...], classes: int
) -> None:
    network, (weights, inputs, labels, examples) = draw(image, channels, classes)
    loss, gradient = network.loss_and_gradient(weights, inputs, labels, examples)
    expected, slope = PackedNetwork.loss_and_gradient(network, weights.double(), inputs.double(), labels, examples)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    # Autograd in float32 is as far off: a sum within rounding of zero may pass a ReLU in one precision only.
    single = PackedNetwork.loss_and_gradient(network, weights, inputs, labels, examples)[1]
    allowed = 2 * float((single - slope).abs().max()) + 1e-6 * float(slope.abs().max())
    assert float((gradient - slope).abs().max()) <= allowed


@pytest.mark.parametrize(("image", "channels", "classes"), SHAPES)
def test_a_row_gets_the_same_bits_alone_and_after_others(
    image: tuple[int, int, int], channels: tuple[int, ...], classes: int
) -> None:
    network, (weights, inputs, labels, examples) = draw(image, channels, classes)
    together = network.loss_and_gradient(weights, inputs, labels, examples)
    measured = network.measure(weights, inputs, labels)
    for row in range(3):
        only = slice(row, row + 1)
        alone = network.loss_and_gradient(weights[only].clone(), inputs, labels, examples[only].clone())
        assert all(torch.equal(one, pack[only]) for one, pack in zip(alone, together, strict=True))
        alone = network.measure(weights[only].clone(), inputs, labels)
        assert all(torch.equal(one, pack[only]) for one, pack in zip(alone, measured, strict=True))


# Prints a digest of every shape's losses and gradients, with tiles for registers of another length than this machine's.
OTHER_TILES = """
from lowdim_bench.kernels import vectors
vectors.WIDE = not vectors.WIDE
from tests.kernels.test_convolution import SHAPES, digest_of
print(*[digest_of(*shape) for shape in SHAPES])
"""


def digest_of(image: tuple[int, int, int], channels: tuple[int, ...], classes: int) -> str:
    network, (weights, inputs, labels, examples) = draw(image, channels, classes)
    found = *network.loss_and_gradient(weights, inputs, labels, examples), *network.measure(weights, inputs, labels)
    return hashlib.sha256(b"".join(values.numpy().tobytes() for values in found)).hexdigest()


@pytest.mark.slow
def test_long_and_short_registers_give_the_same_bits(tmp_path: Path) -> None:
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path)
    }  # what is compiled here is for no processor that there is
    other = subprocess.run(
        [sys.executable, "-c", OTHER_TILES], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout.split() == [digest_of(*shape) for shape in SHAPES]


@pytest.mark.parametrize(("image", "channels", "classes"), SHAPES)
def test_packed_parameters_lead_back_to_the_parameters(
    image: tuple[int, int, int], channels: tuple[int, ...], classes: int
) -> None:
    network, packing = ConvNet(image, channels, classes), Packing(image, channels, classes)
    size = network.full_dimension
    assert packing.places.min() == 0
    assert packing.places.max() == size
    assert np.array_equal(packing.places[packing.origin], np.arange(size))


@pytest.mark.parametrize("wrong", [-1, 20, 10**12])
def test_an_example_outside_the_data_is_an_error_and_no_crash(wrong: int) -> None:
    network, (weights, inputs, labels, examples) = draw(*SHAPES[-1])
    examples[1, 4] = wrong
    with pytest.raises(IndexError, match="outside the data"):
        network.loss_and_gradient(weights, inputs, labels, examples)
