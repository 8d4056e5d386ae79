"""Records survive being written and read, and refuse what could not be true."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.records import Audit, CurvePoint, Estimate, Outcome, Spending, Trial, TrialResult, operations
from lowdim_bench.seeds import derive

TRIAL = Trial(k=4, replicate=2, round=1)
RESULT = TrialResult(
    trial=TRIAL,
    status="trained",
    outcomes=(
        Outcome(target="train_loss <= 1", reached=True, step=8),
        Outcome(target="train_loss <= 0.5", reached=False),
    ),
    audit=Audit(measured_k=4, rank_evidence="exact", affine=True, side_information_bits=12.5, track="prepared"),
    preparation=Spending(gradient_evaluations=16, examples=1024),
    training=Spending(gradient_evaluations=12, examples=192, evaluations=3),
    learning_rate=0.1,
    trained_steps=12,
    test_accuracy=0.9,
    curve=(CurvePoint(step=4, train_loss=1.5, train_accuracy=0.5), CurvePoint(step=8, train_loss=None)),
    seconds=0.25,
)


def test_a_result_survives_json() -> None:
    assert TrialResult.model_validate_json(RESULT.model_dump_json()) == RESULT
    assert TrialResult.from_data(RESULT.model_dump(mode="json"), "a record") == RESULT


def test_a_result_knows_which_targets_it_reached() -> None:
    assert RESULT.reached("train_loss <= 1")
    assert not RESULT.reached("train_loss <= 0.5")
    assert not RESULT.reached("train_loss <= 0.25")


def test_a_trial_is_named_by_k_and_replicate() -> None:
    assert TRIAL.key == "k4-r2"
    assert TRIAL.model_copy(update={"round": 7}).key == TRIAL.key


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Trial, {"k": 0, "replicate": 0, "round": 0}),
        (Trial, {"k": 1, "replicate": -1, "round": 0}),
        (Trial, {"k": True, "replicate": 0, "round": 0}),
        (Spending, {"gradient_evaluations": -1}),
        (CurvePoint, {"step": 1, "train_loss": math.nan}),
        (CurvePoint, {"step": 1, "train_loss": math.inf}),
        (Outcome, {"target": "x", "reached": 1}),
        (Estimate, {"target": "x", "status": "guessed"}),
        (TrialResult, {"trial": {"k": 1, "replicate": 0, "round": 0}, "status": "won"}),
    ],
)
def test_impossible_records_are_refused(kind: Any, data: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="a record is not valid"):
        kind.from_data(data, "a record")


def test_records_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TRIAL.k = 5


def test_seeds_depend_on_every_part_its_type_and_its_place() -> None:
    parts = [("a", "b"), ("b", "a"), ("ab",), ("a", "b", ""), ("a", 1), ("a", "1"), ("a", 2), ("a", -1), ()]
    seeds = [derive(*one) for one in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive("initial weights", "digits-mlp", 0) == 7342863446711278403


def test_operations_count_a_backward_pass_as_two_forward_ones() -> None:
    spent = Spending(gradient_evaluations=10, examples=10 * 64 + 2 * 1000, evaluations=2)
    assert operations(spent, 100, 1000) == 100 * (3 * 640 + 2000)
    exact = Spending(gradient_evaluations=7, evaluations=2)
    assert operations(exact, 100, None) == 100 * (3 * 7 + 2)
    assert operations(Spending(), 100, 1000) == 0
