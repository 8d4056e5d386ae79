"""Edge-popup: the mask that scores give, its straight-through gradient, and what a supermask is priced at."""

from __future__ import annotations

import math

import pytest
import torch

from lowdim_bench import audit
from lowdim_bench.errors import AuditFailure
from lowdim_bench.methods import MethodChoice
from lowdim_bench.parametrizations import AffineSubspace, Pack, Parametrization, ScoredMask
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.records import Spending, Trial
from tests.problems.small import BLOBS, TENSOR, make_task, small_problem

TASK = make_task(BLOBS, {"full_training": {"steps": 120, "learning_rate": {"value": 0.5}}})
PROBLEM = small_problem(TASK)
D = PROBLEM.full_dimension
INITIAL = PROBLEM.initial(0)


def scored(density: float = 0.5) -> tuple[ScoredMask, Parametrization]:
    operator = ScoredMask(INITIAL, PROBLEM.blocks, density)
    start = operator.initial_scores(torch.Generator().manual_seed(1))
    return operator, Parametrization(torch.zeros(D), operator, start)


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_each_layer_keeps_its_initial_weights_of_largest_score(density: float) -> None:
    operator, one = scored(density)
    weights = one.map(one.start)
    for block in PROBLEM.blocks:
        mine, initial, scores = (vector[block.start : block.stop] for vector in (weights, INITIAL, one.start))
        if block.role != "weight":
            assert torch.equal(mine, initial)
            assert not bool(scores.any())
            continue
        kept = mine != 0
        assert int(kept.sum()) == round(density * len(mine))
        assert torch.equal(mine[kept], initial[kept])
        assert density == 1 or float(scores[kept].abs().min()) >= float(scores[~kept].abs().max())
        assert float(scores.abs().max()) <= block.fan_in**-0.5
    assert operator.k == D


def test_the_gradient_goes_straight_through_the_choice() -> None:
    """As that of |s| * w_0 with respect to s, at the weights that the mask leaves: kept or not."""
    operator, one = scored()
    pack = Pack.of([one])
    _, gradient = PROBLEM.loss_and_gradient(one.map(one.start).unsqueeze(0), torch.arange(20).unsqueeze(0))
    found = pack.pull_back(one.start.unsqueeze(0), gradient)[0]
    for block in operator.scored:
        place = slice(block.start, block.stop)
        scores = one.start[place].clone().requires_grad_()
        (wanted,) = torch.autograd.grad((scores.abs() * INITIAL[place] * gradient[0, place]).sum(), scores)
        assert torch.equal(found[place], wanted)
    biases = [block for block in PROBLEM.blocks if block.role != "weight"]
    assert not any(bool(found[block.start : block.stop].any()) for block in biases)


def supermask(k: int, replicate: int = 0) -> tuple[AffineSubspace, Spending, int]:
    method = MethodChoice(name="edge_popup").build()
    (item,) = prepare_pack(PROBLEM, TASK, method, [Trial(k=k, replicate=replicate, round=0)])
    assert isinstance(item.subspace, AffineSubspace), item.failure
    return item.subspace, item.ledger.spent, item.seed


def test_untrained_weights_do_the_work_of_the_mask() -> None:
    """The loss is far below that of the same weights without a mask, and under a mask of other scores."""
    task = make_task(
        BLOBS,
        {
            "problem": {"network": {"hidden": [100]}},
            "full_training": {"steps": 150, "learning_rate": {"value": 1.0}},
        },
    )
    problem = small_problem(task)
    trials = [Trial(k=1, replicate=replicate, round=0) for replicate in range(4)]
    for item in prepare_pack(problem, task, MethodChoice(name="edge_popup").build(), trials):
        assert item.subspace is not None, item.failure
        weights = item.subspace.map(item.subspace.start)
        initial = problem.initial(item.trial.replicate)
        assert bool(((weights == initial) | (weights == 0)).all())
        operator = ScoredMask(initial, problem.blocks, 0.5)
        other = Parametrization(torch.zeros_like(initial), operator, operator.initial_scores(torch.Generator()))
        rows = torch.stack([weights, initial, other.map(other.start)])
        found, plain, untrained = problem.train_metrics(rows).loss.tolist()
        assert found < 0.75 * min(plain, untrained)


@pytest.mark.parametrize("k", [1, 4, 22])
def test_a_supermask_is_priced_in_bits(k: int) -> None:
    subspace, spent, seed = supermask(k)
    found = audit.measure(subspace, k, PROBLEM.origin(0, seed), spent)
    weights, kept = 30 + 15, 15 + 8
    # Which initial weights are not in the offset, and which of these are trained; biases start at zero.
    choices = math.comb(weights, weights - kept + k) * math.comb(D, k)
    assert found.side_information_bits == pytest.approx(math.log2(choices))
    assert (found.measured_k, found.track, spent.gradient_evaluations) == (k, "prepared", 120)


def test_more_weights_than_are_kept_cannot_be_trained() -> None:
    assert MethodChoice(name="edge_popup").build().k_range(PROBLEM.blocks) == (1, 23)
    subspace, spent, seed = supermask(23)
    with pytest.raises(AuditFailure, match="the trial allows k = 24"):
        audit.measure(subspace, 24, PROBLEM.origin(0, seed), spent)


def test_scores_are_not_solved_for_by_least_squares() -> None:
    task = make_task(TENSOR)
    trial = Trial(k=3, replicate=0, round=0)
    (item,) = prepare_pack(small_problem(task), task, MethodChoice(name="edge_popup").build(), [trial])
    assert "it asked to train a ScoredMask by alternating least squares" in item.failure
