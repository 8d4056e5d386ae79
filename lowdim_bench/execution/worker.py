"""What runs in a worker process: it keeps its problems, runs one pack at a time, and writes no file."""

from __future__ import annotations

import os
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lowdim_bench import __version__
from lowdim_bench.errors import UserError
from lowdim_bench.execution.memory import PackMemory
from lowdim_bench.records import Trial
from lowdim_bench.specs import Task

Arrays = Mapping[str, np.ndarray]
PROBLEMS_KEPT = 2


def load_arrays(task: Task, data_root: Path) -> Arrays:
    """In the driver, once for each task. Raises `UserError` where the data is missing or wrong."""
    from lowdim_bench import problems

    return problems.load_arrays(task, data_root)


def build_problem(task: Task, arrays: Arrays, device: str) -> Any:
    """In a worker, once for each task, from read-only arrays that all workers of a node share."""
    from lowdim_bench import problems

    return problems.build(task, arrays, device)


@dataclass(frozen=True)
class Answer:
    """What running some trials gave."""

    results: Sequence[Any]
    """Of `run_pack` each a `TrialResult`; of other work whatever has the `trial` that it is of."""
    certificates: Mapping[str, bytes] = field(default_factory=dict)
    """By SHA-256, as the results name them."""


def run_pack(problem: Any, task: Task, method: Any, trials: Sequence[Trial]) -> Answer:
    """In a worker, for each job."""
    from lowdim_bench import trial

    certificates: dict[str, bytes] = {}
    return Answer(trial.run_pack(problem, task, method, trials, certificates.__setitem__), certificates)


def memory_beside(method: Any) -> float:
    """Bytes that each trial of a method may take in a process of its own; 0 where it runs in this one."""
    from lowdim_bench.isolation.limits import Limits

    return float(Limits.resolve().memory) if getattr(method, "code", None) is not None else 0.0


def start_torch() -> None:
    """In a worker, when it starts."""
    from lowdim_bench.threads import use_one_thread

    use_one_thread()


@dataclass(frozen=True)
class Work:
    """The functions that do the work. The defaults are the product; tests lend others that pickle."""

    load: Callable[[Task, Path], Arrays] = load_arrays
    build: Callable[[Task, Arrays, str], Any] = build_problem
    run: Callable[[Any, Task, Any, Sequence[Trial]], Answer] = run_pack
    start: Callable[[], None] = start_torch
    memory_beside: Callable[[Any], float] = memory_beside


class Worker:
    """Made into a Ray actor by the executor: a process of its own, which lives until it is killed."""

    def __init__(self, work: Work, device: str, version: str, neighbours: int = 1) -> None:
        """Raises `UserError` where this node has another version installed than the driver."""
        if version != __version__:
            raise UserError(
                f"Node {socket.gethostname()} has lowdim-bench {__version__}, the driver has {version}. "
                "Install the same version on all nodes of the cluster."
            )
        work.start()
        self._work = work
        self._device = device
        self._problems: OrderedDict[str, Any] = OrderedDict()
        self._memory = PackMemory(device, neighbours)

    def hello(self) -> str:
        """Where it is; an answer means that it is ready for work."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def run(self, task: Task, method: object, trials: Sequence[Trial], arrays: Arrays) -> Answer:
        """One result for each trial, in their order, and their certificates."""
        problem = self._problem(task, arrays)
        # A stored basis grows with k, so what small k took says nothing of large ones.
        key = task.digest, str(method), max((trial.k for trial in trials), default=0).bit_length()
        results: list[Any] = []
        certificates: dict[str, bytes] = {}
        for pack in self._memory.slices(key, trials, self._work.memory_beside(method)):
            with self._memory.measured(key, len(pack)):
                answer = self._work.run(problem, task, method, pack)
            results += answer.results
            certificates |= answer.certificates
        if [result.trial for result in results] != list(trials):
            raise ValueError(
                f"asked for {[trial.key for trial in trials]}, got {[result.trial.key for result in results]}"
            )
        return Answer(results, certificates)

    def _problem(self, task: Task, arrays: Arrays) -> Any:
        if task.digest not in self._problems:
            while len(self._problems) >= PROBLEMS_KEPT:
                self._problems.popitem(last=False)
            self._problems[task.digest] = self._work.build(task, arrays, self._device)
        self._problems.move_to_end(task.digest)
        return self._problems[task.digest]
