"""Labelling pixels: images with equal shares of path lengths, networks of the paper's sizes, and the engineered solution."""

from __future__ import annotations

import io
import json
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lowdim_bench import problems
from lowdim_bench.cli.listings import show_tasks
from lowdim_bench.errors import UserError
from lowdim_bench.problems.networks.base import split
from lowdim_bench.problems.networks.pixels import PixelNetwork, build_pixel_network, neighbours
from lowdim_bench.problems.pixel_data import edge_connected_pixels, path_lengths
from lowdim_bench.problems.pixel_labelling import PixelProblem
from lowdim_bench.specs import load_task
from lowdim_bench.specs.pixels import EdgeConnectedPixels, PixelFeedForward, PixelLabelling, PixelRecurrent
from tests.problems.pixels import check_losses_and_gradients, check_rows_do_not_mix, pixel_problem
from tests.problems.small import PIXELS, make_task


def data(side: int, longest_path: int, train: int, test: int = 1, draw: int = 0) -> EdgeConnectedPixels:
    return EdgeConnectedPixels(
        kind="edge_connected_pixels",
        side=side,
        longest_path=longest_path,
        train_examples=train,
        test_examples=test,
        draw=draw,
    )


def recurrent(connections: Any, steps: int, layers: int = 0) -> PixelRecurrent:
    return PixelRecurrent(kind="pixel_recurrent", connections=connections, steps=steps, layers=layers)


def feed_forward(layers: int, width: int | None = None, **more: Any) -> PixelFeedForward:
    return PixelFeedForward(kind="pixel_feed_forward", layers=layers, width=width, **more)


def network_of(network: PixelFeedForward | PixelRecurrent, side: int) -> PixelNetwork:
    return build_pixel_network(PixelLabelling(kind="pixel_labelling", data=data(side, 1, 1), network=network))


SMALL = {
    "grid": recurrent("grid", 3),
    "square5": recurrent("square5", 3),
    "dense": recurrent("dense", 3),
    "hybrid": recurrent("grid", 2, layers=1),
    "hybrid-dense": recurrent("dense", 2, layers=2),
    "deep": feed_forward(4),
    "wide": feed_forward(2, 40),
    "relu": feed_forward(2, activation="relu"),
    "skip": feed_forward(5, 9, input_every=2),
}


def small(network: PixelFeedForward | PixelRecurrent, **problem: Any) -> PixelProblem:
    changes = {"problem": {"network": network.model_dump(mode="json"), **problem}}
    return pixel_problem(make_task(PIXELS, changes))


# Data.


def breadth_first(on: np.ndarray) -> np.ndarray:
    """Path lengths of one image, pixel by pixel."""
    side = len(on)
    lengths = np.zeros((side, side), int)
    waiting = deque(
        (row, column, 1)
        for row in range(side)
        for column in range(side)
        if on[row, column] and (row in {0, side - 1} or column in {0, side - 1})
    )
    while waiting:
        row, column, length = waiting.popleft()
        if not (0 <= row < side and 0 <= column < side and on[row, column]) or lengths[row, column]:
            continue
        lengths[row, column] = length
        waiting.extend((row + down, column + right, length + 1) for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)))
    return lengths


def test_labels_are_path_lengths_from_the_border() -> None:
    arrays = edge_connected_pixels(data(9, 6, 60))
    for on, lengths in zip(arrays["x_train"], arrays["y_train"], strict=True):
        np.testing.assert_array_equal(breadth_first(on.reshape(9, 9)), lengths.reshape(9, 9))
    ring = np.zeros((1, 5, 5), bool)
    ring[0, 1:4, 1:4] = True
    assert not path_lengths(ring).any()


def test_every_path_length_is_equally_frequent_and_splits_do_not_overlap() -> None:
    arrays = edge_connected_pixels(data(7, 6, 400, 200))
    lengths = np.concatenate([arrays["y_train"], arrays["y_test"]]).max(axis=1)
    assert np.bincount(lengths).tolist() == [0, *[100] * 6]
    assert [len(arrays[name]) for name in ("x_train", "y_train", "x_test", "y_test")] == [400, 400, 200, 200]
    again = edge_connected_pixels(data(7, 6, 400, 200))
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    assert not np.array_equal(arrays["x_train"], edge_connected_pixels(data(7, 6, 400, 200, draw=1))["x_train"])


def test_images_are_as_those_of_the_paper() -> None:
    """15 x 15: 24.2 % on, 15.8 % path, 8.4 % distractors; copying the image labels 91.65 % of the pixels right."""
    arrays = edge_connected_pixels(data(15, 25, 2000))
    on, path = arrays["x_train"] > 0, arrays["y_train"] > 0
    assert on.mean() == pytest.approx(0.242, abs=0.01)
    assert path.mean() == pytest.approx(0.158, abs=0.01)
    assert (on == path).mean() == pytest.approx(0.9165, abs=0.005)


def test_paths_that_hardly_occur_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowdim_bench.problems.pixel_data._DRAWS_AT_MOST", 2)
    with pytest.raises(UserError, match=r"too few with paths of .*9 pixels\. Give a smaller longest_path"):
        edge_connected_pixels(data(3, 9, 90))


# Networks.


@pytest.mark.parametrize(
    ("network", "side", "count"),
    [
        (recurrent("grid", 12), 15, 1_127),
        (recurrent("dense", 30), 15, 152_326),
        (feed_forward(5), 15, 305_100),
        (feed_forward(20), 15, 1_067_850),
        (feed_forward(30), 15, 1_576_350),
        (recurrent("grid", 12), 9, 359),
        (recurrent("dense", 12), 9, 19_846),
        (feed_forward(1), 9, 13_284),
        (feed_forward(12), 9, 86_346),
        (feed_forward(3, 324), 9, 263_493),
        (recurrent("square5", 3), 9, 39**2 + 2 * 81 + 1),
        (recurrent("grid", 3, layers=2), 9, 359 + 2 * 81 * 82),
        (feed_forward(5, 10, input_every=2), 9, 81 * 10 + 4 * 100 + 5 * 10 + 10 * 81 + 81 + 2 * 81 * 10),
    ],
)
def test_networks_have_as_many_parameters_as_the_paper_says(network: Any, side: int, count: int) -> None:
    """Weights shared over steps are one number each, and connections that are absent are none."""
    built = network_of(network, side)
    assert built.full_dimension == count
    assert all(before.stop == after.start for before, after in zip(built.blocks, built.blocks[1:], strict=False))
    assert len({block.name for block in built.blocks}) == len(built.blocks)


def reference(one: PixelProblem, weights: Tensor, images: Tensor) -> Tensor:
    """Outputs (B, n) of one parameter vector, with the connections of a recurrent network looked up one by one."""
    spec = one.task.problem
    assert isinstance(spec, PixelLabelling)
    network = spec.network
    parts = {block.name: part[0] for block, part in zip(one.blocks, split(one.blocks, weights[None]), strict=True)}
    if isinstance(network, PixelFeedForward):
        values = images
        for layer in range(network.layers + 1):
            values = values @ parts[f"layer{layer}.weight"] + parts[f"layer{layer}.bias"]
            if f"layer{layer}.image" in parts:
                values = values + images @ parts[f"layer{layer}.image"]
            last = layer == network.layers
            values = values.tanh() if last or network.activation == "tanh" else values.clamp_min(0)
        return values
    assert isinstance(network, PixelRecurrent)
    for layer in range(network.layers):
        images = (images @ parts[f"layer{layer}.weight"] + parts[f"layer{layer}.bias"]).tanh()
    weight, into = parts["recurrent.weight"], parts["recurrent.input"]
    if network.connections == "dense":
        matrix, units = weight, torch.zeros_like(images)
    else:
        joined = neighbours(network.connections, spec.data.side)
        matrix, into, units = torch.zeros(joined.shape, dtype=weight.dtype), into.diag(), -torch.ones_like(images)
        for value, (source, target) in zip(weight, np.argwhere(joined), strict=True):
            matrix[source, target] = value
    for _ in range(network.steps):
        units = (parts["recurrent.gain"] * (units @ matrix + images @ into + parts["recurrent.bias"])).tanh()
    if network.connections == "dense":
        units = (units @ parts["readout.weight"] + parts["readout.bias"]).tanh()
    return units


@pytest.mark.parametrize("network", SMALL.values(), ids=SMALL)
def test_losses_and_gradients_are_those_of_a_plain_float64_network(network: Any) -> None:
    check_losses_and_gradients(small(network), reference)


@pytest.mark.parametrize("network", [SMALL["grid"], SMALL["skip"]], ids=["grid", "skip"])
def test_products_with_the_hessian_are_slopes_of_the_gradient(network: Any) -> None:
    """In float32, as the problem computes: so the slope is taken over a step that rounding does not fill."""
    one = small(network)
    weights, examples = torch.stack([one.initial(0)]), torch.arange(60)[None]
    vectors = torch.nn.functional.normalize(torch.stack([one.initial(1)]))
    up, down = (one.loss_and_gradient(weights + sign * 1e-2 * vectors, examples)[1] for sign in (1, -1))
    found = one.hessian_vector(weights, vectors, examples)
    torch.testing.assert_close(found, (up - down) / 2e-2, rtol=0.02, atol=0.02 * float(found.abs().max()))


@pytest.mark.parametrize("network", SMALL.values(), ids=SMALL)
def test_rows_of_a_pack_do_not_mix_and_have_the_same_bits_alone(network: Any) -> None:
    check_rows_do_not_mix(small(network))


@pytest.mark.parametrize("name", ["deep", "wide", "relu", "skip", "dense", "hybrid-dense"])
def test_operations_are_as_many_as_torch_counts_where_no_connection_is_absent(name: str) -> None:
    one = small(SMALL[name])
    with FlopCounterMode(display=False) as counter:
        one.network.forward(split(one.blocks, one.initial(0)[None]), torch.ones(1, 1, 25))
    assert problems.forward_operations(one.task, {}) == counter.get_total_flops()


def test_a_grid_multiplies_only_where_there_are_connections_and_waits_for_every_step() -> None:
    def spec(network: PixelFeedForward | PixelRecurrent) -> PixelLabelling:
        return PixelLabelling(kind="pixel_labelling", data=data(9, 5, 10), network=network)

    grid = spec(recurrent("grid", 12))
    assert (grid.sequential_steps, grid.multiply_accumulates) == (12, 12 * 4 * 49 + 81)
    assert spec(recurrent("square5", 2)).multiply_accumulates == 2 * 39**2 + 81
    assert spec(recurrent("grid", 12, layers=2)).sequential_steps == 14
    assert spec(recurrent("dense", 12)).sequential_steps == 13
    assert spec(feed_forward(3)).sequential_steps == 4


def test_tasks_are_listed_with_their_sequential_steps_and_operations() -> None:
    out = io.StringIO()
    show_tasks([load_task("pixels7-grid"), load_task("pixels7-wide"), load_task("digits-mlp")], {}, out, as_json=True)
    grid, wide, digits = json.loads(out.getvalue())["tasks"]
    assert (grid["sequential_steps"], grid["multiply_accumulates"]) == (9, 9 * 4 * 25 + 49)
    assert (wide["sequential_steps"], wide["multiply_accumulates"]) == (4, 2 * 49 * 196 + 2 * 196**2)
    assert (digits["sequential_steps"], digits["multiply_accumulates"]) == (None, None)


# The known answer.


@pytest.fixture(scope="module")
def paper_images() -> dict[str, np.ndarray]:
    """500 images of 15 x 15 pixels for testing, 20 of each path length up to 25."""
    arrays = edge_connected_pixels(data(15, 25, 499))
    joined = {axis: np.concatenate([arrays[f"{axis}_train"], arrays[f"{axis}_test"]]) for axis in "xy"}
    return {f"{axis}_{split}": joined[axis] for axis in "xy" for split in ("train", "test")}


@pytest.mark.parametrize("steps", [5, 10, 15, 20, 25])
def test_the_engineered_grid_solves_exactly_paths_as_long_as_its_steps(
    steps: int, paper_images: dict[str, np.ndarray]
) -> None:
    """Larsen & Druckmann 2022: whole-image accuracy is T / 25."""
    images = {"side": 15, "longest_path": 25, "train_examples": 499, "test_examples": 1}
    task = make_task(
        PIXELS,
        {"problem": {"data": images, "network": recurrent("grid", steps).model_dump(mode="json")}},
    )
    one = PixelProblem(task, paper_images, torch.device("cpu"))
    weights = one.network.engineered()  # type: ignore[union-attr]
    errors = one.test_errors(weights)
    assert errors.whole_images == pytest.approx(1 - steps / 25, abs=1e-12)
    assert errors.by_path_length == {length: float(length > steps) for length in range(1, 26)}
    assert errors.distractor == 0
    assert float(one.test_accuracy(weights[None])[0]) == pytest.approx(steps / 25)


@pytest.mark.parametrize("accuracy", ["whole_image", "path_and_distractor"])
def test_accuracies_are_counted_as_they_say(accuracy: str) -> None:
    """Of a network that copies its image: wrong at every distractor, and nowhere else."""
    one = small(recurrent("grid", 1), accuracy=accuracy)
    copying = torch.cat(
        [torch.full(b.shape, float(b.name in {"recurrent.input", "recurrent.gain"})) for b in one.blocks]
    )
    arrays = problems.load_arrays(one.task, Path())
    distractors = (arrays["x_train"] > 0) & (arrays["y_train"] == 0)
    found = one.train_metrics(copying[None])
    assert found.accuracy is not None
    expected = 0.5 if accuracy == "path_and_distractor" else 1 - distractors.any(axis=1).mean()
    assert float(found.accuracy[0]) == pytest.approx(expected)
    errors = one.test_errors(copying)
    assert (errors.path, errors.distractor) == (0.0, 1.0)
    wanted = torch.where(torch.from_numpy(arrays["y_train"] > 0), 1.0, -1.0)
    outputs = (torch.from_numpy(arrays["x_train"]).float() * 2 - 1).tanh()
    assert float(found.loss[0]) == pytest.approx(float((outputs - wanted).square().mean()), rel=1e-5)


def test_only_a_grid_has_an_engineered_solution() -> None:
    for network in (recurrent("dense", 3), recurrent("grid", 3, layers=1)):
        with pytest.raises(ValueError, match="only a grid"):
            network_of(network, 5).engineered()  # type: ignore[union-attr]
