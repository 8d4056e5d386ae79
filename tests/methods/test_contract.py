"""What every method that ships owes: the contract, clause by clause, and the price it is known for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from lowdim_bench.contract import CLAUSES, OUTSIDE, Subject, check, outside, prepared, subspace_of
from lowdim_bench.errors import AuditFailure
from lowdim_bench.methods import METHODS, MethodChoice, method_class
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.records import Spending, Trial
from tests.methods.subjects import PROBLEMS, TASKS, tasks_of

STEPS = 12

pytestmark = pytest.mark.contract("method")


def imp_price(k: int, full_dimension: int, rate: float = 0.2, rewind: int = 0) -> int:
    rounds = max(1, math.ceil(math.log(k / full_dimension) / math.log(1 - rate) - 1e-9))
    return rounds * (STEPS - rewind) + rewind


def batches(gradients: int) -> Spending:
    """Of mini-batches of the recipe."""
    return Spending(gradient_evaluations=gradients, examples=16 * gradients)


def few_examples(gradients: int, of_each: int) -> Spending:
    return Spending(gradient_evaluations=gradients, examples=gradients * of_each)


def diet_price(k: int, full_dimension: int) -> Spending:
    rounds = imp_price(k, full_dimension, rewind=4) - 4
    spent = batches(2 * 3 + 4 + rounds)
    return spent.model_copy(update={"evaluations": 2, "examples": spent.examples + 2 * 70})


# (parameters, what is spent at k of D: a number is of gradients on mini-batches; None where it depends on the landscape)
Price = Callable[[int, int], Spending | int] | None
NOTHING: Price = lambda k, D: 0  # noqa: E731 - one entry beside others
# A method that is not in here is held to every clause at its defaults; no price of it is pinned.
PRICES: dict[str, list[tuple[dict[str, Any], Price]]] = {
    "bias_only": [({}, NOTHING)],
    "burn_in_subspace": [({}, lambda k, D: 64), ({"burn_in_steps": 3, "operator": "gaussian"}, lambda k, D: 3)],
    "cp_als": [({}, NOTHING)],
    "cp_leverage": [({}, NOTHING), ({"samples": 9, "combine": False, "deterministic": True}, NOTHING)],
    "cp_uniform": [({}, NOTHING)],
    "data_diet_imp": [
        ({"pretrain_steps": 4, "score_steps": 3, "score_runs": 2, "size": 20}, diet_price),
        ({"pretrain_steps": 4, "subset": "random"}, lambda k, D: imp_price(k, D, rewind=4)),
    ],
    "dense": [({}, NOTHING)],
    "edge_popup": [({}, lambda k, D: STEPS), ({"density": 0.8}, lambda k, D: STEPS)],
    "erk_mask": [({}, NOTHING), ({"scope": "weights"}, NOTHING)],
    "fish_mask": [
        ({}, lambda k, D: few_examples(70, 1)),
        ({"examples": 9}, lambda k, D: few_examples(9, 1)),
    ],
    "grasp_mask": [({}, lambda k, D: few_examples(3, 70)), ({"examples": 20}, lambda k, D: few_examples(3, 20))],
    "hashed_nets": [({}, NOTHING)],
    "imp": [
        ({}, imp_price),
        ({"rate": 0.5, "rewind_step": 5}, lambda k, D: imp_price(k, D, 0.5, 5)),
        ({"rate": 0.5, "control": "reinitialized"}, lambda k, D: imp_price(k, D, 0.5)),
        ({"rate": 0.5, "control": "shuffled"}, lambda k, D: imp_price(k, D, 0.5)),
    ],
    "initial_magnitude_mask": [({}, NOTHING)],
    "landscape_imp": [({}, None)],
    "last_layer_only": [({}, NOTHING)],
    "layerwise_random_mask": [({}, NOTHING)],
    "lora": [({}, lambda k, D: 0)],
    "low_rank": [({}, lambda k, D: 0)],
    "lottery_subspace": [({}, lambda k, D: 128 * 4), ({"increments": 70, "stride": 3}, lambda k, D: 70 * 3)],
    "nola": [({}, lambda k, D: 0), ({"rank": 1}, lambda k, D: 0)],
    "one_shot_magnitude": [({}, lambda k, D: STEPS), ({"rewind_step": 5}, lambda k, D: STEPS)],
    "normalization_only": [({}, NOTHING)],
    "random_bases": [({}, NOTHING), ({"directions": 3, "operator": "gaussian"}, NOTHING)],
    "random_mask": [({}, NOTHING)],
    "random_subspace": [
        ({"operator": operator}, NOTHING)
        for operator in ("signed_hash", "gaussian", "orthonormal", "hadamard", "fastfood")
    ],
    "rigl_in_loop": [({}, None), ({"active": 0.2, "updates": 3}, None)],  # it is charged in training
    "rigl_mask": [({}, lambda k, D: 9 + 9), ({"updates": 2}, lambda k, D: 8 + 2)],
    "said": [({"operator": operator}, lambda k, D: 0) for operator in ("hadamard", "signed_hash", "fastfood")],
    "set_in_loop": [({}, NOTHING), ({"active": 0.9, "share": 0.6}, NOTHING)],
    "set_mask": [({}, lambda k, D: 9), ({"updates": 4, "share": 0.5}, lambda k, D: 8)],
    "swag_subspace": [
        ({}, lambda k, D: 20 * 4),
        ({"rank": 8, "stride": 1, "through": "mean"}, lambda k, D: STEPS),
    ],
    "tensor_train": [({}, lambda k, D: 0), ({"cores": 2}, lambda k, D: 0)],
    "vera": [({}, lambda k, D: 0)],
    "width": [({}, NOTHING)],
    "snip_mask": [({}, lambda k, D: few_examples(1, 70)), ({"examples": 20}, lambda k, D: few_examples(1, 20))],
    "synflow_mask": [
        (parameters, lambda k, D: Spending(data_free_gradients=100)) for parameters in ({}, {"scope": "weights"})
    ],
}
CASES = {
    f"{MethodChoice(name=name, parameters=parameters).label} {task}": (name, parameters, price, task)
    for name in METHODS
    for parameters, price in PRICES.get(name, [({}, None)])
    for task in tasks_of(name)
}
each_case = pytest.mark.parametrize(("name", "parameters", "price", "task"), CASES.values(), ids=CASES)
each_known_case = pytest.mark.parametrize(
    ("name", "parameters", "price", "task"),
    [pytest.param(*case, id=label) for label, case in CASES.items() if case[0] in PRICES],
)


def subject(name: str, parameters: dict[str, Any], task: str) -> Subject:
    return Subject(MethodChoice(name=name, parameters=parameters).build(), TASKS[task], PROBLEMS[task])


def test_every_method_is_under_contract() -> None:
    assert {name for name, *_ in CASES.values()} == METHODS.keys()
    assert PRICES.keys() <= METHODS.keys()


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
        # A square cut of a Hadamard matrix may be singular, and factors of one product may be exchanged for others.
        assert audit.measured_k == k or (
            audit.measured_k < k and (not audit.affine or "hadamard" in parameters.values())
        )
        if name not in PRICES:
            continue
        asked = Spending() if price is None else price(k, one.problem.full_dimension)
        asked = batches(asked) if isinstance(asked, int) else asked
        if task == "well":
            asked = asked.model_copy(update={"examples": 0})
        if price is not None:
            assert spent.model_copy(update={"labels": 0}) == asked
        linear = "prepared" if price is None or asked.gradient_evaluations else "cold"
        assert audit.track == (linear if audit.affine else "open")
        assert audit.track == "prepared" or audit.side_information_bits == 0


@each_known_case
def test_subspaces_are_nested_only_where_the_method_says_so(
    name: str, parameters: dict[str, Any], price: Price, task: str
) -> None:
    one = subject(name, parameters, task)
    # Those that prune or exchange round by round may happen to be nested on a network this small.
    if one.method.nested() or name in {
        "data_diet_imp",
        "imp",
        "landscape_imp",
        "rigl_in_loop",
        "rigl_mask",
        "set_in_loop",
        "set_mask",
        "synflow_mask",
    }:
        return
    low, high = one.k_range()
    if not isinstance(prepared(one.alone(low)), AffineSubspace):  # no subspaces, so none that lie in each other
        return
    pairs = [(low + 1, low + 2), (low + 2, low + 3), (low + 4, high - 1)]
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
