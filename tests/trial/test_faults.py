"""Trials that fail, diverge or are refused: none feels what its neighbours do, and each says why."""

from __future__ import annotations

from typing import Any

import pytest

from lowdim_bench import trial as trial_module
from lowdim_bench.errors import UserError
from lowdim_bench.records import Spending, Trial
from lowdim_bench.trial import run_pack
from tests.problems.small import BLOBS, make_task, small_problem
from tests.trial.misbehaving import Misbehaving
from tests.trial.running import PROBLEM, TASK, choice, one, own, run, trials

# What a method does wrong is its own failure, and no one else's.

BUDGET = "gradient and full evaluations; the task allows 1000 a trial"
MISDEEDS = {
    "raises": ("preparation failed: ZeroDivisionError: it divided by zero", 0),
    "raises_later": ("preparation failed: KeyError: 'lost'", 2),
    "returns_nothing": ("it returned a NoneType; prepare must end in a parametrization", 0),
    "returns_a_tensor": ("it returned a Tensor; prepare must end in a parametrization", 0),
    "returns_nothing_later": ("it returned a NoneType; prepare must end in a parametrization", 2),
    "yields_garbage": ("it yielded a int; only Train requests may be yielded", 0),
    "yields_a_subspace": ("it yielded a AffineSubspace; only Train requests may be yielded", 0),
    "trains_backwards": ("asked to train from step 5 up to step 2; start must lie below stop", 0),
    "trains_half_steps": ("must be whole numbers", 0),
    "never_snaps": ("snapshot_every is 0", 0),
    "trains_nothing": ("preparation failed: AttributeError", 0),
    "trains_another_network": ("a map that ends in shape (7,); the network has (53,)", 0),
    "prepares_another_network": ("the map ends in 7 parameters; the network has 53", 0),
    "ignores_k": ("the trial allows k = 3 numbers, but the method prepared 53", 0),
    "claims_k": ("the map ends in shape (3,), not (53,)", 0),
    "one_too_many": ("the trial allows k = 3 numbers, but the method prepared 4", 0),
    "not_a_number": ("not finite", 0),
    "infinite": ("not finite", 0),
    "asks_too_much_at_once": (f"it asked for 1001 {BUDGET}", 0),
    "never_has_enough": (f"it asked for 1010 {BUDGET}", 1000),
    "loops_on_the_loss_itself": (f"it asked for 1001 {BUDGET}", 1000),
}
NEIGHBOURS = run(TASK, own("Misbehaving"), trials(8, 3, 12))


@pytest.mark.parametrize("how", MISDEEDS)
def test_a_method_that_breaks_its_contract_fails_alone_and_is_told_why(how: str) -> None:
    reason, spent = MISDEEDS[how]
    before, failed, after = run(TASK, own("Misbehaving", how=how), trials(8, 3, 12), PROBLEM)
    assert failed.status == "failed"
    assert reason in failed.reason
    assert failed.preparation.gradient_evaluations == spent
    assert failed.training == Spending()
    assert not failed.outcomes
    assert failed.audit is None
    for result, undisturbed in ((before, NEIGHBOURS[0]), (after, NEIGHBOURS[2])):
        assert result.status == "trained"
        assert result.outcomes == undisturbed.outcomes
        assert result.curve[-1].train_loss == pytest.approx(undisturbed.curve[-1].train_loss, rel=1e-3)


def test_every_misdeed_is_tested() -> None:
    misdeeds = {name for name, thing in vars(Misbehaving).items() if callable(thing) and not name.startswith("_")}
    assert misdeeds - {"prepare", "behaves"} == MISDEEDS.keys()


def test_a_pack_of_failures_is_a_pack_of_results() -> None:
    results = run(TASK, own("Misbehaving", how="raises"), [Trial(k=3, replicate=r, round=0) for r in range(3)])
    assert [result.status for result in results] == ["failed"] * 3


def test_a_choice_that_is_not_valid_is_the_users_error() -> None:
    with pytest.raises(UserError, match="Unknown method"):
        run_pack(PROBLEM, TASK, choice("impp"), trials(3))


def test_a_map_that_moves_during_training_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    original = trial_module.train

    def moving(problem: Any, subspaces: Any, *rest: Any) -> Any:
        thetas = original(problem, subspaces, *rest)
        subspaces[1].offset[0] += 1
        return thetas

    monkeypatch.setattr(trial_module, "train", moving)
    results = run(TASK, choice("random_subspace"), trials(8, 3, 12))
    assert [result.status for result in results] == ["trained", "failed", "trained"]
    assert results[1].reason == "the map itself changed during training; only theta may"


# What trains too far


def test_training_that_diverges_is_no_failure_and_reaches_nothing() -> None:
    task = make_task(BLOBS, {"training": {"steps": 40, "optimizer": {"kind": "sgd"}, "learning_rate": {"value": 1e30}}})
    result = one(task, choice("random_subspace"), 9)
    assert result.status == "diverged"
    assert "not finite" in result.reason
    assert [outcome.reached for outcome in result.outcomes] == [False, False]
    assert result.trained_steps == 4  # it ends at the first look
    assert result.curve[-1].train_loss is None
    assert result.test_accuracy is None
    assert result.audit is not None


def test_a_row_that_diverges_does_not_disturb_the_others() -> None:
    # The learning rate rises so steeply with k that only the largest diverges.
    rate = {"value": 0.05, "reference_k": 4, "exponent": 2.0}
    changes = {"training": {"steps": 40, "optimizer": {"kind": "sgd"}, "learning_rate": rate}}
    task = make_task(BLOBS, changes | {"problem": {"network": {"hidden": []}}, "threshold": {"k_max": 20}})
    huge = task.model_copy(
        update={
            "training": task.training.model_copy(
                update={"learning_rate": task.training.learning_rate.model_copy(update={"exponent": 60.0})}
            )
        }
    )
    steady, wild = run(huge, choice("random_subspace"), trials(4, 20), small_problem(task))
    alone = one(task, choice("random_subspace"), 4)
    assert (steady.status, wild.status) == ("trained", "diverged")
    assert steady.learning_rate == alone.learning_rate == 0.05
    assert steady.curve[-1].train_loss == pytest.approx(alone.curve[-1].train_loss, rel=1e-3)


def test_a_preparation_that_diverges_reaches_nothing() -> None:
    task = make_task(BLOBS, {"full_training": {"learning_rate": {"value": 1e30}}})
    result = one(task, choice("imp"), 9)
    assert result.status == "diverged"
    assert result.reason == "full-space training in preparation was not finite"
    assert not any(outcome.reached for outcome in result.outcomes)
    assert len(result.outcomes) == 2
    assert result.preparation.gradient_evaluations == 12
    assert result.training == Spending()


# Who may come


def test_a_cold_task_refuses_who_saw_data_and_a_prepared_one_does_not() -> None:
    cold = make_task(BLOBS, {"track": "cold"})
    seen, unseen = run(cold, own("SeesData"), trials(3, 4))
    assert seen.status == "failed"
    assert "saw data before its k-dimensional training (track 'prepared')" in seen.reason
    assert "task blobs admits no more than track 'cold'" in seen.reason
    assert seen.preparation.gradient_evaluations == 2
    assert unseen.status == "trained"
    assert unseen.audit is not None
    assert unseen.audit.track == "cold"
    for track in ("prepared", "open"):
        result = one(make_task(BLOBS, {"track": track}), own("SeesData"), 3)
        assert result.audit is not None
        assert (result.status, result.audit.track) == ("trained", "prepared")


def test_a_task_without_a_budget_pays_for_no_preparation() -> None:
    task = make_task(BLOBS, {"preparation": {"gradient_evaluations": 0}})
    assert "the task allows 0 a trial" in one(task, own("SeesData"), 3).reason
    assert one(task, choice("random_mask"), 3).status == "trained"
