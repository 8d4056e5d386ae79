"""Many submissions at once, and what tracking costs: nothing may get lost or mixed up when drivers share a server.

    python -m benchmarks.load --submissions 200 --drivers 8
    python -m benchmarks.load --submissions 200 --drivers 8 --through submit --jobs-to-end 40
    python -m benchmarks.load --bookkeeping mnist-conv2 --data-root DATA --at-most 2

The first starts a Ray cluster and one MLflow server, queues distinct tiny sweeps, lets that many driver processes work the
queue off together, and holds what was recorded against what was asked. The second sends all of them with `lowdim-bench submit`,
so that they queue in the cluster's job server; where that would take too long, it cancels those that still wait after some have
ended, and has driver processes run them. The third runs one real sweep through such a server and says which share of its time
the driver spends in tracking.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.load_jobs import run_jobs
from benchmarks.part_timer import PartTimer
from benchmarks.standing import Cluster, TrackingServer

_LOG = "lowdim_bench.tracking.sweep_log:SweepLog."
TRACKING = {
    "opening": ["lowdim_bench.tracking.store:Store.__init__", "lowdim_bench.tracking.store:Store.open_sweep"],
    "trials": [f"{_LOG}{name}" for name in ("append", "log_progress", "heartbeat")],
    "finishing": [f"{_LOG}{name}" for name in ("finish", "fail", "close")],
}
"""Parts of bookkeeping in a driver, all of them calls that wait for the store."""
QUEUE, TAKEN = "queue", "taken"


def tiny_task(number: int) -> dict[str, Any]:
    """A quadratic well of its own: another dimension, and other seeds by its name. Its full dimension tells it apart."""
    recipe = {"optimizer": {"kind": "adam"}, "learning_rate": {"value": 0.1}, "batch_size": None, "steps": 40}
    return {
        "name": f"load-{number}",
        "track": "cold",
        "problem": {"kind": "quadratic_well", "dimension": 32 + number, "spectrum": {"kind": "power", "exponent": 1.0}},
        "training": {**recipe, "evaluate_every": 20},
        "full_training": recipe,
        "targets": [{"metric": "train_loss", "at_most": 0.3}],
        "threshold": {"k_max": 32, "precision": 1.5, "minimum_replicates": 8, "trials": 16},
        "preparation": {"gradient_evaluations": 0},
    }


def drive(folder: Path, report: Path, batch: int, only: str | None) -> None:
    """One driver: takes submissions off the queue, `batch` at a time, until it is empty; writes how long each batch took and
    where that went."""
    from lowdim_bench.settings import Settings, prepare_environment

    settings = Settings.resolve()
    prepare_environment(settings)
    import mlflow  # noqa: F401 - imported once a process, and timed as no sweep's bookkeeping

    from lowdim_bench.bench import run_sweeps
    from lowdim_bench.methods import parse_choice
    from lowdim_bench.specs import load_task

    with report.open("a") as lines:
        queue = iter([only]) if only else take(folder)
        while names := list(islice(queue, batch)):
            timer = PartTimer(time.perf_counter)
            with timer.watch(TRACKING):
                states = run_sweeps(settings, [load_task(name) for name in names], [parse_choice("random_subspace")])
                parts, total = timer.parts()
            sweeps = [
                {
                    "task": state.task,
                    "status": state.estimate.status,
                    "trainings": state.trainings,
                    "failure": state.failure,
                }
                for state in states
            ]
            lines.write(json.dumps({"seconds": total, "parts": parts, "sweeps": sweeps}) + "\n")
            lines.flush()


def take(folder: Path) -> Iterator[str]:
    """Submissions that nobody else has taken: only one of those who rename a file succeeds."""
    for path in sorted((folder / QUEUE).iterdir(), key=lambda path: int(path.stem.partition("-")[2])):
        taken = folder / TAKEN / path.name
        try:
            path.rename(taken)
        except FileNotFoundError:
            continue
        yield str(taken)


@contextmanager
def installation(cpus: int, backend: str | None, places: int = 0) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """A cluster and a server in a folder of their own; the folder, and the environment that leads to them. `places`: how many
    drivers its job server runs at a time."""
    folder = Path(tempfile.mkdtemp(prefix="l-"))
    cluster, server = Cluster(folder, 1, cpus, places), TrackingServer(folder, backend)
    try:
        server.start(wait=False)
        cluster.start()
        server.wait()
        where = {
            "LOWDIM_BENCH_RAY_ADDRESS": cluster.address,
            "LOWDIM_BENCH_JOB_SERVER": cluster.job_server,
            "LOWDIM_BENCH_WORKERS": "1",
            "LOWDIM_BENCH_STATE_DIR": str(folder / "state"),
            "LOWDIM_BENCH_TRACKING_URI": f"http://127.0.0.1:{server.port}",
        }
        yield folder, os.environ | cluster.environ | where
    finally:
        cluster.kill()
        server.program.kill()
        shutil.rmtree(folder, ignore_errors=True)


def run_drivers(
    folder: Path, environ: Mapping[str, str], drivers: int, batch: int = 1, only: str | None = None
) -> list[dict[str, Any]]:
    """What all drivers report of their batches. Raises RuntimeError where one ends otherwise than well."""
    reports = [folder / f"driver-{number}.jsonl" for number in range(drivers)]
    command = [sys.executable, "-m", "benchmarks.load", "--drive", str(folder), "--batch", str(batch)]
    processes = []
    for path in reports:
        with path.with_suffix(".log").open("w") as log:
            given = [*command, "--report", str(path), *(["--only", only] if only else [])]
            processes.append(subprocess.Popen(given, env=environ, stdout=log, stderr=log))
    codes = [process.wait() for process in processes]
    for path, code in zip(reports, codes, strict=True):
        if code:
            raise RuntimeError(f"a driver ended with exit code {code}:\n{path.with_suffix('.log').read_text()[-3000:]}")
    return [json.loads(line) for path in reports for line in path.read_text().splitlines()]


def check(environ: Mapping[str, str], submissions: int, done: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is lost or mixed up of `done`, sweeps as their drivers saw them end: each submission run once, recorded once, with
    its own task and its own trials."""
    os.environ.update(environ)
    from lowdim_bench.settings import Settings
    from lowdim_bench.tracking import Store

    with Store(Settings.resolve()) as store:
        stored = store.sweeps()
    faults = []
    names = {f"load-{number}" for number in range(submissions)}
    for what, counted in (("run", [one["task"] for one in done]), ("recorded", [one.task.name for one in stored])):
        counts = Counter(counted)
        faults += [f"{name} was {what} {counts[name]} times" for name in sorted(names) if counts[name] != 1]
        faults += [f"{name} was {what}, but not asked for" for name in sorted(set(counts) - names)]
    reported = {one["task"]: one for one in done}
    for sweep in stored:
        own = reported.get(sweep.task.name, {})
        trials = [result.trial.key for result in sweep.results]
        if sweep.full_dimension != 32 + int(sweep.task.name.partition("-")[2]):
            faults.append(f"{sweep.task.name} is recorded with D = {sweep.full_dimension}")
        if len(trials) != own.get("trainings") or len(set(trials)) != len(trials):
            faults.append(f"{sweep.task.name}: {len(trials)} trials recorded, {own.get('trainings')} run")
        if sweep.status != own.get("status", sweep.status) or own.get("failure"):
            faults.append(f"{sweep.task.name}: recorded as {sweep.status}, ended as {own}")
    return faults


def percent_of_trials(batches: Sequence[Mapping[str, Any]]) -> float:
    """Which share of the drivers' time went into writing down trials, in percent."""
    spent = sum(batch["parts"].get("trials", 0.0) for batch in batches)
    return 100 * spent / sum(batch["seconds"] for batch in batches)


def bookkeeping(batches: Sequence[Mapping[str, Any]]) -> str:
    """Which share of the drivers' time went into tracking, and how long a trial's part of it takes."""
    total, done = sum(batch["seconds"] for batch in batches), sweeps_of(batches)
    trainings = sum(sweep["trainings"] for sweep in done)
    spent = {part: sum(batch["parts"].get(part, 0.0) for batch in batches) for part in TRACKING}
    lines = [f"bookkeeping of {len(done)} sweeps, {trainings} trials, {total:.1f} s in drivers:"]
    lines += [f"  {part:<10}{seconds:>8.2f} s {100 * seconds / total:>6.2f} %" for part, seconds in spent.items()]
    each = 1000 * spent["trials"] / max(1, trainings)
    return (
        "\n".join([*lines, f"  {each:.1f} ms for each trial; all of it {100 * sum(spent.values()) / total:.2f} %"])
        + "\n"
    )


def sweeps_of(batches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [sweep for batch in batches for sweep in batch["sweeps"]]


def load(options: argparse.Namespace) -> int:
    """Queue, work off, check, print; the number of faults."""
    submitted = options.through == "submit"
    with installation(options.drivers, options.backend, options.drivers if submitted else 0) as (folder, environ):
        for name in (QUEUE, TAKEN):
            (folder / name).mkdir()
        tasks = [tiny_task(number) for number in range(options.submissions)]
        done: list[dict[str, Any]] = []
        if submitted:
            ended, tasks = run_jobs(folder, environ, tasks, options.drivers, options.jobs_to_end or len(tasks))
            done += ended
        for task in tasks:
            (folder / QUEUE / f"{task['name']}.yaml").write_text(json.dumps(task))
        began = time.monotonic()
        batches = run_drivers(folder, environ, options.drivers, options.batch) if tasks else []
        done += sweeps_of(batches)
        seconds = time.monotonic() - began
        faults = check(environ, options.submissions, done)
    if tasks:
        by = f"by {options.drivers} drivers in {seconds:.0f} s ({60 * len(tasks) / seconds:.0f} a minute)"
        sys.stdout.write(f"{len(sweeps_of(batches))} of {len(tasks)} submissions {by}\n{bookkeeping(batches)}")
    verdict = f"{len(done)} of {options.submissions} submissions: none lost, none mixed up, none twice"
    sys.stdout.write("\n".join(faults or [verdict]) + "\n")
    return len(faults)


def measure(options: argparse.Namespace) -> bool:
    """One real sweep with its bookkeeping; whether that stays within what was asked."""
    where = {"LOWDIM_BENCH_WORKERS": "2"}
    if options.data_root:
        where["LOWDIM_BENCH_DATA_ROOT"] = options.data_root
    with installation(2, options.backend) as (folder, environ):
        batches = run_drivers(folder, {**environ, **where}, 1, only=options.bookkeeping)
    sys.stdout.write(bookkeeping(batches))
    if options.at_most is None:
        return True
    within = percent_of_trials(batches) <= options.at_most
    verdict = "trials are written down in" if within else "FAULT writing down trials does not stay within"
    sys.stdout.write(f"{verdict} at most {options.at_most:g} % of the sweep\n")
    return within


def main(arguments: Sequence[str]) -> None:
    """Parse and run; the exit code is 1 where anything was lost or mixed up, or bookkeeping takes more than asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=200)
    parser.add_argument("--drivers", type=int, default=8, help="how many run at a time")
    parser.add_argument("--batch", type=int, default=1, help="submissions that a driver takes and runs at a time")
    parser.add_argument("--through", choices=("drivers", "submit"), default="drivers", help="who starts the sweeps")
    parser.add_argument(
        "--jobs-to-end",
        type=int,
        metavar="N",
        help="with --through submit: cancel what still waits after N jobs have ended",
    )
    parser.add_argument("--backend", help="database URI of the MLflow server; default: a SQLite file")
    parser.add_argument("--bookkeeping", metavar="TASK", help="instead: one sweep of this task, two workers")
    parser.add_argument("--data-root", help="folder of data sets, for --bookkeeping")
    parser.add_argument(
        "--at-most", type=float, metavar="PERCENT", help="with --bookkeeping: fail where writing down trials takes more"
    )
    for hidden in ("--drive", "--report", "--only"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.drive:
        drive(Path(options.drive), Path(options.report), options.batch, options.only)
    elif options.bookkeeping:
        if not measure(options):
            raise SystemExit(1)
    elif load(options):
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
