"""Images for labelling by pixel, drawn from the digest of what was asked for (Larsen & Druckmann 2022, task 1)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lowdim_bench.errors import UserError
from lowdim_bench.seeds import derive
from lowdim_bench.specs.pixels import DrawnGrids, EdgeConnectedPixels

_SEED_DENSITY, _STOP, _TURN, _CUT = 0.054, 0.10, 0.25, 0.8
"""Chances: of a pixel to be a seed; of a walk to stop, and to turn, at each step; of a border pixel to be taken off. Set so
that on 15 x 15 images 24 % of the pixels are on, 16 % on a path and 8 % distractors: copying it gets 92 % right."""
_IMAGES_AT_ONCE = 4096
_DRAWS_AT_MOST = 4_000
"""Rounds of images after which an image of some path length is called too rare to wait for."""
_MOVES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])


def edge_connected_pixels(spec: EdgeConnectedPixels) -> dict[str, np.ndarray]:
    """x (N, pixels) uint8: 1 where a pixel is on; y (N, pixels) uint8: its path length, 0 where it is not connected.

    Raises `UserError` where images with paths as long as asked for hardly ever occur.
    """
    generator = np.random.default_rng(derive("edge connected pixels", spec.digest))

    def draw() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images = _images(spec.side, generator)
        depths = path_lengths(images)
        return images, depths, depths.max(axis=(1, 2)) - 1

    count = spec.train_examples + spec.test_examples
    (images, depths), missing = by_quota(draw, spec.longest_path, count, _DRAWS_AT_MOST)
    if len(missing):
        raise UserError(
            f"{_DRAWS_AT_MOST * _IMAGES_AT_ONCE:,} images of {spec.side} x {spec.side} pixels held too few with paths of "
            f"{', '.join(map(str, missing + 1))} pixels. Give a smaller longest_path, a larger side, or fewer examples."
        )
    order = generator.permutation(count)
    images, depths = (array.reshape(count, -1)[order].astype(np.uint8) for array in (images, depths))
    return split_off(spec, images, depths)


def split_off(spec: DrawnGrids, inputs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """What was drawn, (N, ...) each, as training and test examples."""
    train, test = slice(spec.train_examples), slice(spec.train_examples, None)
    return {"x_train": inputs[train], "y_train": labels[train], "x_test": inputs[test], "y_test": labels[test]}


def path_lengths(on: np.ndarray) -> np.ndarray:
    """Of images (N, side, side): pixels on the shortest path from the border to each pixel, itself included, through pixels
    that are on; 0 where there is none."""
    return shortest_paths(on & _border(on.shape[1]), on)


def shortest_paths(sources: np.ndarray, passable: np.ndarray) -> np.ndarray:
    """Of grids (N, side, side): cells on the shortest path from a source to each cell, both included, up, down, left and right
    through cells that are passable; 0 where there is none."""
    lengths = np.zeros(passable.shape, np.int16)
    frontier = sources
    length = 0
    while frontier.any():
        length += 1
        lengths[frontier] = length
        spread = np.zeros_like(frontier)
        spread[:, 1:] |= frontier[:, :-1]
        spread[:, :-1] |= frontier[:, 1:]
        spread[:, :, 1:] |= frontier[:, :, :-1]
        spread[:, :, :-1] |= frontier[:, :, 1:]
        frontier = spread & passable & (lengths == 0)
    return lengths


def by_quota(
    draw: Callable[[], tuple[np.ndarray, ...]], classes: int, count: int, rounds: int
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """`count` examples, every class as often as any other, and the classes of which too few were drawn: none, as a rule.

    `draw` gives a few examples at a time, at most `rounds` times, as arrays of equal length. The last of them says which class
    (0..classes - 1) each is of, or anything else for none; the others are given back.
    """
    missing = np.full(classes, count // classes)
    missing[: count % classes] += 1
    kept: list[tuple[np.ndarray, ...]] = []
    for _ in range(rounds):
        *arrays, found = draw()
        for one in np.flatnonzero(missing):
            rows = np.flatnonzero(found == one)[: missing[one]]
            kept.append(tuple(array[rows] for array in arrays))
            missing[one] -= len(rows)
        if not missing.any():
            break
    return tuple(np.concatenate(parts) for parts in zip(*kept, strict=True)), np.flatnonzero(missing)


def _images(side: int, generator: np.random.Generator) -> np.ndarray:
    """Images (N, side, side) bool: random walks from seed pixels until they stop or leave, then cut off from the border."""
    on = generator.random((_IMAGES_AT_ONCE, side, side)) < _SEED_DENSITY
    image, row, column = np.nonzero(on)
    heading = generator.integers(4, size=len(image))
    while len(image):
        chance = generator.random(len(image))
        turn = np.where(chance < _STOP + _TURN / 2, 1, np.where(chance < _STOP + _TURN, -1, 0))
        heading = (heading + turn) % 4
        row, column = row + _MOVES[heading, 0], column + _MOVES[heading, 1]
        going = (chance >= _STOP) & (row >= 0) & (row < side) & (column >= 0) & (column < side)
        image, row, column, heading = (array[going] for array in (image, row, column, heading))
        on[image, row, column] = True
    on &= ~_border(side) | (generator.random(on.shape) >= _CUT)
    return on


def _border(side: int) -> np.ndarray:
    border = np.zeros((side, side), bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    return border
