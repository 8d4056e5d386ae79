"""Predator and prey: labels are those of a search by hand, networks those of the paper; the engineered solution is exact."""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from lowdim_bench import problems
from lowdim_bench.cli.listings import show_tasks
from lowdim_bench.errors import UserError
from lowdim_bench.problems.arena_data import hide_or_run, predator_range
from lowdim_bench.problems.networks.base import split
from lowdim_bench.problems.networks.pixels import Propagation
from lowdim_bench.problems.pixel_labelling import PixelProblem
from lowdim_bench.specs import load_task
from lowdim_bench.specs.pixels import HideOrRun, PixelLabelling, PixelPropagation, PredatorRange
from tests.problems.pixels import check_losses_and_gradients, check_rows_do_not_mix, pixel_problem
from tests.problems.small import ARENAS, make_task

Kind = Literal["predator_range", "hide_or_run"]
KINDS: tuple[Kind, ...] = ("predator_range", "hide_or_run")
Cell = tuple[int, int]


def drawn(kind: Kind, side: int, longest_path: int, train: int, test: int = 1, draw: int = 0) -> dict[str, np.ndarray]:
    sizes = {"side": side, "longest_path": longest_path, "train_examples": train, "test_examples": test, "draw": draw}
    if kind == "predator_range":
        return predator_range(PredatorRange(kind=kind, **sizes))
    return hide_or_run(HideOrRun(kind=kind, **sizes))


def small(kind: Kind, network: dict[str, Any], side: int = 5, longest_path: int = 2, test: int = 30) -> PixelProblem:
    data = {"kind": kind, "side": side, "longest_path": longest_path, "train_examples": 60, "test_examples": test}
    return pixel_problem(make_task(ARENAS, {"problem": {"data": data, "network": network}}))


def spreading(steps: int) -> dict[str, Any]:
    return {"kind": "pixel_propagation", "steps": steps}


# Data.


def steps_from(sources: Iterable[Cell], free: np.ndarray) -> dict[Cell, int]:
    """Of each cell that can be reached, the steps that it takes."""
    steps = dict.fromkeys(sources, 0)
    waiting = deque(steps)
    while waiting:
        row, column = waiting.popleft()
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            cell = (row + down, column + right)
            if min(cell) >= 0 and max(cell) < len(free) and free[cell] and cell not in steps:
                steps[cell] = steps[row, column] + 1
                waiting.append(cell)
    return steps


def cells(grid: np.ndarray) -> list[Cell]:
    return [(int(row), int(column)) for row, column in np.argwhere(grid)]


def test_a_range_is_what_predators_reach_in_time() -> None:
    arrays = drawn("predator_range", 9, 4, 60)
    for x, y in zip(arrays["x_train"], arrays["y_train"], strict=True):
        free, predators = x.reshape(2, 9, 9)
        assert len(cells(predators)) == 3
        assert (free[predators > 0] == 1).all()
        expected = np.zeros((9, 9), int)
        for cell, steps in steps_from(cells(predators), free).items():
            expected[cell] = max(1, steps) if steps <= 4 else 0
        np.testing.assert_array_equal(y.reshape(9, 9), expected)


def test_the_prey_runs_where_it_is_first_at_the_cave() -> None:
    """Before any predator, and not at the same time."""
    arrays = drawn("hide_or_run", 9, 4, 200)
    ties = 0
    for x, (hide, run) in zip(arrays["x_train"], arrays["y_train"].tolist(), strict=True):
        free, *occupied = x.reshape(4, 9, 9)
        predators, prey, cave = map(cells, occupied)
        assert (len(predators), len(prey), len(cave)) == (3, 1, 1)
        assert len({*predators, *prey, *cave}) == 5
        assert all(free[cell] for cell in (*predators, *prey, *cave))
        hunted, running = (steps_from(one, free).get(cave[0], 1000) for one in (predators, prey))
        assert (hide, run) == ((hunted, 0) if hunted <= running else (0, running))
        ties += hunted == running
    assert ties


def test_every_path_length_and_answer_is_equally_frequent_and_splits_do_not_overlap() -> None:
    arrays = drawn("hide_or_run", 7, 5, 300, 100)
    answers = np.concatenate([arrays["y_train"], arrays["y_test"]])
    assert [np.bincount(column, minlength=6)[1:].tolist() for column in answers.T] == [[40] * 5] * 2
    assert [len(arrays[name]) for name in ("x_train", "y_train", "x_test", "y_test")] == [300, 300, 100, 100]
    again = drawn("hide_or_run", 7, 5, 300, 100)
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    assert not np.array_equal(arrays["x_train"], drawn("hide_or_run", 7, 5, 300, 100, draw=1)["x_train"])


def test_arenas_differ_by_what_is_asked_for() -> None:
    first = drawn("predator_range", 7, 5, 50, 20)
    assert [len(first[name]) for name in ("x_train", "y_train", "x_test", "y_test")] == [50, 50, 20, 20]
    assert np.array_equal(first["x_train"], drawn("predator_range", 7, 5, 50, 20)["x_train"])
    assert not np.array_equal(first["x_train"], drawn("predator_range", 7, 5, 50, 20, draw=1)["x_train"])


def test_obstacles_grow_from_rectangles_and_leave_room() -> None:
    """Rectangles keep off the last row and column, and only inner obstacles grow: so the first row has more of them."""
    free = drawn("predator_range", 15, 12, 4000)["x_train"][:, :225].reshape(-1, 15, 15)
    assert free.mean() == pytest.approx(0.655, abs=0.02)
    assert free[:, -1].mean() > free[:, 0].mean()
    assert 3 <= free.sum(axis=(1, 2)).min() < free.sum(axis=(1, 2)).max() < 225


def test_paths_that_hardly_occur_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowdim_bench.problems.arena_data._ROUNDS_AT_MOST", 1)
    with pytest.raises(UserError, match=r"reached after .*20 steps\. Give a smaller longest_path"):
        drawn("hide_or_run", 5, 20, 90)


# Networks.


@pytest.mark.parametrize(
    ("kind", "side", "network", "count"),
    [
        ("predator_range", 15, spreading(12), 3 * 225 + 1),
        ("predator_range", 15, spreading(30), 3 * 225 + 1),
        ("hide_or_run", 15, spreading(12), 2 * (3 * 225 + 1) + 4),
        ("predator_range", 7, {"kind": "pixel_feed_forward", "layers": 3, "width": 98}, 33_957),
        ("hide_or_run", 7, {"kind": "pixel_feed_forward", "layers": 3, "width": 98}, 38_908),
    ],
)
def test_numbers_are_counted_once_however_often_they_are_used(
    kind: Kind, side: int, network: dict[str, Any], count: int
) -> None:
    data = {"kind": kind, "side": side, "longest_path": 2, "train_examples": 60, "test_examples": 30}
    task = make_task(ARENAS, {"problem": {"data": data, "network": network}})
    blocks = problems.layout(task, {})
    assert blocks[-1].stop == count
    assert all(before.stop == after.start for before, after in pairwise(blocks))
    assert len({block.name for block in blocks}) == len(blocks)


@pytest.mark.parametrize(
    ("task", "dimension"),
    [("predprey15-range", 676), ("predprey15-decision", 1356), ("predprey7-range", 148), ("predprey7-decision", 300)],
)
def test_shipped_tasks_have_the_dimension_that_they_say(task: str, dimension: int) -> None:
    loaded = load_task(task)
    assert problems.layout(loaded, {})[-1].stop == loaded.threshold.k_max == dimension
    assert f"(D = {dimension:,})" in loaded.description or f"(D = {dimension:,}):" in loaded.description


def reference(one: PixelProblem, weights: Tensor, images: Tensor) -> Tensor:
    """Outputs (B, outputs) of one parameter vector: tags cell by cell, as the published code spreads them."""
    spec = one.task.problem
    assert isinstance(spec, PixelLabelling)
    assert isinstance(spec.network, PixelPropagation)
    side, decides = spec.data.side, isinstance(spec.data, HideOrRun)
    parts = {block.name: part[0] for block, part in zip(one.blocks, split(one.blocks, weights[None]), strict=True)}
    free, *sources = images.unflatten(1, (-1, side, side)).unbind(1)
    units = {
        name: source for name, source in zip(("predator", "prey"), sources, strict=False) if f"{name}.weight" in parts
    }
    hide = run = torch.zeros(len(images), dtype=images.dtype)
    for _ in range(spec.network.steps):
        for (name, before), source in zip(units.items(), sources, strict=False):
            around = torch.zeros_like(before)
            around[:, 1:] += before[:, :-1]
            around[:, :-1] += before[:, 1:]
            around[:, :, 1:] += before[:, :, :-1]
            around[:, :, :-1] += before[:, :, 1:]
            own = {part: parts[f"{name}.{part}"].view(side, side) for part in ("weight", "input", "bias")}
            driven = (source > 0).to(images) + own["weight"] * around + own["input"] * free + own["bias"]
            units[name] = (parts[f"{name}.gain"] * driven).tanh()
        if decides:
            cave = (sources[2] > 0).to(images)
            hunted, running = ((units[name] * cave).sum(dim=(1, 2)) for name in ("predator", "prey"))
            sense, inhibit = parts["decision.sense"], parts["decision.inhibit"]
            hide = (sense[0] * hunted + inhibit[0] * run).sigmoid()
            run = (sense[1] * running + inhibit[1] * hide).sigmoid()
    return torch.stack([2 * hide - 1, 2 * run - 1], dim=1) if decides else units["predator"].flatten(1)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_those_of_a_plain_float64_network(kind: Kind) -> None:
    check_losses_and_gradients(small(kind, spreading(3)), reference)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_pack_do_not_mix_and_have_the_same_bits_alone(kind: Kind) -> None:
    check_rows_do_not_mix(small(kind, spreading(3)))


def test_neighbours_start_by_turning_a_cell_on() -> None:
    one = small("hide_or_run", spreading(3))
    first = {block.name: one.initial(0)[block.start : block.stop] for block in one.blocks}
    assert all((first[f"{tag}.weight"] > 0).all() for tag in ("predator", "prey"))
    assert not torch.equal(first["predator.weight"], first["prey.weight"])
    assert not torch.equal(one.initial(0), one.initial(1))
    assert [first[name].tolist() for name in ("decision.sense", "decision.inhibit")] == [[2.0, 2.0], [-2.0, -2.0]]


def test_tasks_are_listed_with_their_sequential_steps_and_operations() -> None:
    """7 x 7 cells have 2 * 7 * 6 borders between them, which a tag crosses both ways; the image enters each cell once."""
    out = io.StringIO()
    names = ("predprey7-range", "predprey7-decision", "predprey7-decision-wide")
    show_tasks([load_task(name) for name in names], {}, out, as_json=True)
    spread, decision, wide = json.loads(out.getvalue())["tasks"]
    tag = 6 * 2 * 2 * 7 * 6 + 49
    assert (spread["sequential_steps"], spread["multiply_accumulates"]) == (6, tag)
    assert (decision["sequential_steps"], decision["multiply_accumulates"]) == (13, 2 * tag + 6 * 4)
    assert (wide["sequential_steps"], wide["multiply_accumulates"]) == (4, 196 * 98 + 2 * 98**2 + 98 * 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {"kind": "pixel_recurrent", "connections": "grid", "steps": 2}}, "choose pixel_propagation or"),
        ({"data": {"kind": "edge_connected_pixels", "side": 5}}, "choose pixel_recurrent or"),
        ({"accuracy": "path_and_distractor"}, "leave accuracy at whole_image"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    if "data" in changes:
        changes["data"] |= {"longest_path": 2, "train_examples": 60, "test_examples": 30}
    with pytest.raises(UserError, match=message):
        make_task(ARENAS, {"problem": changes})


# The known answer.


@pytest.mark.parametrize(
    ("kind", "side", "longest_path"), [(kind, *size) for kind in KINDS for size in ((7, 6), (15, 8))]
)
@pytest.mark.parametrize("steps", [1, 4, 6])
def test_the_engineered_tags_solve_exactly_paths_as_long_as_their_steps(
    kind: Kind, side: int, longest_path: int, steps: int
) -> None:
    """Larsen & Druckmann 2022: w = 0.25, 0.34 and 0.5, a = 1, b = -0.15, gain 20. Of equally frequent path lengths, T of L."""
    one = small(kind, spreading(steps), side, longest_path, test=240)
    assert isinstance(one.network, Propagation)
    weights = one.network.engineered()
    errors = one.test_errors(weights)
    assert errors.by_path_length == {length: float(length > steps) for length in errors.images}
    assert errors.distractor == 0, "no cell is called reached, and no answer given, that is wrong"
    solved = sum(count for length, count in errors.images.items() if length <= steps) / 240
    assert errors.whole_images == pytest.approx(1 - solved)
    assert float(one.test_accuracy(weights[None])[0]) == pytest.approx(solved)
    if kind == "hide_or_run":
        assert solved == pytest.approx(min(1, steps / longest_path), abs=0.09), "the quota is that of all 300 examples"


def test_a_range_goes_on_growing_where_there_are_more_steps_than_were_asked_for() -> None:
    """A decision does not: who was first stays so."""
    one = small("predator_range", spreading(9), 9, 3, test=200)
    assert isinstance(one.network, Propagation)
    errors = one.test_errors(one.network.engineered())
    assert errors.path == 0
    assert errors.distractor > 0.1
    decided = small("hide_or_run", spreading(9), 9, 3, test=200)
    assert isinstance(decided.network, Propagation)
    assert decided.test_errors(decided.network.engineered()).whole_images == 0
