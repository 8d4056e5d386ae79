"""Linearly connected examples: barriers worked out by hand, and none where there can be none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lowdim_bench import problems
from lowdim_bench.errors import UserError
from lowdim_bench.landscape import Diagnosis, diagnose, linear_connection, spawned_connections
from lowdim_bench.landscape.training import full_training
from lowdim_bench.problems.classification import ClassificationProblem
from tests.problems.small import BLOBS, WELL, blobs, make_task, small_images, small_problem

SCALE = 3.0


def classifier(changes: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> ClassificationProblem:
    built = problems.build(make_task(BLOBS, changes), arrays or blobs())
    assert isinstance(built, ClassificationProblem)
    return built


def mirror_images() -> ClassificationProblem:
    """Two inputs, two neurons, two classes. Only (1, 0), of class 0, and (0, 1), of class 1, turn a neuron on."""
    inputs = np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [0, 0], [0, 0]], np.float32)
    labels = np.array([0, 1, 0, 1, 0, 1])
    arrays = {"x_train": inputs, "y_train": labels, "x_test": inputs, "y_test": labels}
    return classifier({"problem": {"network": {"hidden": [2]}}}, arrays)


def network(problem: ClassificationProblem, *, swapped: bool) -> Tensor:
    """Each neuron sees one input and speaks for one class; `swapped` has the same function with its neurons exchanged."""
    first = torch.eye(2) * SCALE
    last = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    parts = [first.flip(1), torch.zeros(2), last.flip(0), torch.zeros(2)] if swapped else None
    parts = parts or [first, torch.zeros(2), last, torch.zeros(2)]
    return torch.cat([part.flatten() for part in parts])


def test_barriers_are_those_worked_out_by_hand() -> None:
    """In the middle the last layer is zero, and every loss log 2. At the ends an example that turns a neuron on has logits 3
    and -3; one that turns none on has logits 0."""
    problem = mirror_images()
    one, other = (network(problem, swapped=swapped) for swapped in (False, True))
    assert torch.allclose(
        problem.example_losses(torch.stack([one]))[0], problem.example_losses(torch.stack([other]))[0]
    )
    right = math.log(2) - math.log1p(math.exp(-2 * SCALE))
    barriers = [right, right, 0, 0, 0, 0]
    found = linear_connection(problem, torch.stack([one, other]))
    np.testing.assert_allclose(found.barriers, barriers, atol=1e-6)
    assert found.mean == pytest.approx(2 * right / 6, abs=1e-6)
    assert [found.share(tolerance) for tolerance in (1e-3, 0.5, 1.0)] == [4 / 6, 4 / 6, 1.0]
    # Of three networks two are the same: two of the three pairs have these barriers, and one has none.
    np.testing.assert_allclose(
        linear_connection(problem, torch.stack([one, other, one])).barriers, np.multiply(barriers, 2 / 3), atol=1e-6
    )


def test_their_mean_is_the_barrier_of_the_loss_in_the_middle() -> None:
    problem = classifier({})
    ends = full_training(problem.task, problem, [0, 1]).ends
    found = linear_connection(problem, ends)
    losses = problem.train_metrics(torch.stack([ends[0], ends[1], 0.5 * (ends[0] + ends[1])])).loss.tolist()
    assert found.mean == pytest.approx(losses[2] - (losses[0] + losses[1]) / 2, abs=1e-6)
    assert found.barriers.shape == (70,)


@pytest.mark.parametrize("normalization", [None, {"kind": "batch"}], ids=["plain", "batch normalization"])
def test_losses_of_examples_are_those_of_the_evaluated_network(normalization: dict[str, Any] | None) -> None:
    """More examples than are looked at together."""
    net = {"kind": "convnet", "channels": [2], "normalization": normalization}
    problem = classifier({"problem": {"network": net}}, small_images(train=600))
    weights = torch.stack([problem.initial(0), problem.initial(1)])
    losses = problem.example_losses(weights)
    assert losses.shape == (2, 600)
    torch.testing.assert_close(losses.double().mean(dim=1), problem.train_metrics(weights).loss, rtol=1e-5, atol=1e-6)


def test_where_the_loss_is_convex_every_example_is_connected() -> None:
    problem = classifier({"problem": {"network": {"hidden": []}}})
    starts = [problem.initial(0), problem.initial(1)]
    for found in spawned_connections(problem.task, problem, starts, 2, [0, 1]):
        assert found.mean < 0
        assert found.share(1e-6) == 1


def test_trainings_spawned_at_their_end_have_no_way_between_them() -> None:
    problem = classifier({})
    steps = problem.task.full_training.steps
    (apart,) = spawned_connections(problem.task, problem, [problem.initial(0)], 0, [0])
    (same,) = spawned_connections(problem.task, problem, [problem.initial(0)], steps, [0])
    assert np.abs(apart.barriers).max() > 1e-4
    np.testing.assert_allclose(same.barriers, 0, atol=1e-6)
    assert same.share(1e-3) == 1


def test_replicates_do_not_mix() -> None:
    problem = classifier({})
    starts = [problem.initial(0), problem.initial(1)]
    both = spawned_connections(problem.task, problem, starts, 0, [0, 1])
    (alone,) = spawned_connections(problem.task, problem, starts[1:], 0, [1])
    np.testing.assert_array_equal(both[1].barriers, alone.barriers)


def of_examples(found: Diagnosis) -> dict[str, tuple[float, ...]]:
    return {one.name: one.values for one in found.findings if one.diagnostic == "linearly connected examples"}


def test_they_are_diagnosed_where_they_are_asked_for() -> None:
    problem = classifier({"problem": {"network": {"hidden": [3]}}})
    assert not of_examples(diagnose(problem.task, problem, None, [0, 1]))
    found = of_examples(diagnose(problem.task, problem, None, [0, 1], spawn_step=0))
    expected = spawned_connections(problem.task, problem, [problem.initial(0), problem.initial(1)], 0, [0, 1])
    assert list(found) == [
        "mean barrier of an example, spawned at step 0",
        *(f"share of examples linearly connected, spawned at step 0, up to {x}" for x in ("0.001", "0.01", "0.1")),
    ]
    assert found["mean barrier of an example, spawned at step 0"] == tuple(one.mean for one in expected)
    assert found["share of examples linearly connected, spawned at step 0, up to 0.01"] == tuple(
        one.share(0.01) for one in expected
    )


def test_a_step_that_there_is_not_is_refused_and_so_is_a_task_without_classes() -> None:
    problem = classifier({})
    with pytest.raises(UserError, match="has 12 steps; spawn at one of 0 to 11, not at 12"):
        diagnose(problem.task, problem, None, [0, 1], spawn_step=12)
    well = make_task(WELL)
    with pytest.raises(UserError, match="has no classes"):
        diagnose(well, small_problem(well), None, [0, 1], spawn_step=1)
