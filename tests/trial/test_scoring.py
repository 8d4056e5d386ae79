"""What a trial reaches, once that is confirmed, and at which of its learning rates."""

from __future__ import annotations

import math

import pytest
import torch

from lowdim_bench.problems import Metrics, Problem
from lowdim_bench.records import Spending
from tests.problems.small import BLOBS, make_task, small_problem
from tests.trial.running import choice, one, run, trials

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
