"""Whole jobs, end to end: CPU seconds to a threshold whose 95 % interval spans a factor of 1.2, ours and the plain loop's.

    python -m benchmarks.whole_job digits-mlp --out whole-digits

Each job is a process of its own, counted from its start with everything that it starts: the project's planner and packs in one
process (`engine`), the real `lowdim-bench run` with Ray and tracking (`command`), and loops on a half-octave grid of k over the
task's range, repeated until the same estimator finds as narrow an interval (`plain`, `jax`). All stop a training at success.
What is in the folder --out is not measured again, and an interrupted grid goes on: the same command continues. After a change
of the code give another folder.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.cpu_time import Usage, run_counted
from benchmarks.jobs import METHOD, Log, asked, grid, interval, k_range
from benchmarks.loops import LOOPS
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task, load_task

OURS = ("engine", "command")
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Measured:
    """One job of one pair."""

    job: str
    pair: int
    cpu_seconds: float
    wall_seconds: float
    """0 for a grid, which may have been run in several sittings."""
    trainings: int
    status: str
    k_star: int | None
    low: int | None
    high: int | None

    @property
    def complete(self) -> bool:
        return self.status != "unfinished"


class Comparison:
    """The jobs of one task in one folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._folder: Path = options.out.absolute()
        self._folder.mkdir(parents=True, exist_ok=True)
        root = Settings.resolve(data_root=options.data_root).data_root
        self._environ = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._environ |= {"LOWDIM_BENCH_DATA_ROOT": str(root), "LOWDIM_BENCH_STATE_DIR": str(self._folder / "state")}
        self._base = load_task(options.task)
        self._claim_folder()

    def _claim_folder(self) -> None:
        """A folder belongs to one comparison: measurements of another would be taken for its own."""
        names = ("precision", "trials", "per_octave", "grid_min", "grid_max")
        asked_for = {"task": self._base.digest, **{name: getattr(self._options, name) for name in names}}
        file = self._folder / "comparison.json"
        if not file.exists():
            file.write_text(json.dumps(asked_for))
        elif (kept := json.loads(file.read_text())) != asked_for:
            raise SystemExit(
                f"{self._folder} holds another comparison: {kept}; asked for {asked_for}. Give another --out."
            )

    def measure(self, job: str, pair: int) -> Measured:
        """One job; from its file where it was measured before."""
        kept = self._folder / f"{pair}-{job}.json"
        if kept.exists():
            return Measured(**json.loads(kept.read_text()))
        task = asked(self._base, precision=self._options.precision, trials=self._options.trials, pair=pair)
        file = self._folder / f"{task.name}.yaml"
        file.write_text(yaml.safe_dump(task.model_dump(mode="json", exclude_none=True), sort_keys=False))
        run = {"engine": self._engine, "command": self._command}.get(job, self._grid)
        measured = run(job, pair, task, file)
        if measured.complete:
            kept.write_text(json.dumps(asdict(measured)))
        return measured

    def _engine(self, job: str, pair: int, task: Task, file: Path) -> Measured:
        path = self._folder / f"{pair}-engine.jsonl"
        path.unlink(missing_ok=True)
        usage = self._run([sys.executable, "-m", "benchmarks.jobs", "engine", str(file), "--log", str(path)])
        results = Log(path).trials()
        estimate = interval(task, k_range(task, self._full_dimension(task)), results)
        return Measured(
            job,
            pair,
            usage.cpu_seconds,
            usage.wall_seconds,
            len(results),
            estimate.status,
            estimate.k_star,
            estimate.low,
            estimate.high,
        )

    def _command(self, job: str, pair: int, task: Task, file: Path) -> Measured:
        store = self._folder / f"{pair}-command.db"
        store.unlink(missing_ok=True)
        script = str(Path(sys.executable).with_name("lowdim-bench"))
        uri = f"sqlite:///{store}"
        usage = self._run([script, "run", str(file), "-m", METHOD, "--tracking-uri", uri, "--json"])
        [state] = json.loads(usage.output)["sweeps"]
        found = state["estimate"]
        return Measured(
            job,
            pair,
            usage.cpu_seconds,
            usage.wall_seconds,
            state["trainings"],
            found["status"],
            found["k_star"],
            found["low"],
            found["high"],
        )

    def _grid(self, job: str, pair: int, task: Task, file: Path) -> Measured:
        options, path = self._options, self._folder / f"{pair}-{job}.jsonl"
        command = [sys.executable, "-m", "benchmarks.jobs", job, str(file), "--log", str(path)]
        command += ["--per-octave", str(options.per_octave)]
        low, high = k_range(task, self._full_dimension(task))
        low, high = options.grid_min or low, options.grid_max or high
        command += ["--k-min", str(low), "--k-max", str(high)]
        budget = self._budget(pair, spent=Log(path).cpu_seconds())
        if budget is not None:
            command += ["--budget-seconds", str(budget)]
        if budget is None or budget > 0:
            self._run(command)
        log = Log(path)
        results = log.trials()
        ks = grid(low, high, options.per_octave)
        whole = results[: len(results) // len(ks) * len(ks)]
        estimate = interval(task, ks, whole)
        return Measured(
            job,
            pair,
            log.cpu_seconds(),
            0.0,
            len(results),
            estimate.status,
            estimate.k_star,
            estimate.low,
            estimate.high,
        )

    def _budget(self, pair: int, spent: float) -> float | None:
        """CPU seconds that a grid may take now; None: as many as it needs."""
        limits = [] if self._options.budget_seconds is None else [self._options.budget_seconds]
        if self._options.enough is not None:
            dearest = max(self.measure(job, pair).cpu_seconds for job in self._options.ours)
            limits.append(max(0.0, self._options.enough * dearest - spent))
        return min(limits, default=None)

    def _run(self, command: Sequence[str]) -> Usage:
        usage = run_counted(command, cwd=_ROOT, environ=self._environ)
        if usage.exit_code:
            raise SystemExit(f"{' '.join(command)} ended with exit code {usage.exit_code}")
        if usage.killed:
            sys.stderr.write(f"Processes of {' '.join(command)} stayed behind and were ended.\n")
        return usage

    def _full_dimension(self, task: Task) -> int:
        from lowdim_bench import problems

        arrays = problems.load_arrays(task, Path(self._environ["LOWDIM_BENCH_DATA_ROOT"]))
        return problems.layout(task, arrays)[-1].stop


def ratios(measured: Sequence[Measured], ours: str, other: str) -> dict[str, Any]:
    """CPU seconds of the other job over ours, pair by pair; a lower bound where a job of the other kind is unfinished."""
    jobs = {(one.job, one.pair): one for one in measured}
    pairs = sorted({one.pair for one in measured if (ours, one.pair) in jobs and (other, one.pair) in jobs})
    values = [jobs[other, pair].cpu_seconds / jobs[ours, pair].cpu_seconds for pair in pairs]
    return {
        "ours": ours,
        "other": other,
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "n": len(values),
        "lower_bound": not all(jobs[other, pair].complete for pair in pairs),
        "ours_complete": all(jobs[ours, pair].complete for pair in pairs),
    }


def describe(measured: Measured) -> str:
    """One line for people."""
    wall = f" ({measured.wall_seconds:,.1f} s on the clock)" if measured.wall_seconds else ""
    return (
        f"pair {measured.pair}, {measured.job}: {measured.cpu_seconds:,.1f} CPU seconds{wall}, {measured.trainings} "
        f"trainings; k* = {measured.k_star} ({measured.low} .. {measured.high}), {measured.status}\n"
    )


def describe_ratio(ratio: dict[str, Any]) -> str:
    """One line for people."""
    bound = "at least " if ratio["lower_bound"] else ""
    invalid = "" if ratio["ours_complete"] else "; NOT to an equal interval: ours is unfinished, give more --trials"
    spread = f"({ratio['low']:.3g}..{ratio['high']:.3g}, n = {ratio['n']})"
    return f"{ratio['other']} / {ratio['ours']}: {bound}{ratio['median']:.3g} {spread}{invalid}\n"


def main(arguments: Sequence[str]) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="a shipped task or a task file")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of logs and results; what is there is not repeated"
    )
    parser.add_argument("--precision", type=float, default=1.2, help="factor that every job's 95 %% interval may span")
    parser.add_argument("--trials", type=int, default=2000, help="most trainings of our jobs")
    parser.add_argument("--pairs", type=int, default=1, help="times that every job is run, on seeds of its own")
    parser.add_argument(
        "--first-pair",
        type=int,
        default=0,
        help="leave out those before: several commands can share the pairs of a folder",
    )
    parser.add_argument("--ours", nargs="+", choices=OURS, default=list(OURS))
    parser.add_argument("--against", nargs="*", choices=LOOPS, default=["plain"])
    parser.add_argument("--per-octave", type=int, default=2, help="grid points an octave")
    parser.add_argument(
        "--grid-min", type=int, help="smallest k of the grid, in the loops' favour; default: the task's"
    )
    parser.add_argument("--grid-max", type=int, help="largest k of the grid, in the loops' favour; default: the task's")
    parser.add_argument("--budget-seconds", type=float, help="CPU seconds after which a grid is left for another time")
    parser.add_argument(
        "--enough",
        type=float,
        metavar="RATIO",
        help="leave a grid for good once it has cost RATIO times our dearest job: the ratio is then a lower bound",
    )
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    comparison, measured = Comparison(options), []
    for pair in range(options.first_pair, options.pairs):
        for job in [*options.ours, *options.against][:: -1 if pair % 2 else 1]:
            measured.append(comparison.measure(job, pair))
            (sys.stderr if options.json else sys.stdout).write(describe(measured[-1]))
            sys.stdout.flush()
    found = [ratios(measured, ours, other) for other in options.against for ours in options.ours]
    if options.json:
        sys.stdout.write(json.dumps({"jobs": [asdict(one) for one in measured], "ratios": found}) + "\n")
    else:
        sys.stdout.writelines(describe_ratio(ratio) for ratio in found)


if __name__ == "__main__":
    main(sys.argv[1:])
