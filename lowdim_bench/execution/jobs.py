"""What is asked of the workers, what comes back, and what becomes of a job that failed. Pure: knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.specs import Task

ATTEMPTS = 3
"""How often a trial is run that takes its worker down, or is too slow, or takes too much memory, or some of each."""
PACK_ATTEMPTS = 2
"""How often a pack is run whose worker dies before it is halved, for one of its trials may do it each time."""
MEMORY_ATTEMPTS = 2
"""How often a single trial is run that takes more memory than there is."""
NODE_ATTEMPTS = 10
"""How often a pack is run whose node dies: that is never its own fault, but must not go on for ever either."""
TRIALS_NAMED = 8
LONGEST_REASON = 500

Failure = Literal["crash", "memory", "deadline", "node", "bug"]
"""crash: the worker process died. memory: it ran out of memory. deadline: too slow. node: its node died. bug: the harness
raised."""
OWN: tuple[Failure, ...] = ("crash", "memory", "deadline")
"""What a trial may do to its worker. One that does so each time is poisoned: it comes back as a failed result."""


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

    A pack that was halved on the way comes back as one of these for each part. A trial that was given up since its worker
    died, ran out of memory or was too slow each time is a `TrialResult` with status "failed".
    """

    job: Job
    results: tuple[Any, ...]
    """As `Answer` has them."""
    error: str | None
    attempts: int
    certificates: Mapping[str, bytes] = field(default_factory=dict)
    """Of the results that name one, by SHA-256."""


@dataclass(frozen=True)
class Attempt:
    """A job on its way, with what has gone wrong so far."""

    job: Job
    failures: tuple[Failure, ...] = field(default=())

    @property
    def number(self) -> int:
        return len(self.failures) + 1


def after_failure(attempt: Attempt, trouble: Trouble) -> tuple[list[Attempt], Finished | None]:
    """What to run next, or the end of it.

    What the harness raises would come again, and is no trial's fault: that ends the job with an error. Whatever else happens
    is tried again a bounded number of times. A pack is halved until the trial that does it is alone, which is given up as a
    failed result.
    """
    job, failure = attempt.job, trouble.failure
    failures: tuple[Failure, ...] = (*attempt.failures, failure)
    now = Attempt(job, failures)
    if failure == "bug" or (failure == "node" and failures.count("node") >= NODE_ATTEMPTS):
        return [], Finished(job, (), _explain(attempt, trouble), attempt.number)
    if failure == "node":
        return [now], None
    if len(job.trials) > 1:
        if failure == "crash" and failures.count("crash") < PACK_ATTEMPTS:
            return [now], None
        # What a part has seen of crashes goes along, so that it is halved at once where there is one more.
        seen: tuple[Failure, ...] = ("crash",) if failure == "crash" else ()
        middle = len(job.trials) // 2
        halves = (job.trials[:middle], job.trials[middle:])
        return [Attempt(replace(job, trials=half), seen) for half in halves], None
    own = [one for one in failures if one in OWN]
    limit = {"crash": ATTEMPTS, "memory": MEMORY_ATTEMPTS}.get(failure, 1)
    if own.count(failure) < limit and len(own) < ATTEMPTS:
        return [now], None
    reason = f"given up{_times(attempt)}, since {_what(attempt, trouble)}: {' '.join(trouble.cause.split())}"
    poisoned = TrialResult(trial=next(iter(job.trials)), status="failed", reason=reason[:LONGEST_REASON])
    return [], Finished(job, (poisoned,), None, attempt.number)


def _explain(attempt: Attempt, trouble: Trouble) -> str:
    job = attempt.job
    names = ", ".join(trial.key for trial in job.trials[:TRIALS_NAMED])
    more = f" and {len(job.trials) - TRIALS_NAMED} more" if len(job.trials) > TRIALS_NAMED else ""
    because = f"given up{_times(attempt)}, since {_what(attempt, trouble)}"
    return f"Task {job.task.name}, trials {names}{more}: {because}.\n{trouble.cause}".rstrip()


def _times(attempt: Attempt) -> str:
    return "" if attempt.number == 1 else f" after {attempt.number} attempts"


def _what(attempt: Attempt, trouble: Trouble) -> str:
    return {
        "crash": "the worker process died each time",
        "memory": "it took more memory than the worker has; fewer workers leave more for each",
        "deadline": f"it was not done {attempt.job.deadline or 0:g} s after its start and was stopped",
        "node": "the node that ran it died each time",
        "bug": "running it raised an error, which would come again",
    }[trouble.failure]
