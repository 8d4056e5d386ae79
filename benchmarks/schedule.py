"""How near `estimate --device` comes to what happens: its simulated cluster, and its counted operations, beside the real ones.

    python -m benchmarks.schedule digits-conv-batchnorm -m random_subspace -m burn_in_subspace,burn_in_steps=50 --workers 2

The sweeps run for real, with Ray and tracking in a folder of their own. Then the simulator runs them again: with the outcome
and the seconds of each real trial, from the moments at which the workers were ready. What is compared is scheduling alone:
rounds, packs, the queue, and idle tails. After that, a step and an evaluation of each task in --count are timed, and compared
with what counted operations and measured rates of this machine give.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

from lowdim_bench import bench, problems
from lowdim_bench.execution import Executor, Finished
from lowdim_bench.forecast.machines import measured
from lowdim_bench.forecast.pace import measure
from lowdim_bench.forecast.schedule import PlannedSweep, Timeline, simulate
from lowdim_bench.forecast.workloads import workload
from lowdim_bench.methods import MethodChoice, parse_choice
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task, load_task
from lowdim_bench.threads import use_one_thread


@dataclass(frozen=True)
class Comparison:
    """A real cluster beside a simulated one; seconds from the moment at which its first worker was ready."""

    workers: int
    trainings: int
    rounds: int
    packs: int
    real_seconds: float
    simulated_seconds: float
    real_idle: float
    """Share of the workers' time, once each was ready, that was not spent in packs."""
    simulated_idle: float
    same_trials: bool

    @property
    def ratio(self) -> float:
        return self.simulated_seconds / self.real_seconds


class Recorder:
    """What a real cluster did, and when."""

    def __init__(self) -> None:
        self.done: list[tuple[float, Finished]] = []
        self.workers = 0

    def executor(self, settings: Settings) -> Executor:
        """The executor that the driver asks for, with its answers written down."""
        executor = Executor(settings)
        wait, self.workers = executor.wait, executor.workers

        def recorded(timeout: float | None = None) -> list[Finished]:
            finished = wait(timeout)
            now = time.monotonic()
            self.done += [(now, one) for one in finished]
            return finished

        executor.wait = recorded
        return executor


def compare(tasks: Sequence[Task], methods: Sequence[MethodChoice], settings: Settings) -> Comparison:
    """Run all sweeps for real, then in the simulator."""
    recorder = Recorder()
    with patch.object(bench, "Executor", recorder.executor):
        states = bench.run_sweeps(settings, tasks, methods)
    if failed := [state.failure for state in states if state.failure]:
        raise SystemExit(f"A sweep failed: {failed[0]}")
    spans = [(at - _seconds(one.results), at, one) for at, one in recorder.done]
    first = sorted(start for start, _, _ in spans)[: recorder.workers]
    began, ended = first[0], max(end for _, end, _ in spans)
    line, planned = _replay(tasks, methods, settings, spans, [at - began for at in first], recorder.workers)
    busy = sum(end - start for start, end, _ in spans)
    available = recorder.workers * ended - sum(first)
    simulated = recorder.workers * line.makespan - line.starting
    return Comparison(
        workers=recorder.workers,
        trainings=line.trainings,
        rounds=line.rounds,
        packs=line.packs,
        real_seconds=ended - began,
        simulated_seconds=line.makespan,
        real_idle=1 - busy / available,
        simulated_idle=1 - line.busy / simulated,
        same_trials=sorted(planned) == sorted(_key(one) for _, _, done in spans for one in _keys(done)),
    )


def _replay(
    tasks: Sequence[Task],
    methods: Sequence[MethodChoice],
    settings: Settings,
    spans: Sequence[tuple[float, float, Finished]],
    ready: Sequence[float],
    workers: int,
) -> tuple[Timeline, list[str]]:
    """The same sweeps, simulated: each trial comes to what it came to, and takes as long as it took."""
    sweeps: dict[str, PlannedSweep] = {}
    for task in tasks:
        arrays = problems.load_arrays(task, settings.data_root)
        blocks = problems.layout(task, arrays)
        for method in methods:
            key = f"{task.digest}/{method.method_digest}"
            own = {
                one.trial.key: one for _, _, finished in spans if finished.job.sweep == key for one in finished.results
            }
            k_range = bench.searched_range(task, method.build().k_range(blocks), blocks[-1].stop)
            sweeps[key] = _planned(task, k_range, own)
    line = simulate(list(sweeps.values()), workers, [*ready, *[math.inf] * (workers - len(ready))])
    return line, [f"{key} {one.trial.key}" for key, sweep in sweeps.items() for one in sweep.results]


def _planned(task: Task, k_range: tuple[int, int], own: dict[str, TrialResult]) -> PlannedSweep:
    def reaches(trial: Trial) -> bool:
        return own[trial.key].reached(task.ranked_target.name)

    return PlannedSweep(task, k_range, reaches, lambda pack: _seconds([own[trial.key] for trial in pack]))


def _seconds(results: Sequence[TrialResult]) -> float:
    """Of a pack: each trial's seconds are its share of it."""
    return sum(result.seconds for result in results)


def _keys(done: Finished) -> list[tuple[str, TrialResult]]:
    return [(done.job.sweep, one) for one in done.results]


def _key(one: tuple[str, TrialResult]) -> str:
    return f"{one[0]} {one[1].trial.key}"


@dataclass(frozen=True)
class Counted:
    """What counted operations give for one trial in a pack of one, beside what was timed."""

    task: str
    step_seconds: float
    counted_step_seconds: float
    evaluation_seconds: float
    counted_evaluation_seconds: float


def counted(task: Task, settings: Settings, k: int = 64) -> Counted:
    """Of one task, with a random subspace."""
    problem = problems.build(task, problems.load_arrays(task, settings.data_root))
    method = parse_choice("random_subspace").build()
    measure(problem, task, method, k, 1)  # compiles what is compiled once
    here, work, pace = measured(), workload(task), measure(problem, task, method, k, 1)
    return Counted(
        task=task.name,
        step_seconds=pace.step_seconds,
        counted_step_seconds=here.step_seconds(work),
        evaluation_seconds=pace.evaluation_seconds,
        counted_evaluation_seconds=here.evaluation_seconds(work),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m benchmarks.schedule TASK... -m METHOD... [--workers 2] [--count TASK...] [--json]`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", help="tasks to run for real, and in the simulator")
    parser.add_argument("-m", "--method", action="append", required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", nargs="*", default=[], help="tasks whose steps are timed and counted")
    parser.add_argument("--data-root")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ldb-") as folder:
        store = f"sqlite:///{Path(folder) / 'mlflow.db'}"
        settings = Settings.resolve(
            tracking_uri=store, data_root=asked.data_root, workers=asked.workers, gpus_per_worker=0, state_dir=folder
        )
        tasks, methods = [load_task(name) for name in asked.tasks], [parse_choice(text) for text in asked.method]
        found = compare(tasks, methods, settings)
        use_one_thread()
        steps = [counted(load_task(name), settings) for name in asked.count]
    if asked.json:
        about = {"schedule": asdict(found), "steps": [asdict(one) for one in steps]}
        sys.stdout.write(json.dumps(about, indent=2) + "\n")
        return
    sys.stdout.write(
        f"{found.trainings} trainings in {found.rounds} rounds and {found.packs} packs on {found.workers} workers: "
        f"real {found.real_seconds:.1f} s, simulated {found.simulated_seconds:.1f} s ({found.ratio:.3f}); "
        f"idle {found.real_idle:.1%} and {found.simulated_idle:.1%}; "
        f"{'the same' if found.same_trials else 'OTHER'} trials\n"
    )
    for one in steps:
        sys.stdout.write(
            f"{one.task}: a step {1000 * one.step_seconds:.3g} ms, counted {1000 * one.counted_step_seconds:.3g} ms "
            f"({one.step_seconds / one.counted_step_seconds:.2f} times as long); an evaluation "
            f"{1000 * one.evaluation_seconds:.3g} ms, counted {1000 * one.counted_evaluation_seconds:.3g} ms "
            f"({one.evaluation_seconds / one.counted_evaluation_seconds:.2f} times)\n"
        )


if __name__ == "__main__":
    main()
