"""Made-up sweeps: results from counts, or from a success probability played through the planner."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lowdim_bench.planner import plan_round
from lowdim_bench.records import Estimate, Outcome, Trial, TrialResult
from lowdim_bench.specs import Task, ThresholdSpec
from lowdim_bench.threshold import estimate

TARGET = "train_loss <= 0.1"


def result(k: int, replicate: int, reached: bool, number: int = 0) -> TrialResult:
    trial = Trial(k=k, replicate=replicate, round=number)
    return TrialResult(trial=trial, status="trained", outcomes=(Outcome(target=TARGET, reached=reached),))


def results(counts: Mapping[int, tuple[int, int]]) -> list[TrialResult]:
    """Results with {k: (hits, trials)}, each trial with a replicate of its own."""
    outcomes = [(k, i < hits) for k, (hits, trials) in counts.items() for i in range(trials)]
    return [result(k, replicate, reached) for replicate, (k, reached) in enumerate(outcomes)]


def play(task: Task, k_low: int, k_high: int, reaches: Callable[[Trial], bool]) -> tuple[Estimate, list[TrialResult]]:
    """A whole sweep, round by round, and its estimate at the stop."""
    seen: list[TrialResult] = []
    while trials := plan_round(task, k_low, k_high, seen):
        seen += [result(trial.k, trial.replicate, reaches(trial), trial.round) for trial in trials]
    return estimate(task.threshold, TARGET, k_low, k_high, seen), seen


def spec(**changes: object) -> ThresholdSpec:
    return ThresholdSpec.model_validate({"k_max": 4096, **changes})


def task(**changes: object) -> Task:
    """A task that searches as `changes` of its threshold say; its problem is never trained."""
    recipe = {"optimizer": {"kind": "adam"}, "learning_rate": {"value": 0.1}, "batch_size": None, "steps": 1}
    data = {
        "name": "made-up",
        "problem": {"kind": "quadratic_well", "dimension": 4096, "spectrum": {"kind": "power", "exponent": 1.0}},
        "training": {**recipe, "evaluate_every": 1},
        "full_training": recipe,
        "targets": [{"metric": "train_loss", "at_most": 0.1}],
        "preparation": {"gradient_evaluations": 0},
        "threshold": {"k_max": 4096, **changes},
    }
    return Task.from_data(data, "The made-up task")
