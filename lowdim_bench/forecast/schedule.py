"""Sweeps on a cluster, simulated event by event: the planner, the dealing of rounds and the queue are the real ones' rules.

A round is planned from the results of the rounds before it, dealt out in packs, and taken from one queue by whichever worker is
free. It ends with its last pack: until then workers without a pack of another sweep idle. That tail is what a cluster loses.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lowdim_bench.bench import deal
from lowdim_bench.planner import plan_round
from lowdim_bench.records import Outcome, Trial, TrialResult
from lowdim_bench.specs import Task

Reaches = Callable[[Trial], bool]
"""Whether a trial reaches the ranked target."""
PackSeconds = Callable[[Sequence[Trial]], float]
"""How long a worker takes for a pack of one sweep."""


@dataclass
class PlannedSweep:
    """One task with one method: what is planned, and what its trials would come to."""

    task: Task
    k_range: tuple[int, int]
    reaches: Reaches
    seconds: PackSeconds
    results: list[TrialResult] = field(default_factory=list)
    waiting: int = 0
    rounds: int = 0
    finished: bool = False

    @property
    def trainings(self) -> int:
        return len(self.results)


@dataclass(frozen=True)
class Timeline:
    """What a simulated cluster did, in seconds."""

    workers: int
    makespan: float
    """From the start of the workers to the end of the last pack."""
    busy: float
    """Of all workers together, in packs."""
    starting: float
    """Of all workers together, until they were ready."""
    trainings: int
    rounds: int
    packs: int

    @property
    def idle_share(self) -> float:
        """Of all workers' time from start to end, what was spent neither in packs nor in starting: rounds' tails."""
        return 1 - (self.busy + self.starting) / (self.workers * self.makespan)


def simulate(sweeps: Sequence[PlannedSweep], workers: int, ready: Sequence[float]) -> Timeline:
    """Run all sweeps to their ends on `workers`, of which number i is ready at `ready[i]` seconds."""
    if len(ready) != workers:
        raise ValueError(f"{workers} workers need as many times at which they are ready; got {len(ready)}")
    queue: deque[tuple[PlannedSweep, tuple[Trial, ...]]] = deque()
    events: list[tuple[float, int, PlannedSweep | None, tuple[Trial, ...]]] = []
    number = packs = 0
    busy = now = 0.0
    for sweep in sweeps:
        queue += _next_packs(sweep, workers, _active(sweeps))
    for at in ready:
        number += 1
        heapq.heappush(events, (at, number, None, ()))
    while events and any(sweep.waiting for sweep in sweeps):
        now, _, sweep, trials = heapq.heappop(events)
        if sweep is not None:
            _take_in(sweep, trials)
            if not sweep.waiting:
                queue += _next_packs(sweep, workers, _active(sweeps))
        for _ in range(1 + _idle(events, workers)):  # this worker, and those that found nothing before
            if not queue:
                break
            number, packs = number + 1, packs + 1
            own, pack = queue.popleft()
            taken = own.seconds(pack)
            busy += taken
            heapq.heappush(events, (now + taken, number, own, pack))
    trainings, rounds = sum(sweep.trainings for sweep in sweeps), sum(sweep.rounds for sweep in sweeps)
    starting = sum(min(at, now) for at in ready)
    return Timeline(workers, now, busy, starting, trainings, rounds, packs)


def _idle(events: Sequence[object], workers: int) -> int:
    """Workers that neither start nor train, beside the one whose event it is: every other has an event to come."""
    return workers - len(events) - 1


def _active(sweeps: Sequence[PlannedSweep]) -> int:
    """Sweeps that share the workers: one that is about to plan its next round still does."""
    return sum(not sweep.finished for sweep in sweeps)


def _next_packs(sweep: PlannedSweep, workers: int, active: int) -> list[tuple[PlannedSweep, tuple[Trial, ...]]]:
    """The next round of a sweep; none where it is finished."""
    trials = plan_round(sweep.task, *sweep.k_range, sweep.results)
    if not trials:
        sweep.finished = True
        return []
    sweep.waiting, sweep.rounds = len(trials), sweep.rounds + 1
    return [(sweep, pack) for pack in deal(trials, workers, active)]


def _take_in(sweep: PlannedSweep, trials: Sequence[Trial]) -> None:
    target = sweep.task.ranked_target.name
    sweep.waiting -= len(trials)
    sweep.results += [
        TrialResult(trial=one, status="trained", outcomes=(Outcome(target=target, reached=sweep.reaches(one)),))
        for one in trials
    ]
