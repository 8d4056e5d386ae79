"""What every method that ships owes: the contract, clause by clause, and the price it is known for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from lowdim_bench.contract import CLAUSES, OUTSIDE, Subject, check, outside, subspace_of
from lowdim_bench.errors import AuditFailure
from lowdim_bench.methods import METHODS, MethodChoice, method_class
from lowdim_bench.methods.pruning import survivors_by_round
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems.networks import build_network
from lowdim_bench.records import Trial
from lowdim_bench.specs import load_task, task_names
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


def subject(name: str, parameters: dict[str, Any], task: str) -> Subject:
    return Subject(MethodChoice(name=name, parameters=parameters).build(), TASKS[task], PROBLEMS[task])


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
def test_every_clause_of_the_contract_holds(name: str, parameters: dict[str, Any], price: Price, task: str) -> None:
    findings = list(check(subject(name, parameters, task)))
    assert [finding.check for finding in findings] == list(CLAUSES)
    assert not [finding for finding in findings if not finding.passed]


@each_case
def test_the_price_is_the_one_it_is_known_for(name: str, parameters: dict[str, Any], price: Price, task: str) -> None:
    one = subject(name, parameters, task)
    for k, (audit, spent) in zip(one.ks(), one.audits(), strict=True):
        assert audit.measured_k == k or "hadamard" in parameters.values()  # whose square cut may be singular
        asked = price(k, one.problem.full_dimension)
        assert spent.gradient_evaluations == asked
        assert spent.examples == asked * (16 if task == "blobs" else 0)
        assert audit.track == ("prepared" if asked else "cold")


@each_case
def test_subspaces_are_nested_only_where_the_method_says_so(
    name: str, parameters: dict[str, Any], price: Price, task: str
) -> None:
    one = subject(name, parameters, task)
    if one.method.nested() or name == "imp":  # whose tickets may happen to be nested on a network this small
        return
    low, high = one.k_range()
    pairs = [(max(inner, low), outer) for inner, outer in ((2, 3), (3, 4), (5, high - 1))]
    farthest = max(outside(*(subspace_of(one.alone(k)) for k in pair)) for pair in pairs)
    assert farthest > 100 * OUTSIDE


@pytest.mark.parametrize(
    ("choice", "k", "low", "high"),
    [
        (MethodChoice(name="dense"), 52, 53, 53),
        (MethodChoice(name="lottery_subspace", parameters={"increments": 6}), 7, 1, 6),
    ],
    ids=["dense", "lottery_subspace"],
)
def test_k_outside_a_methods_range_does_not_pass_its_audit(choice: MethodChoice, k: int, low: int, high: int) -> None:
    one = subject(choice.name, choice.parameters, "blobs")
    assert one.k_range() == (low, high)
    with pytest.raises(AuditFailure, match=f"the trial allows k = {k} numbers, but the method prepared {high}"):
        one.audit(one.alone(k))


@pytest.mark.parametrize("name", ["imp", "one_shot_magnitude"])
def test_pruning_of_weights_alone_cannot_go_below_the_biases(name: str) -> None:
    one = subject(name, {"scope": "weights"}, "blobs")
    assert one.k_range() == (8, 53)
    for k in (8, 9, 30, 53):
        assert one.audit(one.alone(k)).measured_k == k


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
