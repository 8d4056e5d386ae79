"""Random planes through wells, where success is known."""

from __future__ import annotations

import pytest

from lowdim_bench.landscape import success_in_planes
from tests.problems.small import WELL, make_task, small_problem

DIMENSION = 12
RECIPE = {"optimizer": {"kind": "sgd"}, "learning_rate": {"value": 0.2}, "batch_size": None, "steps": 100}
"""On an isotropic well, gradient descent finds the minimum within any subspace."""


def well(level: float) -> dict[str, object]:
    return {
        "problem": {"spectrum": {"kind": "power", "exponent": 0.0}},
        "training": RECIPE | {"evaluate_every": 25},
        "targets": [{"metric": "train_loss", "at_most": level}],
    }


def test_what_w_0_has_is_always_reached_and_the_bottom_never_on_a_line() -> None:
    bottom = make_task(WELL, well(1e-3))
    problem = small_problem(bottom)
    loss = float(problem.train_metrics(problem.initial(0).unsqueeze(0)).loss[0])
    assert success_in_planes(bottom, problem, 0, 1) == 0.0
    assert success_in_planes(make_task(WELL, well(loss)), problem, 0, 1) == 1.0


def test_in_half_of_the_dimensions_half_of_the_planes_halve_the_loss() -> None:
    """The share of |w_0|^2 that a random k-plane leaves has a beta distribution with (D - k) / 2 and k / 2: symmetric here."""
    problem = small_problem(make_task(WELL, well(0.01)))
    loss = float(problem.train_metrics(problem.initial(0).unsqueeze(0)).loss[0])
    task = make_task(WELL, well(loss / 2))
    share = success_in_planes(task, small_problem(task), 0, DIMENSION // 2, planes=400)
    assert share == pytest.approx(0.5, abs=0.1), "400 planes: four standard errors"
