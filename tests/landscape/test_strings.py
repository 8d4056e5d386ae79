"""Strings through a bowl, round a ring, and between two trainings of a small network."""

from __future__ import annotations

import math
from typing import final

import pytest
import torch
from torch import Tensor

from lowdim_bench.landscape import linear_path, string
from lowdim_bench.landscape.training import full_training
from lowdim_bench.problems import Metrics, Problem
from lowdim_bench.specs import Recipe
from tests.problems.small import BLOBS, WELL, make_task, small_problem

RECIPE = Recipe.model_validate(
    {"optimizer": {"kind": "sgd"}, "learning_rate": {"value": 0.1}, "batch_size": None, "steps": 200}
)


@final
class Ring(Problem):
    """L(w) = (|w|^2 - 1)^2: all minima lie on the unit sphere, and between two of them the loss rises."""

    def __init__(self) -> None:
        well = small_problem(make_task(WELL))
        super().__init__(well.task, well.blocks, None, well.device)

    def initial(self, replicate: int) -> Tensor:
        return torch.eye(self.full_dimension)[replicate]

    def loss_and_gradient(self, weights: Tensor, examples: Tensor | None) -> tuple[Tensor, Tensor]:
        excess = weights.square().sum(dim=1) - 1
        return excess.square(), 4 * excess.unsqueeze(1) * weights

    def train_metrics(self, weights: Tensor) -> Metrics:
        return Metrics(self.loss_and_gradient(weights.double(), None)[0], None)

    def test_accuracy(self, weights: Tensor) -> None:
        return None


@pytest.mark.parametrize(("level", "beads"), [(0.3, 0), (0.1, 1), (0.01, 3), (0.001, 7)])
def test_round_a_ring_it_takes_as_many_beads_as_geometry_has_it(level: float, beads: int) -> None:
    """The middle of a chord over the angle a has (cos^2(a / 2) - 1)^2 = sin^4(a / 2): .25, .0214, .00145, .0000923 for a
    quarter of the circle divided into 1, 2, 4, 8. Beads are trained onto the circle."""
    ring = Ring()
    found = string(ring, (ring.initial(0), ring.initial(1)), RECIPE, level)
    assert (found.beads, found.connected, found.level) == (beads, True, level)
    parts = beads + 1
    # With eleven points a segment, its middle is among them.
    assert found.curve.loss_excess == pytest.approx(math.sin(math.pi / (4 * parts)) ** 4, rel=1e-3)
    assert found.curve.length_ratio == pytest.approx(
        2 * parts * math.sin(math.pi / (4 * parts)) / math.sqrt(2), rel=1e-4
    )


def test_the_barrier_across_a_ring_is_known() -> None:
    """In the middle of a quarter's chord |w|^2 is 1 / 2 and the loss 1 / 4; between opposite points it is 1."""
    ring = Ring()
    across = linear_path(ring, ring.initial(0), ring.initial(1))
    assert (across.loss_barrier, across.rise) == pytest.approx((0.25, 0.25), rel=1e-3)
    assert linear_path(ring, ring.initial(0), -ring.initial(0)).loss_barrier == pytest.approx(1.0)


def test_a_string_that_is_divided_too_seldom_says_that_it_does_not_connect() -> None:
    ring = Ring()
    found = string(ring, (ring.initial(0), ring.initial(1)), RECIPE, 0.01, depth=1)
    assert (found.beads, found.connected) == (1, False)


def test_a_convex_loss_needs_no_bead() -> None:
    bowl = small_problem(make_task(WELL))
    found = string(bowl, (bowl.initial(0), bowl.initial(1)), RECIPE)
    assert (found.beads, found.connected, found.curve.length_ratio) == (0, True, pytest.approx(1))


def test_between_two_trainings_it_lies_below_the_straight_line() -> None:
    task = make_task(BLOBS, {"full_training": {"steps": 150}})
    problem = small_problem(task)
    one, other = full_training(task, problem, [0, 1]).ends
    found, straight = string(problem, (one, other), task.full_training), linear_path(problem, one, other)
    assert straight.loss_barrier > 0.05
    assert found.beads >= 1
    assert found.curve.loss_excess < straight.loss_barrier
    assert found.curve.length_ratio > 1
