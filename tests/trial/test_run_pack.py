"""A pack of trials: prepared, audited, trained, judged; none feels its neighbours, and each failure says why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from lowdim_bench import trial as trial_module
from lowdim_bench.errors import UserError
from lowdim_bench.methods import MethodChoice
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import Metrics, Problem
from lowdim_bench.problems.quadratic import QuadraticProblem
from lowdim_bench.records import Spending, Trial, TrialResult
from lowdim_bench.specs import Task
from lowdim_bench.theory import exact_minimum
from lowdim_bench.trial import run_pack
from tests.problems.small import BLOBS, WELL, make_task, small_problem
from tests.trial.misbehaving import Misbehaving, Own

TASK = make_task(BLOBS, {"training": {"steps": 40}})
PROBLEM = small_problem(TASK)


def choice(name: str, **parameters: Any) -> MethodChoice:
    return MethodChoice(name=name, parameters=parameters)


def own(kind: str, **parameters: Any) -> MethodChoice:
    return Own(name=kind, parameters=parameters)


def trials(*ks: int) -> list[Trial]:
    """One trial a k, each of another replicate."""
    return [Trial(k=k, replicate=place, round=0) for place, k in enumerate(ks)]


def run(task: Task, method: MethodChoice, asked: Sequence[Trial], problem: Problem | None = None) -> list[TrialResult]:
    results = run_pack(problem or small_problem(task), task, method, asked)
    assert [result.trial for result in results] == list(asked)
    for result in results:
        assert TrialResult.model_validate_json(result.model_dump_json()) == result
    return results


def timeless(result: TrialResult) -> TrialResult:
    return result.model_copy(update={"seconds": 0.0, "cpu_seconds": None})


def one(task: Task, method: MethodChoice, k: int) -> TrialResult:
    return run(task, method, trials(k))[0]


def well(changes: Mapping[str, Any] | None = None, **training: Any) -> Task:
    """An isotropic well trained well enough that the optimizer leaves nothing."""
    recipe = {"learning_rate": {"value": 0.1, "schedule": "cosine"}, "steps": 400, "evaluate_every": 50, **training}
    base = {
        "problem": {"spectrum": {"kind": "power", "exponent": 0.0}},
        "training": recipe,
        "targets": [{"metric": "train_loss", "at_most": level} for level in (0.6, 0.3, 0.01)],
    }
    return make_task(make_task(WELL, base).model_dump(mode="json", exclude_none=False), changes)


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


# What counts as reached


def test_reached_targets_are_nested_and_come_at_scheduled_steps_in_order() -> None:
    task = make_task(
        BLOBS,
        {
            "training": {"steps": 60, "evaluate_every": 7},
            "targets": [{"metric": "train_loss", "at_most": level} for level in (1.0, 0.8, 0.5, 0.2, 1e-9)],
        },
    )
    results = run(task, choice("random_subspace"), trials(1, 3, 6, 12, 25, 53))
    counts = []
    for result in results:
        reached = [outcome.reached for outcome in result.outcomes]
        assert reached == sorted(reached, reverse=True)
        steps = [outcome.step for outcome in result.outcomes if outcome.step is not None]
        assert len(steps) == sum(reached)
        assert steps == sorted(steps)
        looks = [point.step for point in result.curve]
        assert looks == [7, 14, 21, 28, 35, 42, 49, 56, 60]
        for outcome, target in zip(result.outcomes, task.targets, strict=True):
            losses = [point.train_loss for point in result.curve if point.step == outcome.step]
            assert not outcome.reached or (losses[0] or math.inf) <= target.level
            assert outcome.target == target.name
            assert result.reached(target.name) == outcome.reached
        counts.append(sum(reached))
    assert counts[0] < counts[-1]
    assert counts[-1] >= 3


def test_a_run_ends_where_its_hardest_target_is_reached() -> None:
    task = make_task(BLOBS, {"training": {"steps": 400}})
    result = one(task, choice("dense"), 53)
    assert result.outcomes[-1].reached
    assert result.trained_steps == result.outcomes[-1].step == result.curve[-1].step < 400
    assert result.training == Spending(
        gradient_evaluations=result.trained_steps,
        examples=16 * result.trained_steps + 70 * len(result.curve),
        evaluations=len(result.curve),
    )


def test_accuracy_targets_are_reached_from_below() -> None:
    task = make_task(
        BLOBS,
        {"training": {"steps": 100}, "targets": [{"metric": "train_accuracy", "at_least": a} for a in (0.4, 0.9)]},
    )
    result = one(task, choice("dense"), 53)
    last = result.curve[-1].train_accuracy
    assert last is not None
    assert last >= 0.9
    assert [outcome.reached for outcome in result.outcomes] == [True, True]
    assert result.test_accuracy is not None
    assert 0.5 < result.test_accuracy <= 1


class Doubting(Problem):
    """A problem whose loss is higher when one parameter vector is looked at alone, as in a confirmation."""

    def __init__(self, real: Problem, higher_by: float) -> None:
        super().__init__(real.task, real.blocks, real.example_count, real.device)
        self.real, self.higher_by, self.confirmations = real, higher_by, 0

    def initial(self, replicate: int) -> torch.Tensor:
        return self.real.initial(replicate)

    def loss_and_gradient(
        self, weights: torch.Tensor, examples: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.real.loss_and_gradient(weights, examples)

    def train_metrics(self, weights: torch.Tensor) -> Metrics:
        metrics = self.real.train_metrics(weights)
        if len(weights) > 1:
            return metrics
        self.confirmations += 1
        return Metrics(metrics.loss + self.higher_by, metrics.accuracy)

    def test_accuracy(self, weights: torch.Tensor) -> torch.Tensor | None:
        return self.real.test_accuracy(weights)


def test_a_target_counts_only_once_it_is_confirmed_from_theta_alone() -> None:
    task = make_task(
        BLOBS,
        {
            "training": {"steps": 60},
            "targets": [{"metric": "train_loss", "at_most": level} for level in (1.0, 0.3, 1e-9)],
        },
    )
    asked = trials(40, 53)
    real = run(task, choice("random_subspace"), asked, Doubting(small_problem(task), 0.0))
    doubtful = Doubting(small_problem(task), 0.5)
    doubted = run(task, choice("random_subspace"), asked, doubtful)
    for sure, unsure in zip(real, doubted, strict=True):
        assert unsure.status == "trained"
        assert [outcome.unconfirmed for outcome in sure.outcomes] == [0, 0, 0]
        losses = [point.train_loss or math.inf for point in sure.curve]
        # Confirmed at 1.0 means 0.5 at the scheduled look; until then every look at 1.0 or below is unconfirmed.
        first = next((place for place, loss in enumerate(losses) if loss <= 0.5), len(losses))
        assert unsure.outcomes[0].reached == (first < len(losses))
        assert unsure.outcomes[0].unconfirmed == sum(loss <= 1.0 for loss in losses[:first])
        assert not unsure.outcomes[1].reached
        assert unsure.outcomes[1].step is None
        assert unsure.outcomes[1].unconfirmed == sum(loss <= 0.3 for loss in losses) > 0
        assert sure.outcomes[1].reached
        assert unsure.curve == sure.curve
    assert doubtful.confirmations > 0


class Breaking(Doubting):
    """A problem whose loss is no number any more from its third scheduled look on."""

    def train_metrics(self, weights: torch.Tensor) -> Metrics:
        metrics = self.real.train_metrics(weights)
        self.confirmations += len(weights) > 1
        broken = len(weights) > 1 and self.confirmations > 2
        return Metrics(torch.full_like(metrics.loss, math.nan) if broken else metrics.loss, metrics.accuracy)


def test_what_was_reached_before_a_training_diverged_stands() -> None:
    task = make_task(
        BLOBS,
        {
            "training": {"steps": 60, "evaluate_every": 10},
            "targets": [{"metric": "train_loss", "at_most": level} for level in (1.0, 1e-9)],
        },
    )
    for result in run(task, choice("random_subspace"), trials(40, 53), Breaking(small_problem(task), 0.0)):
        assert result.status == "diverged"
        assert [outcome.reached for outcome in result.outcomes] == [True, False]
        assert [point.train_loss is None for point in result.curve] == [False, False, True]
        assert result.trained_steps == 30


# Learning rates

RATES = {"value": 0.1, "multipliers": [1e-6, 1.0, 1e30]}


def test_a_trial_is_as_good_as_its_best_learning_rate_and_pays_for_all() -> None:
    training = {"steps": 60, "optimizer": {"kind": "sgd", "momentum": 0.9}}
    tuned = one(make_task(BLOBS, {"training": training | {"learning_rate": RATES}}), choice("random_subspace"), 40)
    plain = one(
        make_task(BLOBS, {"training": training | {"learning_rate": {"value": 0.1}}}), choice("random_subspace"), 40
    )
    assert plain.outcomes[-1].reached
    assert tuned.outcomes == plain.outcomes
    assert tuned.learning_rate == 0.1
    assert tuned.test_accuracy == plain.test_accuracy
    # 60 steps at the rate that learns nothing, as many as needed at the one that does, 4 until divergence is seen.
    assert tuned.trained_steps == 60 + plain.trained_steps + 4
    assert tuned.training.gradient_evaluations == tuned.trained_steps
    assert tuned.training.evaluations == 15 + len(plain.curve) + 1
    assert tuned.preparation == plain.preparation


def test_where_no_target_is_reached_the_lowest_loss_is_shown_and_not_the_shortest_run() -> None:
    changes = {
        "training": {"steps": 20, "optimizer": {"kind": "sgd"}, "learning_rate": RATES},
        "targets": [{"metric": "train_loss", "at_most": 1e-9}],
    }
    result = one(make_task(BLOBS, changes), choice("random_subspace"), 20)
    assert result.status == "trained"
    assert result.learning_rate == 0.1
    assert [point.step for point in result.curve] == [4, 8, 12, 16, 20]
    assert result.curve[-1].train_loss is not None
    assert result.test_accuracy is not None


def test_all_learning_rates_diverging_is_divergence() -> None:
    changes = {"training": {"optimizer": {"kind": "sgd"}, "learning_rate": {"value": 1e30, "multipliers": [1.0, 10.0]}}}
    result = one(make_task(BLOBS, changes), choice("random_subspace"), 20)
    assert result.status == "diverged"


def test_different_targets_may_be_reached_at_different_rates() -> None:
    """The outcome is that of any of the runs, the first of them where several reach a target."""
    task = make_task(BLOBS, {"training": {"steps": 60, "evaluate_every": 1, "learning_rate": {"value": 0.1}}})
    fast, slow = (
        one(make_task(task.model_dump(mode="json"), {"training": {"learning_rate": {"value": v}}}), choice("dense"), 53)
        for v in (0.1, 0.02)
    )
    both = one(
        make_task(
            task.model_dump(mode="json"), {"training": {"learning_rate": {"value": 0.1, "multipliers": [0.2, 1.0]}}}
        ),
        choice("dense"),
        53,
    )
    for outcome, first, second in zip(both.outcomes, fast.outcomes, slow.outcomes, strict=True):
        steps = [step for step in (first.step, second.step) if step is not None]
        assert outcome.step == min(steps)


@pytest.mark.parametrize(("k", "rate"), [(4, 0.05), (16, 0.1), (1, 0.025)])
def test_the_learning_rate_follows_k_as_the_task_says(k: int, rate: float) -> None:
    changes = {"training": {"learning_rate": {"value": 0.05, "reference_k": 4, "exponent": 0.5}}}
    assert one(make_task(BLOBS, changes), choice("random_subspace"), k).learning_rate == pytest.approx(rate)


# Packs


@pytest.mark.parametrize("name", ["random_subspace", "random_mask", "burn_in_subspace", "imp"])
def test_results_do_not_depend_on_the_pack(name: str) -> None:
    asked = trials(20, 30, 40, 25)
    together = run(TASK, choice(name), asked, PROBLEM)
    for result, single in zip(together, asked, strict=True):
        alone = run(TASK, choice(name), [single], PROBLEM)[0]
        assert result.status == alone.status
        assert result.preparation == alone.preparation
        assert [point.step for point in result.curve] == [point.step for point in alone.curve]
        losses = [[point.train_loss for point in one.curve] for one in (result, alone)]
        assert losses[0] == pytest.approx(losses[1], rel=2e-3)
        assert result.outcomes == alone.outcomes


def test_a_pack_run_twice_gives_the_same_results() -> None:
    first, again = (run(TASK, choice("burn_in_subspace"), trials(20, 30)) for _ in range(2))
    assert [timeless(result) for result in first] == [timeless(result) for result in again]


def test_operators_of_several_kinds_may_share_a_pack() -> None:
    asked = trials(8, 9, 20, 21)
    together = run(TASK, own("TwoKinds"), asked, PROBLEM)
    assert [result.status for result in together] == ["trained"] * 4
    for result, single in zip(together, asked, strict=True):
        alone = run(TASK, own("TwoKinds"), [single], PROBLEM)[0]
        assert result.curve[-1].train_loss == pytest.approx(alone.curve[-1].train_loss, rel=1e-3)


def test_methods_are_compared_on_the_same_initial_weights_and_batches() -> None:
    """At k = D a mask, an orthonormal subspace and full training are the same training but for the basis."""
    task = make_task(
        BLOBS,
        {"training": {"optimizer": {"kind": "sgd", "momentum": 0.9}, "learning_rate": {"value": 0.1}, "steps": 20}},
    )
    results = [
        one(task, method, 53)
        for method in (choice("dense"), choice("random_mask"), choice("random_subspace", operator="orthonormal"))
    ]
    losses = [[point.train_loss for point in result.curve] for result in results]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[2] == pytest.approx(losses[0], rel=1e-3)


# Known answers


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
