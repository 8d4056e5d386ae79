"""What every method owes: exactly k numbers, an audit passed, equal seeds equal subspaces, and the price it is known for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lowdim_bench import audit
from lowdim_bench.errors import AuditFailure
from lowdim_bench.methods import METHODS, Method, MethodChoice, method_class
from lowdim_bench.methods.pruning import survivors_by_round
from lowdim_bench.preparation import Prepared, prepare_pack
from lowdim_bench.problems import Problem
from lowdim_bench.problems.networks import build_network
from lowdim_bench.records import Audit, Trial
from lowdim_bench.specs import Task, load_task, task_names
from lowdim_bench.specs.problem import Classification, QuadraticWell
from tests.problems.small import BLOBS, WELL, make_task, small_problem

TASKS = {"blobs": make_task(BLOBS), "well": make_task(WELL)}
PROBLEMS = {name: small_problem(task) for name, task in TASKS.items()}
STEPS = 12


def imp_price(k: int, full_dimension: int, rate: float = 0.2, rewind: int = 0) -> int:
    rounds = max(1, math.ceil(math.log(k / full_dimension) / math.log(1 - rate) - 1e-9))
    return rounds * (STEPS - rewind) + rewind


# (parameters, gradient evaluations at k of D)
Price = Callable[[int, int], int]
PRICES: dict[str, list[tuple[dict[str, Any], Price]]] = {
    "burn_in_subspace": [({}, lambda k, D: 64), ({"burn_in_steps": 3, "operator": "gaussian"}, lambda k, D: 3)],
    "dense": [({}, lambda k, D: 0)],
    "imp": [
        ({}, imp_price),
        ({"rate": 0.5, "rewind_step": 5}, lambda k, D: imp_price(k, D, 0.5, 5)),
    ],
    "lottery_subspace": [({}, lambda k, D: 128 * 4), ({"increments": 70, "stride": 3}, lambda k, D: 70 * 3)],
    "one_shot_magnitude": [({}, lambda k, D: STEPS), ({"rewind_step": 5}, lambda k, D: STEPS)],
    "random_mask": [({}, lambda k, D: 0)],
    "random_subspace": [
        ({"operator": operator}, lambda k, D: 0) for operator in ("signed_hash", "gaussian", "orthonormal", "hadamard")
    ],
}
CASES = [
    pytest.param(name, parameters, price, task, id=f"{MethodChoice(name=name, parameters=parameters).label} {task}")
    for name, variants in PRICES.items()
    for parameters, price in variants
    for task in TASKS
]
each_case = pytest.mark.parametrize(("name", "parameters", "price", "task"), CASES)


def prepare(method: Method, task: Task, problem: Problem, k: int, replicate: int = 0) -> Prepared:
    (item,) = prepare_pack(problem, task, method, [Trial(k=k, replicate=replicate, round=0)])
    assert not item.failure
    assert not item.diverged
    return item


def audited(item: Prepared, problem: Problem) -> Audit:
    assert item.subspace is not None
    initial = problem.initial(item.trial.replicate)
    return audit.measure(item.subspace, item.trial.k, initial, item.seed, item.ledger.spent)


def content(item: Prepared) -> tuple[str, list[float]]:
    assert item.subspace is not None
    return item.subspace.fingerprint(), item.subspace.start.tolist()


def test_every_method_is_under_contract() -> None:
    assert PRICES.keys() == METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_methods_say_what_they_are(name: str) -> None:
    kind = method_class(name)
    assert kind.__doc__
    assert 10 < len(kind.summary) < 100
    assert kind.source
    assert all(not field.is_required() for field in kind.model_fields.values())


@each_case
def test_a_subspace_of_exactly_k_numbers_passes_its_audit_at_a_known_price(
    name: str, parameters: dict[str, Any], price: Price, task: str
) -> None:
    problem = PROBLEMS[task]
    method = MethodChoice(name=name, parameters=parameters).build()
    low, high = method.k_range(problem.blocks)
    assert 1 <= low <= high <= problem.full_dimension
    for k in sorted({low, (low + high) // 2, high}):
        item = prepare(method, TASKS[task], problem, k)
        assert item.subspace is not None
        assert item.subspace.k == k
        measured = audited(item, problem)
        assert measured.measured_k == k or "hadamard" in parameters.values()  # whose square cut may be singular
        spent = item.ledger.spent.gradient_evaluations
        assert spent == price(k, problem.full_dimension)
        assert item.ledger.spent.examples == spent * (16 if task == "blobs" else 0)
        assert measured.track == ("prepared" if spent else "cold")


@each_case
def test_equal_seeds_give_equal_subspaces_and_other_replicates_others(
    name: str, parameters: dict[str, Any], price: Price, task: str
) -> None:
    problem = PROBLEMS[task]
    method = MethodChoice(name=name, parameters=parameters).build()
    k = min(7, problem.full_dimension) if name != "dense" else problem.full_dimension
    first, again, other = (prepare(method, TASKS[task], problem, k, replicate) for replicate in (3, 3, 4))
    assert content(first) == content(again)
    assert content(first) != content(other)
    # Beside others in a pack it prepares what it prepares alone, but for rounding.
    trials = [Trial(k=k, replicate=replicate, round=0) for replicate in (4, 3, 5)]
    beside = prepare_pack(problem, TASKS[task], method, trials)[1]
    assert beside.subspace is not None
    assert first.subspace is not None
    torch.testing.assert_close(beside.subspace.offset, first.subspace.offset, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(beside.subspace.start, first.subspace.start, rtol=1e-3, atol=1e-4)
    assert beside.ledger.spent == first.ledger.spent


@each_case
def test_subspaces_are_nested_in_k_where_the_method_says_so_and_only_there(
    name: str, parameters: dict[str, Any], price: Price, task: str
) -> None:
    problem = PROBLEMS[task]
    method = MethodChoice(name=name, parameters=parameters).build()
    low, high = method.k_range(problem.blocks)
    farthest = 0.0
    for inner_k, outer_k in ((2, 3), (3, 4), (5, high - 1), (7, high)):
        inner, outer = (prepare(method, TASKS[task], problem, max(k, low)).subspace for k in (inner_k, outer_k))
        assert inner is not None
        assert outer is not None
        basis = torch.linalg.qr(outer.operator.matrix().double()).Q
        inside = torch.cat([inner.operator.matrix(), (inner.offset - outer.offset).unsqueeze(1)], dim=1).double()
        farthest = max(farthest, float((inside - basis @ (basis.T @ inside)).abs().max()))
    if method.nested():
        assert farthest < 1e-4
    elif name != "imp":  # whose tickets may happen to be nested on a network this small
        assert farthest > 1e-2


@each_case
def test_preparation_leaves_global_state_alone(name: str, parameters: dict[str, Any], price: Price, task: str) -> None:
    torch.manual_seed(2)
    before = torch.get_rng_state()
    k = PROBLEMS[task].full_dimension
    prepare(MethodChoice(name=name, parameters=parameters).build(), TASKS[task], PROBLEMS[task], k)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("choice", "k", "low", "high"),
    [
        (MethodChoice(name="dense"), 52, 53, 53),
        (MethodChoice(name="lottery_subspace", parameters={"increments": 6}), 7, 1, 6),
    ],
    ids=["dense", "lottery_subspace"],
)
def test_k_outside_a_methods_range_does_not_pass_its_audit(choice: MethodChoice, k: int, low: int, high: int) -> None:
    method, problem = choice.build(), PROBLEMS["blobs"]
    assert method.k_range(problem.blocks) == (low, high)
    with pytest.raises(AuditFailure, match=f"the trial allows k = {k} numbers, but the method prepared {high}"):
        audited(prepare(method, TASKS["blobs"], problem, k), problem)


@pytest.mark.parametrize("name", ["imp", "one_shot_magnitude"])
def test_pruning_of_weights_alone_cannot_go_below_the_biases(name: str) -> None:
    method, problem = MethodChoice(name=name, parameters={"scope": "weights"}).build(), PROBLEMS["blobs"]
    assert method.k_range(problem.blocks) == (8, 53)
    for k in (8, 9, 30, 53):
        assert audited(prepare(method, TASKS["blobs"], problem, k), problem).measured_k == k


@pytest.mark.parametrize("name", ["imp", "one_shot_magnitude"])
def test_rewinding_beyond_the_end_of_training_is_refused(name: str) -> None:
    method = MethodChoice(name=name, parameters={"rewind_step": STEPS}).build()
    (item,) = prepare_pack(PROBLEMS["blobs"], TASKS["blobs"], method, [Trial(k=5, replicate=0, round=0)])
    assert "asked to train from step 12 up to step 12; start must lie below stop" in item.failure


@pytest.mark.parametrize("task_name", task_names())
def test_every_method_can_be_afforded_on_every_shipped_task(task_name: str) -> None:
    task = load_task(task_name)
    if isinstance(task.problem, QuadraticWell):
        assert task.preparation.gradient_evaluations == 0
        return
    assert isinstance(task.problem, Classification)
    shape = {"MNIST": (1, 28, 28), "FashionMNIST": (1, 28, 28), "CIFAR10": (3, 32, 32)}.get(
        getattr(task.problem.data, "dataset", ""), (1, 8, 8)
    )
    full_dimension = build_network(task.problem.network, shape, 10).full_dimension
    steps = task.full_training.steps
    imp = len(survivors_by_round(full_dimension, task.threshold.k_min, 0.2)) * steps
    assert max(imp, 128 * 4, 64, steps) <= task.preparation.gradient_evaluations
