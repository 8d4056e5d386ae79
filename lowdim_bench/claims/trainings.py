"""The measurement that most claims rest on: methods trained at some k, as in any sweep, on the same replicates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, final

from lowdim_bench.claims.base import Part, Values
from lowdim_bench.claims.cost import Cost, total, training
from lowdim_bench.errors import MethodFailure
from lowdim_bench.methods import MethodChoice, parse_choice
from lowdim_bench.problems import Problem
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.specs import Task
from lowdim_bench.trial import run_pack


def run_trials(
    problem: Problem, task: Task, method: MethodChoice, replicates: Sequence[int], ks: Sequence[int]
) -> list[TrialResult]:
    """Results by replicate, then by k, trained as one pack. Raises `MethodFailure` where one failed."""
    trials = [Trial(k=k, replicate=replicate, round=0) for replicate in replicates for k in ks]
    results = run_pack(problem, task, method, trials)
    if failed := [result for result in results if result.status == "failed"]:
        raise MethodFailure(f"{method.label} on {task.name}, {failed[0].trial.key}: {failed[0].reason}")
    return results


def last_loss(result: TrialResult, otherwise: float = math.log(10)) -> float:
    """The last train loss; `otherwise`, by default that of guessing among ten classes, where a run diverged."""
    last = result.curve[-1].train_loss if result.curve else None
    return otherwise if last is None else last


@final
class Trainings(Part):
    """A method at each of `ks`, in every replicate: by k, the last train loss, the test accuracy (None where there is no test
    set), and by target the step at which it was reached first (None where it was not)."""

    method: str
    """As `-m` takes it."""
    ks: tuple[int, ...]

    def measure(self, problem: Problem, replicates: Sequence[int]) -> Sequence[Values]:
        results = run_trials(problem, self.task, parse_choice(self.method), replicates, self.ks)
        chance = problem.chance_loss
        plain = [_plain(result, math.log(10) if chance is None else chance) for result in results]
        return [
            dict(zip(map(str, self.ks), plain[start : start + len(self.ks)], strict=True))
            for start in range(0, len(plain), len(self.ks))
        ]

    def cost(self) -> Cost:
        return total([training(self.task, self.method, k) for k in self.ks])

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"method": parse_choice(self.method).method_digest}


def _plain(result: TrialResult, chance: float) -> dict[str, Any]:
    return {
        "loss": last_loss(result, chance),
        "accuracy": result.test_accuracy,
        "reached": {one.target: one.step if one.reached else None for one in result.outcomes},
    }


def hits(found: Sequence[Values], k: int, target: str) -> int:
    """How many replicates reached a target at k."""
    return sum(values[str(k)]["reached"][target] is not None for values in found)


def octaves(found: Sequence[Values], target: str) -> list[float]:
    """log2 of each replicate's threshold, the smallest of its k at which the target was reached; where it never was, one
    octave above the largest."""
    thresholds = []
    for values in found:
        ks = sorted(int(k) for k in values)
        reached = [k for k in ks if values[str(k)]["reached"][target] is not None]
        thresholds.append(math.log2(min(reached) if reached else 2 * ks[-1]))
    return thresholds


def accuracies(found: Sequence[Values], k: int) -> list[float]:
    """The test accuracy of each replicate at k; where a run diverged, none of its predictions is right."""
    known = [values[str(k)]["accuracy"] for values in found]
    return [0.0 if value is None else value for value in known]
