"""The project's own engine as a sweep uses it: subspaces that a method prepared, given to `engine.train` as one pack,
which on a CPU trains no more of them side by side than its caches hold."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.contest import Contest
from lowdim_bench.engine import Span, train
from lowdim_bench.methods import MethodChoice
from lowdim_bench.parametrizations import Parametrization
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import Ledger, MeteredProblem
from lowdim_bench.records import Trial


def prepared(contest: Contest, method: MethodChoice, k: int, pack: int) -> list[Parametrization]:
    """The subspaces of trials of replicates 0 to pack - 1. Raises RuntimeError with the reason where one has none."""
    trials = [Trial(k=k, replicate=replicate, round=0) for replicate in range(pack)]
    items = prepare_pack(contest.problem, contest.task, method.build(), trials)
    if failures := [item.failure for item in items if item.subspace is None]:
        raise RuntimeError(failures[0] or "the preparation diverged")
    return [item.subspace for item in items if item.subspace is not None]


def seconds_of_steps(contest: Contest, subspaces: Sequence[Parametrization], steps: int) -> float:
    """CPU seconds of `steps` steps of all subspaces, given as one pack."""
    replicates = range(len(subspaces))
    metered = MeteredProblem(contest.problem, replicates, [Ledger() for _ in replicates])
    rates = [contest.learning_rate(subspace.k) for subspace in subspaces]
    began = time.process_time()
    train(metered, subspaces, contest.task.training, rates, Span(0, steps))
    return time.process_time() - began
