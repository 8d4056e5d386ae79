"""Whole jobs: one task's threshold of the random subspace, from the start of a process to an interval as narrow as asked.

    python -m benchmarks.jobs engine digits-mlp --log engine.jsonl      # the project's planner and packs, in one process
    python -m benchmarks.jobs plain digits-mlp --log plain.jsonl        # a loop on a half-octave grid of k, repeated

`benchmarks.whole_job` runs these as processes of their own beside the real command. Every trial is written down as it ends; the
same command goes on where it was interrupted. All judge their interval by `lowdim_bench.threshold.estimate`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowdim_bench.records import CurvePoint, Estimate, Outcome, Trial, TrialResult
from lowdim_bench.specs import Task
from lowdim_bench.threads import use_one_thread

METHOD = "random_subspace"


def grid(low: int, high: int, per_octave: int = 2) -> list[int]:
    """Whole numbers at equal steps of log k from low to high, both included; neighbours are 2 ** (1 / per_octave) apart."""
    ks, step = {high}, 0
    while (k := round(low * 2 ** (step / per_octave))) < high:
        ks.add(k)
        step += 1
    return sorted(ks)


def asked(task: Task, *, precision: float | None, trials: int | None, pair: int = 0) -> Task:
    """The task with another precision or limit of trials; each `pair` has seeds, and so a task name, of its own."""
    changes: dict[str, Any] = {} if precision is None else {"precision": precision}
    if trials is not None:
        changes["trials"] = trials
    name = f"{task.name}-{pair}" if pair else task.name
    return task.model_copy(update={"name": name, "threshold": task.threshold.model_copy(update=changes)})


class Log:
    """A job's trials with their CPU seconds, a line each, written as they end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[dict[str, Any]] = []
        if path.exists():
            # A line that was cut short lacks its end, and is lost.
            self._lines = [
                json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")
            ]
            self._write_all()

    def _write_all(self) -> None:
        draft = self._path.with_suffix(".draft")
        draft.write_text("".join(json.dumps(line) + "\n" for line in self._lines))
        draft.replace(self._path)

    def add(self, line: dict[str, Any]) -> None:
        self._lines.append(line)
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def add_start_up(self, seconds: float) -> None:
        self.add({"start_up": seconds})

    def add_trial(self, result: TrialResult, seconds: float) -> None:
        self.add({"result": result.model_dump(mode="json"), "cpu_seconds": seconds})

    def trials(self) -> list[TrialResult]:
        return [TrialResult.from_data(line["result"], "a logged trial") for line in self._lines if "result" in line]

    def seconds(self) -> list[float]:
        """CPU seconds of each trial."""
        return [line["cpu_seconds"] for line in self._lines if "result" in line]

    def start_up(self) -> float:
        """CPU seconds until the first training of the first process: a job that is resumed pays its start once."""
        return next((line["start_up"] for line in self._lines if "start_up" in line), 0.0)

    def cpu_seconds(self) -> float:
        """Of the whole job."""
        return self.start_up() + sum(self.seconds())


@dataclass
class Clock:
    """CPU seconds of this process."""

    last: float = 0.0

    def lap(self) -> float:
        """Since the last look; the first time, since the start of the process."""
        now = time.process_time()
        passed, self.last = now - self.last, now
        return passed


def k_range(task: Task, full_dimension: int) -> tuple[int, int]:
    """The k that a random subspace may have in this task."""
    return task.threshold.k_min, min(task.threshold.k_max, full_dimension)


def run_grid(contest: Any, loop: Any, ks: Sequence[int], log: Log, budget_seconds: float | None = None) -> bool:
    """One training at each k of the grid, one repeat after another, until the interval is narrow enough; whether it got there.

    In favour of the loop: it stops at success on the task's schedule of evaluations, without the engine's confirmation, audit
    and test evaluation; the time to compute its interval after each repeat is not counted. Every training has a replicate of
    its own. Without a result it ends after the first trial beyond `budget_seconds` of this process.
    """
    task, clock = contest.task, Clock()
    results = log.trials()
    log.add_start_up(clock.lap())
    estimate = interval(task, ks, results)
    if results and len(results) % len(ks) == 0 and estimate.status != "unfinished":
        return True
    spent = 0.0
    with progress(task, f"{loop.name} on {len(ks)} k") as show:
        while True:
            k = ks[len(results) % len(ks)]
            clock.lap()
            result = _train(contest, loop, Trial(k=k, replicate=len(results), round=len(results) // len(ks)))
            seconds = clock.lap()
            log.add_trial(result, seconds)
            results.append(result)
            spent += seconds
            if len(results) % len(ks) == 0:
                estimate = interval(task, ks, results)
                if estimate.status != "unfinished":
                    return True
            show(results, estimate)
            if budget_seconds is not None and spent >= budget_seconds:
                return False


def _train(contest: Any, loop: Any, trial: Trial) -> TrialResult:
    """One training of a loop, stopped at success."""
    from benchmarks.contest import loss_curve

    target, curve, reached_at = contest.task.ranked_target, [], None
    for step, loss in loss_curve(loop.begin(trial.k, trial.replicate), contest.task):
        curve.append(CurvePoint(step=step, train_loss=loss if loss - loss == 0 else None))
        if target.reached(loss):
            reached_at = step
            break
    return TrialResult(
        trial=trial,
        status="trained" if curve[-1].train_loss is not None else "diverged",
        outcomes=(Outcome(target=target.name, reached=reached_at is not None, step=reached_at),),
        learning_rate=contest.learning_rate(trial.k),
        trained_steps=curve[-1].step,
        curve=tuple(curve),
    )


def run_engine(task: Task, data_root: Path, log: Log) -> None:
    """The sweep's own planner and packs in this process, without Ray and MLflow. Everything is counted."""
    from lowdim_bench import problems
    from lowdim_bench.methods import MethodChoice
    from lowdim_bench.planner import plan_round
    from lowdim_bench.trial import run_pack

    clock = Clock()
    problem = problems.build(task, problems.load_arrays(task, data_root))
    ends = k_range(task, problem.full_dimension)
    results: list[TrialResult] = []
    log.add_start_up(clock.lap())
    with progress(task, "engine") as show:
        while trials := plan_round(task, *ends, results):
            fresh = run_pack(problem, task, MethodChoice(name=METHOD), trials)
            results += fresh
            seconds = clock.lap()
            for result in fresh:
                log.add_trial(result, seconds / len(fresh))
            show(results, interval(task, ends, results))
    log.add({"planning_after_the_last_round": clock.lap()})


def interval(task: Task, ks: Sequence[int], results: Sequence[TrialResult]) -> Estimate:
    """The estimate by the project's own statistics, for a method that allows ks[0] <= k <= ks[-1]."""
    from lowdim_bench.threshold import estimate

    return estimate(task.threshold, task.ranked_target.name, ks[0], ks[-1], results)


@contextmanager
def progress(task: Task, what: str) -> Iterator[Any]:
    """A line on standard error that says how far the job has come; lends a function of (results, estimate)."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        job = bar.add_task(f"{task.name}: {what}", total=None)

        def show(results: Sequence[TrialResult], estimate: Estimate) -> None:
            ends = f"{estimate.low or '?'} .. {estimate.high or '?'}"
            asked_for = f"wanted: a factor of {task.threshold.precision:g}"
            bar.update(job, description=f"{task.name}: {what}; {len(results)} trainings; k* in {ends} ({asked_for})")

        yield show


def main(arguments: Sequence[str]) -> None:
    """Parse and run one job; its result is in its log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=["engine", "plain", "jax"])
    parser.add_argument("task", help="a shipped task or a task file")
    parser.add_argument(
        "--log", type=Path, required=True, help="trials, a JSON line each; a grid goes on where it ends"
    )
    parser.add_argument("--budget-seconds", type=float, help="CPU seconds after which a grid is left for another time")
    parser.add_argument("--per-octave", type=int, default=2, help="grid points an octave of k")
    parser.add_argument("--k-min", type=int, help="smallest k of the grid; default: the task's")
    parser.add_argument("--k-max", type=int, help="largest k of the grid; default: the task's")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--json", action="store_true", help="print the summary of the log")
    options = parser.parse_args(arguments)

    from lowdim_bench.settings import Settings
    from lowdim_bench.specs import load_task

    use_one_thread()
    task, log = load_task(options.task), Log(options.log)
    root = Settings.resolve(data_root=options.data_root).data_root
    complete = True
    if options.job == "engine":
        run_engine(task, root, log)
    else:
        from benchmarks.contest import Contest
        from benchmarks.loops import build_loop

        contest = Contest.of(task, root)
        low, high = k_range(task, contest.full_dimension)
        ks = grid(options.k_min or low, options.k_max or high, options.per_octave)
        complete = run_grid(contest, build_loop(options.job, contest), ks, log, options.budget_seconds)
    if options.json:
        summary = {"complete": complete, "trainings": len(log.trials()), "cpu_seconds": log.cpu_seconds()}
        sys.stdout.write(json.dumps(summary) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
