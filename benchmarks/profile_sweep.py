"""Where the time of a sweep goes, part by part: of a worker's training, of the driver, and of all processes together.

    python -m benchmarks.profile_sweep digits-mlp

The worker's part runs the sweep's rounds in this process, with timers around the real functions. The driver's part runs the
real sweep, with Ray and tracking in a folder of its own, as a process whose descendants are counted too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.cpu_time import run_counted
from benchmarks.part_timer import PartTimer

_ROOT = Path(__file__).resolve().parents[1]
WORKER_PARTS = {
    "preparation": ["lowdim_bench.trial:prepare_pack"],
    "audit": [
        "lowdim_bench.audit:measure",
        "lowdim_bench.audit:check_unmoved",
        "lowdim_bench.parametrizations.base:Parametrization.fingerprint",
    ],
    "projection": [
        "lowdim_bench.parametrizations.base:Pack.of",
        "lowdim_bench.parametrizations.base:Pack.map",
        "lowdim_bench.parametrizations.base:Pack.pull_back",
        "lowdim_bench.parametrizations.base:Pack.keep",
    ],
    "forward and backward": ["lowdim_bench.problems.metering:MeteredProblem.loss_and_gradient"],
    "batch order": ["lowdim_bench.problems.base:BatchOrder.examples"],
    "optimizer": ["lowdim_bench.engine.optimizers:PackAdam.step", "lowdim_bench.engine.optimizers:PackSgd.step"],
    "evaluation": [
        "lowdim_bench.trial:_Scorer.__call__",
        "lowdim_bench.problems.classification:ClassificationProblem.test_accuracy",
    ],
    "planning": ["lowdim_bench.planner:plan_round"],
}
DRIVER_PARTS = {
    "tracking: opening": ["lowdim_bench.tracking.store:Store.__init__", "lowdim_bench.bench:_open"],
    "tracking: results": [
        f"lowdim_bench.tracking.sweep_log:SweepLog.{name}"
        for name in ("append", "log_progress", "finish", "heartbeat", "close")
    ],
    "starting Ray": ["lowdim_bench.execution.executor:Executor.__init__"],
    "handing out work": ["lowdim_bench.execution.executor:Executor.submit"],
    "waiting for workers": ["lowdim_bench.execution.executor:Executor.wait"],
    "stopping Ray": ["lowdim_bench.execution.executor:Executor.close"],
    "planning": ["lowdim_bench.bench:plan_round", "lowdim_bench.bench:estimate", "lowdim_bench.bench:success_curve"],
}


def profile_worker(task: Any, method: Any, root: Path) -> dict[str, Any]:
    """CPU seconds of a sweep's rounds in this process, by part."""

    from lowdim_bench import planner, problems, trial
    from lowdim_bench.threads import use_one_thread

    use_one_thread()
    timer = PartTimer(time.process_time)
    with timer.part("loading data"):
        problem = problems.build(task, problems.load_arrays(task, root))
    low, high = method.build().k_range(problem.blocks)
    low, high = max(low, task.threshold.k_min), min(high, task.threshold.k_max)
    results: list[Any] = []
    with timer.watch(WORKER_PARTS):
        while trials := planner.plan_round(task, low, high, results):
            results += trial.run_pack(problem, task, method, trials)
        parts, total = timer.parts()
    return {"trainings": len(results), "cpu_seconds": total, "parts": parts}


def profile_driver(file: Path, method: str, report: Path) -> None:
    """The real sweep in this process; writes clock and CPU seconds by part, and what the workers say of their trainings."""
    began = time.perf_counter(), time.process_time()
    from lowdim_bench.settings import Settings, prepare_environment

    settings = Settings.resolve()
    prepare_environment(settings)
    from lowdim_bench.bench import run_sweeps
    from lowdim_bench.execution import Executor, Finished
    from lowdim_bench.methods import parse_choice
    from lowdim_bench.specs import load_task

    imports = time.perf_counter() - began[0], time.process_time() - began[1]
    wall, cpu = PartTimer(time.perf_counter), PartTimer(time.process_time)
    packs: list[Finished] = []
    wait = Executor.wait

    def noted(executor: Executor, timeout: float | None = None) -> list[Finished]:
        done = wait(executor, timeout)
        packs.extend(done)
        return done

    setattr(Executor, "wait", noted)  # noqa: B010 - a method is replaced on purpose, which an assignment may not
    with wall.watch(DRIVER_PARTS), cpu.watch(DRIVER_PARTS):
        [state] = run_sweeps(settings, [load_task(str(file))], [parse_choice(method)])
    rounds: dict[int, float] = {}
    for pack in packs:
        number = pack.job.trials[0].round
        rounds[number] = max(rounds.get(number, 0.0), sum(result.seconds for result in pack.results))
    record = {
        "trainings": state.trainings,
        "wall": {"imports": imports[0], **wall.parts()[0]},
        "cpu": {"imports": imports[1], **cpu.parts()[0]},
        # What is left of the waiting is the start of the workers, and the way of packs and results.
        "longest_pack_of_each_round": sum(rounds.values()),
    }
    report.write_text(json.dumps(record))


def profile_command(task: Any, method: str, root: Path) -> dict[str, Any]:
    """The driver's part in a process and a folder of its own, with the CPU seconds of all its descendants."""
    with tempfile.TemporaryDirectory(prefix="lowdim-profile-") as name:
        folder = Path(name)
        file, report = folder / f"{task.name}.yaml", folder / "driver.json"
        file.write_text(yaml.safe_dump(task.model_dump(mode="json", exclude_none=True)))
        environ = os.environ | {
            "LOWDIM_BENCH_DATA_ROOT": str(root),
            "LOWDIM_BENCH_STATE_DIR": str(folder / "state"),
            "LOWDIM_BENCH_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "benchmarks.profile_sweep", str(file), "-m", method, "--driver", str(report)]
        usage = run_counted(command, cwd=_ROOT, environ=environ)
        if usage.exit_code:
            raise SystemExit(f"the sweep ended with exit code {usage.exit_code}")
        return {
            **json.loads(report.read_text()),
            "wall_seconds": usage.wall_seconds,
            "cpu_seconds": usage.cpu_seconds,
            "by_process": usage.by_process,
        }


def table(title: str, parts: Mapping[str, float], unit: str) -> str:
    """Parts by size, with their shares."""
    total = sum(parts.values())
    lines = [f"{title}: {total:,.2f} {unit}"]
    for name, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        lines.append(f"  {name:<28}{seconds:>10,.2f}{100 * seconds / total:>7.1f} %")
    return "\n".join(lines) + "\n"


def describe(result: Mapping[str, Any]) -> str:
    """For people."""
    worker = result["worker"]
    text = table(f"Training {worker['trainings']} trials in one process", worker["parts"], "CPU seconds")
    if (command := result.get("command")) is None:
        return text
    title = f"The real sweep of {command['trainings']} trials"
    text += table(f"{title}, its driver", command["wall"], "seconds on the clock")
    text += f"  waiting for workers includes {command['longest_pack_of_each_round']:,.2f} s of the longest pack of each round\n"
    text += table(f"{title}, its driver", command["cpu"], "CPU seconds")
    text += table(f"{title}, by process as sampled", command["by_process"], "CPU seconds")
    return text + f"  all processes as the kernel counts: {command['cpu_seconds']:,.2f} CPU seconds\n"


def main(arguments: Sequence[str]) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="a shipped task or a task file")
    parser.add_argument("--method", "-m", default="random_subspace")
    parser.add_argument("--trials", type=int, help="most trainings; default: to the task's interval")
    parser.add_argument("--worker-only", action="store_true", help="leave out the real sweep")
    parser.add_argument("--driver", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.driver is not None:
        profile_driver(Path(options.task), options.method, options.driver)
        return
    from lowdim_bench.methods import parse_choice
    from lowdim_bench.settings import Settings
    from lowdim_bench.specs import load_task

    task, root = load_task(options.task), Settings.resolve(data_root=options.data_root).data_root
    if options.trials is not None:
        smaller = {
            "trials": options.trials,
            "minimum_replicates": min(options.trials, task.threshold.minimum_replicates),
        }
        task = task.model_copy(update={"threshold": task.threshold.model_copy(update=smaller)})
    result: dict[str, Any] = {"task": task.name, "method": options.method}
    result["worker"] = profile_worker(task, parse_choice(options.method), root)
    if not options.worker_only:
        result["command"] = profile_command(task, options.method, root)
    sys.stdout.write(json.dumps(result) + "\n" if options.json else describe(result))


if __name__ == "__main__":
    main(sys.argv[1:])
