"""Run sweeps: plan a round, execute it, store it, estimate; until the interval is as narrow as the task asks.

Several sweeps share the workers. A round is a pure function of the rounds before it, so that neither the number of workers
nor an interruption changes which trials a sweep consists of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from lowdim_bench import isolation, problems
from lowdim_bench.errors import MethodFailure, UserError
from lowdim_bench.execution import Executor, Finished, Job
from lowdim_bench.methods import MethodChoice
from lowdim_bench.planner import expected_trials, plan_round
from lowdim_bench.records import Estimate, Trial, TrialResult
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task
from lowdim_bench.threshold import estimate, success_curve
from lowdim_bench.tracking import Credit, Store, SweepLog
from lowdim_bench.tracking import keys as tracking_keys

_CURVE_POINTS = 60
_TICK_SECONDS = 1.0
_SHORTEST_DEADLINE, _PATIENCE = 1800.0, 50.0
"""Seconds, and how many times as long as the slowest trial so far: a node may be slow, or its GPU shared."""


@dataclass(frozen=True)
class SweepState:
    """How far a sweep has come, for progress displays."""

    task: str
    method: str
    estimate: Estimate
    precision: float
    trainings: int
    under_way: int
    seconds_left: float | None
    """None where it cannot be told yet."""
    finished: bool
    failure: str = ""


Watcher = Callable[[Sequence[SweepState]], None]
"""Is told of progress."""


@dataclass
class _Sweep:
    """One task with one method, while it runs."""

    task: Task
    method: MethodChoice
    k_low: int
    k_high: int
    log: SweepLog
    results: dict[str, TrialResult]
    waiting: int = 0
    """Trials handed to the executor and not back yet."""
    round: int = 0
    finished: bool = False
    failure: str = ""
    started: float = field(default_factory=time.monotonic)
    trained_here: int = 0

    @property
    def key(self) -> str:
        return f"{self.task.digest}/{self.method.method_digest}"

    def estimate(self, target: str | None = None) -> Estimate:
        target = target or self.task.ranked_target.name
        # Where a sweep fails as a whole, its failures say nothing of k.
        results = [result for result in self.results.values() if not (self.failure and result.status == "failed")]
        return estimate(self.task.threshold, target, self.k_low, self.k_high, results)

    def next_trials(self) -> list[Trial]:
        """The trials of the current round that are still to be run; moves on over rounds that are complete."""
        while True:
            before = [result for result in self.results.values() if result.trial.round < self.round]
            planned = plan_round(self.task, self.k_low, self.k_high, before, self.log.first_replicate)
            missing = [trial for trial in planned if trial.key not in self.results]
            if missing or not planned:
                return missing
            self.round += 1

    def state(self) -> SweepState:
        current = self.estimate()
        return SweepState(
            task=self.task.name,
            method=self.method.label,
            estimate=current,
            precision=self.task.threshold.precision,
            trainings=len(self.results),
            under_way=self.waiting,
            seconds_left=0.0 if self.finished else self._seconds_left(current),
            finished=self.finished,
            failure=self.failure,
        )

    def _seconds_left(self, current: Estimate) -> float | None:
        """At the speed so far."""
        if not self.trained_here or current.low is None or current.high is None:
            return None
        needed = expected_trials(self.task.threshold, current, len(self.results))
        rate = self.trained_here / (time.monotonic() - self.started)
        return max(0.0, needed - len(self.results)) / rate


def run_sweeps(
    settings: Settings,
    tasks: Sequence[Task],
    methods: Sequence[MethodChoice],
    watch: Watcher | None = None,
    credit: Mapping[str, Credit] | None = None,
) -> list[SweepState]:
    """Run every method on every task to its threshold and record all of it; continues what was begun before.

    `credit`: by method digest, the submissions that methods come from.

    Returns the final states; a sweep whose method or worker failed says so in `failure`, and the others go on. Raises
    `UserError` for what the user can put right (missing data, an unreachable address, a sweep that another driver runs),
    `InfrastructureError` when the cluster is lost; whatever was finished by then is kept, on Ctrl-C too.
    """
    with ExitStack() as stack:
        store = stack.enter_context(Store(settings))
        by_digest = credit or {}
        sweeps = [
            _open(stack, store, settings, task, method, by_digest.get(method.method_digest))
            for task in tasks
            for method in methods
        ]
        isolation.release()  # submitted code was asked for its range of k; from now on only workers ask
        try:
            _drive(stack, settings, sweeps, watch)
        except BaseException:
            for sweep in sweeps:
                if not sweep.finished:
                    sweep.log.interrupt()
            raise
    return [sweep.state() for sweep in sweeps]


def _open(
    stack: ExitStack, store: Store, settings: Settings, task: Task, method: MethodChoice, credit: Credit | None
) -> _Sweep:
    arrays = problems.load_arrays(task, settings.data_root)
    blocks = problems.layout(task, arrays)
    built = isolation.build(method)
    try:
        lowest, highest = built.k_range(blocks)
        nested = task.threshold.design != "bisection" or built.nested()
    except MethodFailure as failure:
        log = stack.enter_context(store.open_sweep(task, method, None, blocks[-1].stop, _scale(task, arrays), credit))
        return _failed(log, task, method, blocks[-1].stop, f"the method cannot be run: {failure}")
    k_low, k_high = searched_range(task, (lowest, highest), blocks[-1].stop)
    if not nested:
        raise UserError(
            f"Task {task.name} asks for the bisection design, which needs subspaces that are nested in k; those of method "
            f"{method.label} are not. Use design: bayesian, or an operator or method that nests (operator=gaussian)."
        )
    if k_low > k_high:
        raise UserError(
            f"Method {method.label} can prepare k from {lowest} to {highest}; task {task.name} asks for "
            f"{task.threshold.k_min} to {task.threshold.k_max}. Change the method's parameters or the task's range."
        )
    log = stack.enter_context(
        store.open_sweep(task, method, (k_low, k_high), blocks[-1].stop, _scale(task, arrays), credit)
    )
    return _Sweep(task, method, k_low, k_high, log, {result.trial.key: result for result in log.results()})


def _failed(log: SweepLog, task: Task, method: MethodChoice, full_dimension: int, reason: str) -> _Sweep:
    """A sweep whose method fails before there is anything to plan. What was found before stands."""
    if log.status not in tracking_keys.FINAL:
        log.fail(reason)
    results = {result.trial.key: result for result in log.results()}
    return _Sweep(task, method, 1, full_dimension, log, results, finished=True, failure=reason)


def searched_range(task: Task, prepared: tuple[int, int], full_dimension: int) -> tuple[int, int]:
    """The smallest and largest k of a sweep whose method can prepare those from prepared[0] to prepared[1]."""
    if prepared == (full_dimension, full_dimension):
        return prepared  # a control that trains everything stands outside the task's range on purpose
    return max(prepared[0], task.threshold.k_min), min(prepared[1], task.threshold.k_max, full_dimension)


def conclude(
    task: Task, k_low: int, k_high: int, results: Sequence[TrialResult]
) -> tuple[list[Estimate], list[int], np.ndarray]:
    """What is recorded of a finished sweep: the estimates of all targets, the ranked one last; some k; and the success
    curve of the ranked target there, a row for each k."""
    ladder = [estimate(task.threshold, target.name, k_low, k_high, results) for target in task.targets]
    ks = np.unique(np.geomspace(k_low, k_high, _CURVE_POINTS).round().astype(int)).tolist()
    return ladder, ks, success_curve(task.threshold, task.ranked_target.name, k_low, k_high, results, ks)


def _scale(task: Task, arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """What turns counted evaluations into floating-point operations, as tags."""
    tags = {tracking_keys.OPERATIONS: str(problems.forward_operations(task, arrays))}
    if "y_train" in arrays:
        tags[tracking_keys.EXAMPLES] = str(len(arrays["y_train"]))
    return tags


def _drive(stack: ExitStack, settings: Settings, sweeps: Sequence[_Sweep], watch: Watcher | None) -> None:
    begun = {sweep.key: trials for sweep in sweeps if not sweep.finished and (trials := _begin(sweep))}
    if not begun:
        return  # all was finished before: no cluster is needed to say so
    executor = stack.enter_context(Executor(settings))
    by_key = {sweep.key: sweep for sweep in sweeps}
    for key, trials in begun.items():
        _submit(executor, by_key[key], trials, len(begun))
    while any(sweep.waiting for sweep in sweeps):
        if watch:
            watch([sweep.state() for sweep in sweeps])
        for done in executor.wait(timeout=_TICK_SECONDS):
            _go_on(executor, by_key[done.job.sweep], done, sum(not sweep.finished for sweep in sweeps))
        for sweep in sweeps:
            if not sweep.finished:
                sweep.log.heartbeat()
    if watch:
        watch([sweep.state() for sweep in sweeps])


def _begin(sweep: _Sweep) -> list[Trial]:
    """The first trials that are to be run here."""
    trials = _next_round(sweep)
    _note_round(sweep, trials)
    return trials


def deal(trials: Sequence[Trial], workers: int, active: int) -> list[tuple[Trial, ...]]:
    """The trials of a round in packs: as many as the share of the workers that each of `active` sweeps has."""
    packs = min(len(trials), max(1, workers // max(1, active)))
    # Dealt out in turn, so that every pack has a like share of small and large k.
    return [tuple(trials[part::packs]) for part in range(packs)]


def _submit(executor: Executor, sweep: _Sweep, trials: Sequence[Trial], active: int) -> None:
    """Hand a round over in packs: as many as this sweep's share of the workers, for larger packs train faster."""
    sweep.waiting = len(trials)
    for pack in deal(trials, executor.workers, active):
        executor.submit(
            Job(
                sweep=sweep.key, task=sweep.task, method=sweep.method, trials=pack, deadline=_deadline(sweep, len(pack))
            )
        )


def _deadline(sweep: _Sweep, trials: int) -> float | None:
    """Seconds after which a pack's worker must be stuck: far more than its like took; None as long as nobody knows."""
    slowest = max((result.seconds for result in sweep.results.values()), default=None)
    return None if slowest is None else max(_SHORTEST_DEADLINE, _PATIENCE * slowest * trials)


def _go_on(executor: Executor, sweep: _Sweep, done: Finished, active: int) -> None:
    """Take in a pack, hand over the next round where it was the last of one, and only then write down: no worker has to wait
    for the store. What is not written when this process dies runs again, to the same results."""
    _take_in(sweep, done)
    complete = not sweep.waiting
    trials = _next_round(sweep) if complete else []
    if trials:
        _submit(executor, sweep, trials, active)
    sweep.log.append(done.results, done.certificates)
    if complete:
        _note_round(sweep, trials)


def _take_in(sweep: _Sweep, done: Finished) -> None:
    sweep.waiting -= len(done.job.trials)
    if done.error is not None:
        sweep.failure = sweep.failure or done.error
        return
    for result in done.results:
        if result.trial.key not in sweep.results:
            sweep.results[result.trial.key] = result
            sweep.trained_here += 1


def _faults(sweep: _Sweep) -> str:
    """What to tell where most trainings fail: the method is broken, or the place where it runs, and no threshold is its own."""
    failed = [result for result in sweep.results.values() if result.status == "failed"]
    if len(failed) <= len(sweep.results) / 2:
        return ""
    return f"{len(failed)} of {len(sweep.results)} trainings failed; trial {failed[0].trial.key}: {failed[0].reason}"


def _divergence(sweep: _Sweep) -> str:
    """What to tell where training as such does not work: a threshold of it would say nothing of degrees of freedom."""
    diverged = [result for result in sweep.results.values() if result.status == "diverged"]
    if len(diverged) <= len(sweep.results) / 2:
        return ""
    in_preparation = sum(not result.curve for result in diverged) > len(diverged) / 2
    recipe = "full_training" if in_preparation else "training"
    return (
        f"{len(diverged)} of {len(sweep.results)} trainings diverged ({diverged[0].reason}). Lower learning_rate.value of "
        f"{recipe} in task {sweep.task.name}, or scale it with k (reference_k, exponent)."
    )


def _next_round(sweep: _Sweep) -> list[Trial]:
    """The next trials of a sweep whose round is complete; none where it is finished or has failed."""
    sweep.failure = sweep.failure or _faults(sweep) or _divergence(sweep)
    return [] if sweep.failure else sweep.next_trials()


def _note_round(sweep: _Sweep, trials: Sequence[Trial]) -> None:
    """Record how far a sweep has come with a round; close it where no `trials` follow, or where it has failed."""
    if sweep.failure:
        sweep.log.fail(sweep.failure)
        sweep.finished = True
        return
    current = sweep.estimate()
    if sweep.results:
        sweep.log.log_progress(current, len(sweep.results), sweep.round)
    if not trials:
        sweep.log.finish(current, *conclude(sweep.task, sweep.k_low, sweep.k_high, list(sweep.results.values())))
        sweep.finished = True
