"""Submitted code is answered the same as code at home, whatever kind of problem it asks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lowdim_bench import isolation
from lowdim_bench.parametrizations import Coordinates
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import BatchOrder
from tests.isolation.code import submission, trials
from tests.problems.small import ARENAS, BLOBS, PIXELS, QUADRATIC, TENSOR, WELL, make_task, small_problem

ASKING = submission(
    """
    examples = setting.problem.batch_order(8).examples(1)
    weights = setting.initial.unsqueeze(0)
    loss, gradient = setting.problem.loss_and_gradient(weights, examples)
    product = setting.problem.hessian_vector(weights, gradient, examples)
    metrics = setting.problem.train_metrics(weights)
    assert metrics.loss.shape == loss.shape == (1,)
    assert setting.problem.blocks[-1].stop == setting.full_dimension
    scores = (gradient * product)[0].abs()
    return AffineSubspace(setting.initial, Coordinates(scores.topk(setting.k).indices, setting.full_dimension))
    """
)


@pytest.mark.parametrize("base", [BLOBS, WELL, QUADRATIC, PIXELS, ARENAS, TENSOR], ids=lambda base: base["name"])
def test_questions_about_every_kind_of_problem_are_answered_as_at_home(base: dict[str, Any]) -> None:
    task = make_task(base)
    problem = small_problem(task)
    (item,) = prepare_pack(problem, task, isolation.build(ASKING), trials(5))
    assert item.failure == ""
    assert item.subspace is not None
    weights, examples = problem.initial(0).unsqueeze(0), BatchOrder(problem, [0], 8).examples(1)
    _, gradient = problem.loss_and_gradient(weights, examples)
    scores = (gradient * problem.hessian_vector(weights, gradient, examples))[0].abs()
    assert isinstance(item.subspace.operator, Coordinates)
    assert torch.equal(item.subspace.operator.indices, scores.topk(5).indices.sort().values)
    assert item.ledger.spent.gradient_evaluations == 3
    assert item.ledger.spent.evaluations == 1
