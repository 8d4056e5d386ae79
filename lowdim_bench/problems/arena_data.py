"""Arenas with obstacles, predators, a prey and a cave, drawn from the digest of what was asked for.

Larsen & Druckmann 2022, task 2. Obstacles, and who starts where, follow their published code (druckmann-lab/predPreyTask),
whose rectangles have sides of 2 to 7 cells in an arena of 15.
"""

from __future__ import annotations

import numpy as np

from lowdim_bench.errors import UserError
from lowdim_bench.problems.pixel_data import by_quota, shortest_paths, split_off
from lowdim_bench.seeds import derive
from lowdim_bench.specs.pixels import HideOrRun, PredatorRange

_PREDATORS = 3
_GROWTH = 0.15
"""The chance of each of the eight cells around a new inner obstacle to become one as well."""
_AROUND = np.array([(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right])
_ARENAS_AT_ONCE = 4096
_ROUNDS_AT_MOST = 250
"""A million arenas, after which a path length is called too rare to wait for."""


def predator_range(spec: PredatorRange) -> dict[str, np.ndarray]:
    """x (N, 2 cells) uint8: 1 where a cell is free, then 1 where a predator is; y (N, cells) uint8: the steps, at least 1, that
    the nearest predator takes to a cell, 0 where that is more than `longest_path` or there is no way."""
    generator = np.random.default_rng(derive("predator range", spec.digest))
    count = spec.train_examples + spec.test_examples
    inputs: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    while sum(map(len, inputs)) < count:
        free = _free_cells(spec.side, generator)
        free, (predators,) = _placed(free, [_PREDATORS], generator)
        lengths = shortest_paths(predators, free)
        steps = np.where(lengths > spec.longest_path + 1, 0, np.where(predators, 1, np.maximum(lengths - 1, 0)))
        inputs.append(_flat(free, predators))
        labels.append(_flat(steps))
    return split_off(spec, np.concatenate(inputs)[:count], np.concatenate(labels)[:count])


def hide_or_run(spec: HideOrRun) -> dict[str, np.ndarray]:
    """x (N, 4 cells) uint8: 1 where a cell is free, then where predators are, the prey and the cave; y (N, 2) uint8: the steps
    to the cave of who gets there first, at hide where that is a predator, else at run, and 0 at the other one.

    Raises `UserError` where arenas with paths as long as asked for hardly ever occur.
    """
    generator = np.random.default_rng(derive("hide or run", spec.digest))

    def draw() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        free = _free_cells(spec.side, generator)
        free, (predators, prey, cave) = _placed(free, [_PREDATORS, 1, 1], generator)
        hunted, running = (shortest_paths(one, free)[cave] for one in (predators, prey))  # of one cave in each arena
        hide = (hunted > 0) & ((running == 0) | (hunted <= running))
        steps = np.where(hide, hunted, running) - 1  # minus one where nobody gets there
        answers = np.stack([steps * hide, steps * ~hide], axis=1)
        known = (steps >= 1) & (steps <= spec.longest_path)
        return _flat(free, predators, prey, cave), answers, np.where(known, 2 * (steps - 1) + ~hide, -1)

    count = spec.train_examples + spec.test_examples
    (inputs, answers), missing = by_quota(draw, 2 * spec.longest_path, count, _ROUNDS_AT_MOST)
    if len(missing):
        raise UserError(
            f"{_ROUNDS_AT_MOST * _ARENAS_AT_ONCE:,} arenas of {spec.side} x {spec.side} cells held too few in which the cave "
            f"is reached after {', '.join(map(str, np.unique(missing // 2 + 1)))} steps. Give a smaller longest_path, a "
            "larger side, or fewer examples."
        )
    order = generator.permutation(count)
    return split_off(spec, inputs[order], answers[order].astype(np.uint8))


def _free_cells(side: int, generator: np.random.Generator) -> np.ndarray:
    """Where arenas (N, side, side) bool have no obstacle: two to four rectangles that grew."""
    taken = np.zeros((_ARENAS_AT_ONCE, side, side), bool)
    rectangles = generator.integers(2, 5, size=_ARENAS_AT_ONCE)
    cells = np.arange(side)
    for rectangle in range(4):
        starts = generator.integers(0, side - 3, size=(2, _ARENAS_AT_ONCE, 1))
        sizes = generator.integers(2, side // 2 + 1, size=(2, _ARENAS_AT_ONCE, 1))
        down, right = (cells >= starts) & (cells < np.minimum(starts + sizes, side - 1))
        taken |= down[:, :, None] & right[:, None, :] & (rectangles > rectangle)[:, None, None]
    arena, row, column = np.nonzero(taken)
    while len(arena):
        inner = (row > 0) & (row < side - 1) & (column > 0) & (column < side - 1)
        arena, row, column = arena[inner], row[inner], column[inner]
        grows, towards = np.nonzero(generator.random((len(arena), len(_AROUND)), np.float32) < _GROWTH)
        arena, row, column = arena[grows], row[grows] + _AROUND[towards, 0], column[grows] + _AROUND[towards, 1]
        reached = np.unique(np.ravel_multi_index((arena, row, column), taken.shape))
        new = reached[~taken.flat[reached]]
        taken.flat[new] = True
        arena, row, column = np.unravel_index(new, taken.shape)
    return ~taken


def _placed(free: np.ndarray, counts: list[int], generator: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """Those arenas (N, side, side) that have room, and where in them so many of each kind are, on different free cells."""
    free = free[free.sum(axis=(1, 2)) >= sum(counts)]
    lots = np.where(free, generator.random(free.shape, np.float32), 2).reshape(len(free), -1)
    drawn = np.argsort(lots, axis=1)[:, : sum(counts)]
    placed: list[np.ndarray] = []
    for cells in np.split(drawn, np.cumsum(counts)[:-1], axis=1):
        there = np.zeros(lots.shape, bool)
        np.put_along_axis(there, cells, True, axis=1)
        placed.append(there.reshape(free.shape))
    return free, placed


def _flat(*grids: np.ndarray) -> np.ndarray:
    """Grids (N, side, side), one after the other, as (N, numbers) uint8."""
    return np.concatenate([grid.reshape(len(grid), -1) for grid in grids], axis=1).astype(np.uint8)
