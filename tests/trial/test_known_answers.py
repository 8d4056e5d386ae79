"""Trials whose result is known beforehand: planted subspaces, and quadratic wells whose minimum has a formula."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems.quadratic import QuadraticProblem
from lowdim_bench.records import Trial
from lowdim_bench.specs import Task
from lowdim_bench.theory import exact_minimum
from tests.problems.small import WELL, make_task, small_problem
from tests.trial.running import choice, own, run, trials


def well(changes: Mapping[str, Any] | None = None, **training: Any) -> Task:
    """An isotropic well trained well enough that the optimizer leaves nothing."""
    recipe = {"learning_rate": {"value": 0.1, "schedule": "cosine"}, "steps": 400, "evaluate_every": 50, **training}
    base = {
        "problem": {"spectrum": {"kind": "power", "exponent": 0.0}},
        "training": recipe,
        "targets": [{"metric": "train_loss", "at_most": level} for level in (0.6, 0.3, 0.01)],
    }
    return make_task(make_task(WELL, base).model_dump(mode="json", exclude_none=False), changes)


def test_a_planted_subspace_is_found_at_its_dimension_and_not_below() -> None:
    task = well()
    for replicate in range(3):
        below, exact, above = (
            run(task, own("Planted", dimension=4), [Trial(k=k, replicate=replicate, round=0)])[0] for k in (2, 3, 4)
        )
        # Each of four directions carries a quarter of the way, and so of the isotropic loss.
        for k, result in ((2, below), (3, exact)):
            assert result.curve[-1].train_loss == pytest.approx(1 - k / 4, rel=1e-3)
        assert [outcome.reached for outcome in below.outcomes] == [True, False, False]
        assert [outcome.reached for outcome in exact.outcomes] == [True, True, False]
        assert [outcome.reached for outcome in above.outcomes] == [True, True, True]
        assert above.audit is not None
        assert above.audit.side_information_bits == 32 * 4 * 12


@pytest.mark.parametrize("exponent", [0.0, 1.0])
@pytest.mark.parametrize("operator", ["gaussian", "signed_hash", "orthonormal"])
def test_training_finds_the_exact_minimum_of_a_subspace_of_a_well(operator: str, exponent: float) -> None:
    changes = {"problem": {"spectrum": {"exponent": exponent}}, "targets": [{"metric": "train_loss", "at_most": 1e-9}]}
    task = well(changes, steps=1500)
    problem = small_problem(task)
    assert isinstance(problem, QuadraticProblem)
    method = choice("random_subspace", operator=operator)
    for result in run(task, method, trials(1, 3, 6, 10), problem):
        (item,) = prepare_pack(problem, task, method.build(), [result.trial])
        assert isinstance(item.subspace, AffineSubspace)
        basis = item.subspace.operator.matrix().double().numpy()
        start = problem.initial(result.trial.replicate).double().numpy()
        lowest = exact_minimum(problem.hessian.double().numpy(), start, basis) / problem.unit
        assert result.curve[-1].train_loss == pytest.approx(lowest, rel=0.02)
        assert result.curve[-1].train_loss is not None
        assert result.curve[-1].train_loss >= lowest * (1 - 1e-4)


def test_the_rates_of_success_rise_with_k_on_a_well() -> None:
    task = well({"targets": [{"metric": "train_loss", "at_most": 0.5}]}, steps=200)
    hits = []
    for k in (2, 6, 11):
        results = run(task, choice("random_subspace"), [Trial(k=k, replicate=r, round=0) for r in range(12)])
        hits.append(sum(result.outcomes[-1].reached for result in results))
    assert hits[0] <= 1
    assert hits[2] >= 11
    assert np.all(np.diff(hits) > 0)
