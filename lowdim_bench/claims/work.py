"""Parts on workers: the executor's trials are replicates of a part, and its method is the part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lowdim_bench.claims.base import Part, Values
from lowdim_bench.errors import InfrastructureError
from lowdim_bench.execution import Answer, Finished, Job, Work
from lowdim_bench.problems import Problem
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.specs import Task
from lowdim_bench.specs.problem import Classification

_AT_ONCE = 8
"""Replicates of a job: few enough that little is lost with a worker, enough to be trained as a pack."""


@dataclass(frozen=True)
class Measured:
    """What was measured of one replicate."""

    trial: Trial
    values: Values


def measure(problem: Problem, task: Task, part: Part, trials: Sequence[Trial]) -> Answer:
    """In a worker, for each job. Raises whatever keeps a part from being measured: that ends its claim."""
    assert part.task == task
    found = part.measure(problem, [trial.replicate for trial in trials])
    plain = json.loads(json.dumps(found, allow_nan=False))  # as it will be read
    return Answer([Measured(trial, values) for trial, values in zip(trials, plain, strict=True)])


WORK = Work(run=measure)


def jobs(part: Part, missing: Sequence[int]) -> Iterator[Job]:
    """Jobs for some replicates of a part."""
    for start in range(0, len(missing), _AT_ONCE):
        some = missing[start : start + _AT_ONCE]
        yield Job(
            sweep=part.digest,
            task=part.task,
            method=part,
            trials=tuple(Trial(k=1, replicate=replicate, round=0) for replicate in some),
            data=_data_key(part.task),
        )


def _data_key(task: Task) -> str:
    """Tasks with the same data share what is loaded."""
    return f"data {task.problem.data.digest}" if isinstance(task.problem, Classification) else ""


def measured(done: Finished) -> dict[int, dict[str, Any]]:
    """What a job gave, by replicate. Raises `InfrastructureError` where it, or one of its replicates, was given up."""
    if done.error is not None:
        raise InfrastructureError(done.error)
    lost = [result for result in done.results if isinstance(result, TrialResult)]
    if lost:
        raise InfrastructureError(f"replicate {lost[0].trial.replicate}: {lost[0].reason}")
    return {result.trial.replicate: dict(result.values) for result in done.results}
