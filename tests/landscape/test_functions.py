"""Disagreement and tangent kernels, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lowdim_bench.landscape import cosine, disagreement, kernel_distance, tangent_kernel
from lowdim_bench.problems.classification import ClassificationProblem
from tests.problems.small import BLOBS, blobs, make_task, merged, small_images, small_problem


def classification(*hidden: int) -> ClassificationProblem:
    problem = small_problem(make_task(merged(BLOBS, {"problem": {"network": {"hidden": list(hidden)}}})))
    assert isinstance(problem, ClassificationProblem)
    return problem


def test_disagreement_is_the_mean_over_pairs() -> None:
    """The pairs differ on 1, 1 and 2 of 4 examples."""
    predictions = torch.tensor([[0, 1, 2, 0], [0, 1, 1, 0], [0, 0, 2, 0]])
    found = disagreement(predictions, np.array([0.0, 0.25, 0.5]))
    assert (found.networks, found.examples) == (3, 4)
    assert (found.share, found.normalized) == pytest.approx((1 / 3, 4 / 3))
    assert np.isnan(disagreement(predictions, np.zeros(3)).normalized)


def test_cosine_and_kernel_distance() -> None:
    assert cosine(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0])) == pytest.approx(0.5**0.5)
    one, ones = np.eye(2), np.ones((2, 2))
    assert kernel_distance(ones, 3 * ones) == pytest.approx(0)
    assert kernel_distance(np.diag([1.0, 0.0]), np.diag([0.0, 1.0])) == 1
    assert kernel_distance(one, ones) == pytest.approx(1 - 0.5**0.5)
    assert np.isnan(kernel_distance(one, np.zeros((2, 2))))


def test_the_kernel_of_a_linear_model_is_known() -> None:
    """Each of 3 logits is v'x + b, so K(x, y) = 3 (x'y + 1), whatever the weights."""
    problem = classification()
    kernel = tangent_kernel(problem, problem.initial(0), 8)
    inputs = problem.inputs[:8].double().numpy()
    assert kernel == pytest.approx(3 * (inputs @ inputs.T + 1), rel=1e-5)


def test_a_hidden_layer_makes_the_kernel_move() -> None:
    problem = classification(5)
    start = tangent_kernel(problem, problem.initial(0), 8)
    assert np.linalg.eigvalsh(start).min() > -1e-5
    assert 0 < kernel_distance(start, tangent_kernel(problem, problem.initial(1), 8)) < 1


def test_convolutions_have_kernels_too() -> None:
    task = make_task(merged(BLOBS, {"problem": {"network": {"kind": "convnet", "channels": [2]}}}))
    problem = ClassificationProblem(task, small_images(), torch.device("cpu"))
    assert tangent_kernel(problem, problem.initial(0), 3).shape == (3, 3)


def test_predictions_on_the_test_set_are_as_right_as_its_accuracy() -> None:
    problem = classification(5)
    weights = torch.stack([problem.initial(0), problem.initial(1)])
    predicted = problem.test_predictions(weights)
    right = (predicted == torch.from_numpy(blobs()["y_test"])).double().mean(dim=1)
    assert right.tolist() == pytest.approx(problem.test_accuracy(weights).tolist())
