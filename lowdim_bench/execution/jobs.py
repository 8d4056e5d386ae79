"""What is asked of the workers, what comes back, and what becomes of a job that failed. Pure: knows nothing of Ray."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.specs import Task

ATTEMPTS = 3
"""How often a pack is run whose worker dies."""
MEMORY_ATTEMPTS = 2
"""How often a single trial is run that takes more memory than there is."""
TRIALS_NAMED = 8

Failure = Literal["crash", "memory", "bug", "deadline"]
"""crash: the worker process or its node died. memory: it ran out of memory. bug: the harness raised. deadline: too slow."""


@dataclass(frozen=True)
class Trouble:
    """What went wrong with one attempt, and its cause in words."""

    failure: Failure
    cause: str = ""


@dataclass(frozen=True)
class Job:
    """One pack of trials of one sweep."""

    sweep: str
    task: Task
    method: object
    """A `MethodChoice`; opaque here, so long as it pickles."""
    trials: tuple[Trial, ...]
    data: str = ""
    """Key of the arrays: jobs of equal key share what was loaded for the first. The task's digest where empty."""
    deadline: float | None = None
    """Seconds from its start on a worker after which it is killed."""

    @property
    def data_key(self) -> str:
        return self.data or self.task.digest


@dataclass(frozen=True)
class Finished:
    """A job that will not run again: results in the order of its trials, or the error that ended it.

    A pack that ran out of memory comes back as two of these, one for each half.
    """

    job: Job
    results: tuple[TrialResult, ...]
    error: str | None
    attempts: int


@dataclass(frozen=True)
class Attempt:
    """A job on its way, with what has gone wrong so far."""

    job: Job
    failures: tuple[Failure, ...] = field(default=())

    @property
    def number(self) -> int:
        return len(self.failures) + 1


def after_failure(attempt: Attempt, trouble: Trouble) -> tuple[list[Attempt], Finished | None]:
    """What to run next, or the end of it. Only deaths of workers and shortage of memory are worth another try."""
    job, failure = attempt.job, trouble.failure
    failures: tuple[Failure, ...] = (*attempt.failures, failure)
    if failure == "memory" and len(job.trials) > 1:
        middle = len(job.trials) // 2
        return [Attempt(replace(job, trials=half)) for half in (job.trials[:middle], job.trials[middle:])], None
    limit = {"crash": ATTEMPTS, "memory": MEMORY_ATTEMPTS}.get(failure, 1)
    if failures.count(failure) < limit and len(failures) < ATTEMPTS:
        return [Attempt(job, failures)], None
    return [], Finished(job, (), _explain(attempt, trouble), attempt.number)


def _explain(attempt: Attempt, trouble: Trouble) -> str:
    job = attempt.job
    names = ", ".join(trial.key for trial in job.trials[:TRIALS_NAMED])
    more = f" and {len(job.trials) - TRIALS_NAMED} more" if len(job.trials) > TRIALS_NAMED else ""
    times = "" if attempt.number == 1 else f" after {attempt.number} attempts"
    what = {
        "crash": "their worker process died each time",
        "memory": "they took more memory than the worker has; fewer workers leave more for each",
        "bug": "running them raised an error, which would come again",
        "deadline": f"they were not done {job.deadline or 0:g} s after their start and were stopped",
    }[trouble.failure]
    return f"Task {job.task.name}, trials {names}{more}: given up{times}, since {what}.\n{trouble.cause}".rstrip()
