"""How fast one method trains on one task on this machine: a few steps of everything that a trial consists of, timed."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lowdim_bench import audit
from lowdim_bench.engine import Span, train
from lowdim_bench.errors import MethodFailure, UserError
from lowdim_bench.methods import Method, Setting, Train, Trained
from lowdim_bench.parametrizations import AffineSubspace, Pack
from lowdim_bench.problems import Ledger, MeteredProblem, Problem
from lowdim_bench.records import Spending
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Recipe, Task

_LONG_ENOUGH = 0.3
"""Seconds that a measurement should last."""
_STAND_IN = 1e-3
"""How far weights that stand in for trained ones are from where they started: not at all would be a special case."""


@dataclass(frozen=True)
class Pace:
    """Seconds of one trial at one k, in a pack: of this process on a CPU, on the clock of a GPU."""

    k: int
    gradient_evaluations: int
    """Of its preparation."""
    evaluations: int
    """Full passes without a gradient, of its preparation."""
    method_seconds: float
    """The method's own work, with the gradients that it computes itself, and the audit."""
    full_steps: int
    """Steps of full-space training that it asks for."""
    full_step_seconds: float
    step_seconds: float
    """A step of the scored training."""
    evaluation_seconds: float
    """An evaluation on the full training set."""
    method_bytes: int
    """Memory of its own process, where it has one."""

    def seconds(self, task: Task, share: float) -> float:
        """Of one trial that trains this share of its scored steps."""
        recipe = task.training
        steps = share * recipe.steps * len(recipe.learning_rate.multipliers)
        evaluations = steps / recipe.evaluate_every + 2  # a confirmation, and the test set
        scored = steps * self.step_seconds + evaluations * self.evaluation_seconds
        return self.method_seconds + self.full_steps * self.full_step_seconds + scored


def measure(problem: Problem, task: Task, method: Method, k: int, pack: int) -> Pace:
    """Time a trial of k dimensions in a pack of so many. Raises `UserError` where the method cannot prepare one.

    Full-space training that the preparation asks for is counted, and timed by a few steps; the method is given weights that
    stand in for the trained ones.
    """
    clock = _clock(problem)
    started = clock()
    rehearsed = _rehearse(problem, task, method, k)
    seconds = clock() - started + rehearsed.cpu_seconds
    subspaces = [rehearsed.subspace] * pack
    full_step = 0.0
    if rehearsed.steps:
        full = [AffineSubspace.full_space(problem.initial(0))] * pack
        full_step = _step_seconds(problem, task.full_training, full, clock)
    step = _step_seconds(problem, task.training, subspaces, clock)
    weights = Pack.of(subspaces).map(torch.stack([subspace.start for subspace in subspaces]))
    problem.train_metrics(weights)
    started = clock()
    problem.train_metrics(weights)
    return Pace(
        k=k,
        gradient_evaluations=rehearsed.spent.gradient_evaluations + rehearsed.steps,
        evaluations=rehearsed.spent.evaluations,
        method_seconds=seconds,
        full_steps=rehearsed.steps,
        full_step_seconds=full_step,
        step_seconds=step,
        evaluation_seconds=(clock() - started) / pack,
        method_bytes=rehearsed.peak_bytes,
    )


def memory(device: torch.device) -> int:
    """Bytes that this process has taken at the most: of the GPU, where it uses one."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class _Rehearsal:
    """A preparation without the trainings that it asked for."""

    subspace: AffineSubspace
    spent: Spending
    steps: int
    cpu_seconds: float
    peak_bytes: int


def _rehearse(problem: Problem, task: Task, method: Method, k: int) -> _Rehearsal:
    limit, seed = task.preparation.gradient_evaluations, derive("method", task.name, 0)
    ledger = Ledger(limit, problem.example_count)
    setting = Setting(MeteredProblem(problem, [0], [ledger]), k, seed, task.full_training)
    steps = 0
    try:
        outcome: Any = method.prepare(setting)
        usage = outcome
        if isinstance(outcome, Generator):
            try:
                request = next(outcome)
                while True:
                    steps += request.stop - request.start
                    ledger.check(steps)
                    request = outcome.send(_stand_in(request))
            except StopIteration as end:
                outcome = end.value
        audit.measure(outcome, k, problem.origin(0, seed), ledger.spent)
    except (MethodFailure, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"At k = {k} the method cannot prepare a trial of task {task.name}: {error}. "
            "`lowdim-bench validate` tells what is wrong with it."
        ) from None
    took = getattr(usage, "usage", None)  # of a method that runs in a process of its own
    return _Rehearsal(outcome, ledger.spent, steps, took.cpu_seconds if took else 0.0, took.peak_bytes if took else 0)


def _stand_in(request: Train) -> Trained:
    weights = request.subspace.map(request.subspace.start)
    generator = torch.Generator().manual_seed(0)
    count = math.ceil((request.stop - request.start) / request.snapshot_every) if request.snapshot_every else 1
    moves = torch.randn(count, len(weights), generator=generator).to(weights.device) * _STAND_IN
    path = weights + moves.cumsum(dim=0)
    return Trained(path[-1], (weights, *path) if request.snapshot_every else ())


def _step_seconds(
    problem: Problem, recipe: Recipe, subspaces: Sequence[AffineSubspace], clock: Callable[[], float]
) -> float:
    """Of one step of one trial."""
    replicates, rates = range(len(subspaces)), [recipe.learning_rate.at(one.k) for one in subspaces]

    def run(steps: int) -> float:
        metered = MeteredProblem(problem, replicates, [Ledger() for _ in replicates])
        started = clock()
        train(metered, subspaces, recipe, rates, Span(0, steps))
        return clock() - started

    steps, taken = 2, run(2)  # the first ones compile and record
    while taken < _LONG_ENOUGH and steps < recipe.steps:
        steps = min(4 * steps, recipe.steps)
        taken = run(steps)
    if steps == 2:
        taken = run(2)
    return taken / steps / len(subspaces)


def _clock(problem: Problem) -> Callable[[], float]:
    if problem.device.type != "cuda":
        return time.process_time

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now
