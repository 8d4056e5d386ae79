"""Paths through wells, whose losses are known, and through a small network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lowdim_bench.landscape import average, bezier_curve, linear_path, symmetry, wedge
from lowdim_bench.landscape.training import full_training
from lowdim_bench.problems import Problem
from lowdim_bench.specs import Recipe
from tests.problems.small import BLOBS, WELL, make_task, small_problem

RECIPE = Recipe.model_validate(
    {"optimizer": {"kind": "sgd"}, "learning_rate": {"value": 0.5}, "batch_size": None, "steps": 60}
)
ISOTROPIC = {"problem": {"spectrum": {"kind": "power", "exponent": 0.0}}}
"""L(w) = |w|^2."""


def unit(*coordinates: float) -> Tensor:
    vector = torch.zeros(12)
    vector[: len(coordinates)] = torch.tensor(coordinates)
    return vector


@pytest.fixture(scope="module")
def bowl() -> Problem:
    return small_problem(make_task(WELL, ISOTROPIC))


def test_a_straight_line_through_a_bowl(bowl: Problem) -> None:
    """From (-1) to (3) the loss is (4a - 1)^2: down from 1 to 0, then up to 9; it is convex, so there is no barrier."""
    found = linear_path(bowl, unit(-1), unit(3))
    a = np.linspace(0, 1, 51)
    assert found.losses == pytest.approx((4 * a - 1) ** 2, abs=1e-5)
    lowest = ((4 * a - 1) ** 2).min()
    assert found.rise == pytest.approx(9 - lowest, rel=1e-5)
    assert not found.monotone
    assert found.loss_barrier == 0
    assert (found.distance, found.relative_distance) == pytest.approx((4, 4))
    assert (found.errors, found.error_barrier) == (None, None)


def test_a_line_to_the_minimum_is_monotone(bowl: Problem) -> None:
    assert linear_path(bowl, unit(2, 1), unit()).monotone
    assert np.isnan(linear_path(bowl, unit(), unit(1)).relative_distance)


def test_an_average_lies_below_by_the_variance(bowl: Problem) -> None:
    """|mean|^2 - mean |w|^2 is minus the variance: here -(1 + 1) / 2 and the mean is (0, 2)."""
    found = average(bowl, torch.stack([unit(1, 2), unit(-1, 2)]))
    assert (found.points, found.loss, found.loss_gap) == pytest.approx((2, 4, -1))
    assert found.error_gap is None


def test_a_curve_in_a_bowl_bends_as_least_squares_has_it(bowl: Problem) -> None:
    """The mean of |f_t + s_t bend|^2 is least at bend = -sum s f / sum s^2, and the ends are (1, 0) and (0, 1)."""
    found = bezier_curve(bowl, (unit(1, 0), unit(0, 1)), RECIPE)
    t = (np.arange(8) + 0.5) / 8
    share = 2 * t * (1 - t)
    bend = -np.array([(share * (1 - t) ** 2).sum(), (share * t**2).sum()]) / (share**2).sum()
    t = np.linspace(0, 1, 51)[:, None]
    points = (1 - t) ** 2 * [1, 0] + 2 * t * (1 - t) * bend + t**2 * [0, 1]
    assert found.loss_excess == pytest.approx((points**2).sum(axis=1).max() - 1, abs=1e-4)
    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    assert found.length_ratio == pytest.approx(length / np.sqrt(2), rel=1e-3)
    assert found.length_ratio > 1.1, "it bends towards the minimum"


def test_the_hub_of_a_wedge_in_a_bowl(bowl: Problem) -> None:
    """By symmetry the hub is h (1, 1, 1), where h minimizes the mean of |t e_1 + (1 - t) h (1, 1, 1)|^2."""
    found, hub = wedge(bowl, torch.eye(12)[:3], RECIPE)
    t = (np.arange(8) + 0.5) / 8
    h = -(t * (1 - t)).sum() / (3 * ((1 - t) ** 2).sum())
    assert hub.tolist() == pytest.approx([h] * 3 + [0] * 9, abs=1e-4)
    assert found.loss_excess == pytest.approx(0, abs=1e-5), (
        "the loss is convex, and the spokes' ends are its highest points"
    )
    spoke = np.sqrt((1 - h) ** 2 + 2 * h**2)
    assert found.length_ratio == pytest.approx(2 * spoke / np.sqrt(2), rel=1e-4)


def test_a_network_s_barriers_are_those_of_the_losses_it_shows() -> None:
    problem = small_problem(make_task(BLOBS))
    one, other = (3 * problem.initial(replicate) for replicate in (0, 1))
    found = linear_path(problem, one, other, points=5)
    ways = [one + share * (other - one) for share in (0, 0.25, 0.5, 0.75, 1)]
    metrics = problem.train_metrics(torch.stack(ways))
    assert found.losses == pytest.approx(metrics.loss.tolist(), rel=1e-5)
    assert metrics.accuracy is not None
    errors = 1 - metrics.accuracy.numpy()
    assert found.errors == pytest.approx(errors.tolist())
    assert found.error_barrier == pytest.approx(errors.max() - (errors[0] + errors[4]) / 2)
    chord = np.linspace(found.losses[0], found.losses[4], 5)
    assert found.loss_barrier == pytest.approx((np.array(found.losses) - chord).max())


def test_a_trained_curve_goes_round_a_barrier() -> None:
    """Between a trained network and itself with its neurons in another order, so that both ends have the same loss."""
    task = make_task(BLOBS, {"full_training": {"steps": 200}})
    problem = small_problem(task)
    end = full_training(task, problem, [0]).ends[0]
    ends = end, symmetry.permute(problem, end, 0, np.array([1, 2, 3, 4, 0]))
    straight = linear_path(problem, *ends)
    found = bezier_curve(problem, ends, task.full_training)
    assert straight.losses[0] == pytest.approx(straight.losses[-1], rel=1e-5)
    assert straight.loss_barrier > 0.01
    assert found.loss_excess < 0.5 * straight.loss_barrier
    assert found.error_excess is not None
    assert found.length_ratio >= 1
