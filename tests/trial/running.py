"""Trials of the blobs, run as packs by the real harness; their results always survive being written and read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lowdim_bench.methods import MethodChoice
from lowdim_bench.problems import Problem
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.specs import Task
from lowdim_bench.trial import run_pack
from tests.problems.small import BLOBS, make_task, small_problem
from tests.trial.misbehaving import Own

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


def one(task: Task, method: MethodChoice, k: int) -> TrialResult:
    return run(task, method, trials(k))[0]
