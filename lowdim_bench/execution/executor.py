"""The driver's side: a queue of jobs, a worker process for each place, and retries, which Ray is told to leave to us.

Ray retries out-of-memory kills without bound, cannot tell a bug from a lost node in its own retries, and forgets both when the
driver ends. So every task and actor runs once, and `jobs.after_failure` decides what is worth another attempt.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from lowdim_bench.errors import InfrastructureError, UserError
from lowdim_bench.execution.jobs import Attempt, Finished, Job, Trouble, after_failure
from lowdim_bench.execution.plan import Plan, plan_workers
from lowdim_bench.execution.worker import Work
from lowdim_bench.settings import Settings, prepare_environment

TICK = 2.0
STARTS, STARTS_IF_KILLED = 3, 10
"""How often a worker may fail to start before its place is given up: through an error of its own, and where it or its node
was killed meanwhile, which the next one need not be."""
SLOW_START = 60.0

log = logging.getLogger(__name__)


@dataclass
class _Place:
    """One worker process, and what it has been doing since when: `pending` is its answer to a greeting, or the results of
    `attempt`."""

    actor: Any
    pending: Any
    attempt: Attempt | None = None
    since: float = 0.0
    failed_starts: int = 0

    @property
    def ready(self) -> bool:
        return self.pending is None

    @property
    def starting(self) -> bool:
        return self.pending is not None and self.attempt is None

    def late(self, now: float) -> bool:
        deadline = self.attempt.job.deadline if self.attempt else None
        return deadline is not None and now - self.since > deadline


class Executor:
    """Runs jobs on all workers of a cluster; use it as a context manager.

    Raises `UserError` where the cluster cannot be reached or has no room for the workers that were asked for.
    """

    def __init__(self, settings: Settings, work: Work | None = None) -> None:
        self._settings = settings
        self._work = work or Work()
        self._queue: deque[Attempt] = deque()
        self._done: list[Finished] = []
        self._arrays: dict[str, Any] = {}
        self._places: list[_Place] = []
        self._closed = False
        self._lost: InfrastructureError | None = None
        self._next_complaint = 0.0
        prepare_environment(settings)
        from lowdim_bench.execution.cluster import Cluster

        self._cluster = Cluster.open(settings)
        try:
            self._plan: Plan = plan_workers(settings, self._cluster.resources())
            self._places = [self._start() for _ in range(self._plan.workers)]
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """How many worker processes there are, or will be once the cluster has started them."""
        return len(self._places)

    @property
    def idle(self) -> int:
        """How many more jobs would find a worker at once."""
        return max(0, sum(place.attempt is None for place in self._places) - len(self._queue))

    @property
    def device(self) -> str:
        """Where the workers train: 'cpu' or 'cuda'."""
        return self._plan.device

    def submit(self, job: Job) -> None:
        """Take a job; it runs as soon as a worker is free. Its task's data is loaded here when first needed.

        Raises `UserError` where that data is missing or wrong.
        """
        if job.data_key not in self._arrays:
            self._arrays[job.data_key] = self._cluster.share(dict(self._work.load(job.task, self._settings.data_root)))
        self._queue.append(Attempt(job))
        self._dispatch()

    def wait(self, timeout: float | None = None) -> list[Finished]:
        """What has finished since the last call: waits for at least one job, for at most `timeout` seconds.

        Empty when time is up or nothing is under way. Raises `InfrastructureError` when the cluster is gone or no worker
        can be started.
        """
        if self._lost is not None:
            raise self._lost
        try:
            self._wait(None if timeout is None else time.monotonic() + timeout)
        except InfrastructureError as error:
            if not self._done:
                raise
            self._lost = error  # what did finish goes first
        done, self._done = self._done, []
        return done

    def _wait(self, until: float | None) -> None:
        while True:
            self._collect(timeout=0)
            self._dispatch()
            now = time.monotonic()
            under_way = self._queue or any(place.attempt for place in self._places)
            if self._done or not under_way or (until is not None and now >= until):
                return
            self._collect(timeout=min([TICK, *([until - now] if until is not None else []), *self._time_left(now)]))
            self._cluster.check()
            self._watch_starts()

    def close(self) -> None:
        """End the workers, and the cluster if it is ours. May be called at any time and again; never raises."""
        if self._closed:
            return
        self._closed = True
        if not self._cluster.owned:
            for place in self._places:
                self._cluster.kill(place.actor)
        self._cluster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, failed_starts: int = 0) -> _Place:
        actor = self._cluster.start_worker(self._work, self._plan)
        return _Place(actor, actor.hello.remote(), since=time.monotonic(), failed_starts=failed_starts)

    def _restart(self, place: _Place) -> None:
        self._cluster.kill(place.actor)
        fresh = self._start(place.failed_starts)
        place.actor, place.pending, place.attempt, place.since = fresh.actor, fresh.pending, None, fresh.since

    def _dispatch(self) -> None:
        for place in self._places:
            if not self._queue:
                return
            if place.ready:
                attempt = self._queue.popleft()
                job = attempt.job
                place.attempt, place.since = attempt, time.monotonic()
                place.pending = place.actor.run.remote(job.task, job.method, job.trials, self._arrays[job.data_key])

    def _time_left(self, now: float) -> list[float]:
        """Seconds to the deadlines of running jobs."""
        return [
            max(0.01, place.since + place.attempt.job.deadline - now)
            for place in self._places
            if place.attempt is not None and place.attempt.job.deadline is not None
        ]

    def _collect(self, timeout: float) -> None:
        """Take in every answer that is there, waiting up to `timeout` for the first; end what is late."""
        if pending := [place.pending for place in self._places if place.pending is not None]:
            answered = self._cluster.answered(pending, timeout)
            for place in [place for place in self._places if place.pending in answered]:
                self._take(place)
        now = time.monotonic()
        for place in [place for place in self._places if place.late(now)]:
            self._failed(place, Trouble("deadline"))

    def _take(self, place: _Place) -> None:
        answer, trouble = self._cluster.answer(place.pending)
        if trouble is not None:
            if place.attempt is None:
                self._start_failed(place, trouble)
            else:
                self._failed(place, trouble)
            return
        place.pending, place.failed_starts = None, 0
        if place.attempt is not None:
            job, number = place.attempt.job, place.attempt.number
            self._done.append(Finished(job, tuple(answer.results), None, number, answer.certificates))
            place.attempt = None

    def _failed(self, place: _Place, trouble: Trouble) -> None:
        """The job of a place came to grief: queue it again, in front, or give it up. The place gets a fresh process, since
        after an error this one's memory, or its GPU context, may be spoilt."""
        attempt = place.attempt
        assert attempt is not None
        again, finished = after_failure(attempt, trouble)
        self._queue.extendleft(reversed(again))
        if finished is not None:
            self._done.append(finished)
        if trouble.failure in {"crash", "node"}:
            self._cluster.check_own_node()
            self._greet_idle()
        self._restart(place)

    def _greet_idle(self) -> None:
        """Where one worker died, its node may have: no job is risked on an idle one that does not answer any more."""
        for place in self._places:
            if place.ready:
                place.pending, place.since = place.actor.hello.remote(), time.monotonic()

    def _start_failed(self, place: _Place, trouble: Trouble) -> None:
        self._cluster.check_own_node()
        place.failed_starts += 1
        limit = STARTS_IF_KILLED if trouble.failure in {"crash", "node"} else STARTS
        if place.failed_starts < limit:
            self._restart(place)
            return
        log.warning("A worker could not be started %d times and is given up: %s", limit, trouble.cause)
        self._places.remove(place)
        if not self._places:
            raise InfrastructureError(
                f"No worker can be started on the Ray cluster. Put this right and run the same command again: {trouble.cause}"
            )

    def _watch_starts(self) -> None:
        """Say it when workers stay away; end the run when none is there and the cluster has no room for one any more."""
        now = time.monotonic()
        slow = [place for place in self._places if place.starting and now - place.since > SLOW_START]
        if not slow or now < self._next_complaint:
            return
        self._next_complaint = now + 10 * SLOW_START
        if len(slow) == len(self._places) and not self._settings.autoscaling:
            try:
                plan_workers(replace(self._settings, workers=1), self._cluster.resources())
            except UserError as error:
                raise InfrastructureError(
                    f"The Ray cluster has lost the nodes that the workers ran on. {error}"
                ) from None
        log.warning(
            "%d of %d workers have not started after %.0f s: the cluster is busy, or still growing. The work waits for them.",
            len(slow),
            len(self._places),
            SLOW_START,
        )
