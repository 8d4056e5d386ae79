"""Sweeps while everything around them is killed, and then the question whether anything was lost or counted twice.

    python -m benchmarks.fault_campaign --kills 50

Starts a Ray cluster (a head and two nodes) and an MLflow server behind a network that can be cut, runs the real command on
quick tasks, and kills (SIGKILL) workers, whole nodes, the driver, the server and the head at random moments; it cuts the
network and stops a node for a while, too. What was killed is started again; the driver by the same command. In the end every
trial must be recorded exactly once, and every sweep must have the very threshold.json that it has where nobody disturbs it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.standing import Cluster, Network, Program, TrackingServer, send

SHARES = {"worker": 0.38, "driver": 0.22, "node": 0.18, "server": 0.18, "head": 0.04}
"""Of the kills, by what is killed. Of 50: 19 workers, 11 drivers, 9 nodes, 9 servers, 2 heads."""
DISTURBANCES = {"network cut": 0.1, "network cut for a minute": 0.04, "slow node": 0.1}
"""How many of each come along with a kill. Each comes at least once."""
METHODS = ("random_subspace", "random_mask")
COMMAND = [sys.executable, "-c", "from lowdim_bench.cli import main; main()"]
TICK = 0.2


def quick_tasks(batch: int, trials: int) -> list[dict[str, Any]]:
    """A quadratic well and digits, with an interval asked for so narrow that every trial is run."""
    threshold = {"precision": 1.001, "trials": trials, "minimum_replicates": min(20, trials), "trials_per_round": 8}
    recipe = {"optimizer": {"kind": "adam"}, "learning_rate": {"value": 0.05}}
    well = {
        "name": f"faults-well-{batch}",
        "track": "cold",
        "problem": {"kind": "quadratic_well", "dimension": 128, "spectrum": {"kind": "power", "exponent": 1.0}},
        "training": {**recipe, "batch_size": None, "steps": 1500, "evaluate_every": 500},
        "full_training": {**recipe, "batch_size": None, "steps": 1},
        "targets": [{"metric": "train_loss", "at_most": 0.1}],
        "threshold": {**threshold, "k_max": 128},
        "preparation": {"gradient_evaluations": 0},
    }
    digits = {
        "name": f"faults-digits-{batch}",
        "problem": {
            "kind": "classification",
            "data": {"kind": "sklearn_digits"},
            "network": {"kind": "mlp", "hidden": [16]},
        },
        "training": {**recipe, "batch_size": 64, "steps": 150, "evaluate_every": 50},
        "full_training": {**recipe, "batch_size": 64, "steps": 150},
        "targets": [{"metric": "train_loss", "at_most": 1.0}],
        "threshold": {**threshold, "k_max": 1000},
        "preparation": {"gradient_evaluations": 2000},
    }
    return [well, digits]


def plan_kills(kills: int, chance: random.Random) -> list[str]:
    """What is killed, in which order, and when the network or a node stands still."""
    counts = {kind: round(share * kills) for kind, share in SHARES.items()}
    counts["worker"] += kills - sum(counts.values())
    plan = [kind for kind, count in counts.items() for _ in range(count)]
    plan += [kind for kind, share in DISTURBANCES.items() for _ in range(max(1, round(share * kills)))]
    chance.shuffle(plan)
    return plan


@dataclass
class Campaign:
    """What runs, and what was done to it."""

    folder: Path
    cluster: Cluster
    server: TrackingServer
    network: Network
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    gave_up: list[str] = field(default_factory=list)
    """What the driver said where it ended by itself before its sweeps were finished."""
    starts: int = 0

    def driver(self, tasks: Sequence[str], tracking: str, log: str) -> Program:
        environ = os.environ | self.cluster.environ | {
            "LOWDIM_BENCH_RAY_ADDRESS": self.cluster.address,
            "LOWDIM_BENCH_STATE_DIR": str(self.folder / "state"),
            "LOWDIM_BENCH_TRACKING_URI": tracking,
        }  # fmt: skip
        methods = [argument for method in METHODS for argument in ("-m", method)]
        return Program([*COMMAND, "run", *tasks, *methods, "--json"], environ, self.folder / log, self.folder)

    def strike(self, kind: str, driver: Program) -> bool:
        """Do one thing of the plan now; False where there is nothing to do it to at this moment."""
        if kind == "worker":
            workers = self.cluster.workers()
            if not workers:
                return False
            send([self.chance.choice(workers)], signal.SIGKILL)
        elif kind == "node":
            node = self.chance.choice(self.cluster.nodes)
            if not any("/raylet " in line for line in node.titles()):
                return False
            node.kill()
            self._later(node.start)
        elif kind == "driver":
            driver.kill()
        elif kind == "server":
            self.server.program.kill()
            self._later(lambda: self.server.start(wait=False))
        elif kind == "head":
            self.cluster.kill()
            self._later(self.cluster.start)
        elif kind in {"network cut", "network cut for a minute"}:
            with self.network.cut():
                time.sleep(60 if "minute" in kind else self.chance.uniform(2, 15))
        else:
            pids = self.chance.choice(self.cluster.nodes).pids
            send(pids, signal.SIGSTOP)
            time.sleep(self.chance.uniform(2, 12))
            send(pids, signal.SIGCONT)
        self.done[kind] += 1
        return True

    def _later(self, start: Callable[[], None]) -> None:
        time.sleep(self.chance.uniform(0, 3))
        start()

    def tend(self, driver: Program) -> bool:
        """Start again what has ended; False when the driver has done its work."""
        for node in self.cluster.nodes:
            if not node.running:  # it may have ended by itself, after it had been taken for dead
                node.start()
        if driver.running:
            return True
        if driver.exit_code == 0:
            return False
        if driver.exit_code is not None and driver.exit_code > 0:
            said = [line for line in driver.log.read_text(errors="replace").splitlines() if line.strip()]
            self.gave_up.append(next((line for line in reversed(said) if "Error: " in line), said[-1] if said else ""))
        driver.start()
        self.starts += 1
        return True


def run_campaign(campaign: Campaign, plan: list[str], trials: int, until: float, pause: float) -> list[str]:
    """Sweeps in batches, until the plan is worked off or time is up; the task files of all batches."""
    files: list[str] = []
    uri = f"http://127.0.0.1:{campaign.network.port}"
    batch = 0
    while (plan and time.monotonic() < until) or not batch:
        names = []
        for task in quick_tasks(batch, trials):
            (campaign.folder / f"{task['name']}.yaml").write_text(json.dumps(task))
            names.append(f"{task['name']}.yaml")
        files += names
        driver = campaign.driver(names, uri, f"driver-{batch}.log")
        next_strike = time.monotonic() + campaign.chance.uniform(0, 2 * pause)
        while campaign.tend(driver):
            now = time.monotonic()
            if plan and next_strike < now < until and campaign.strike(plan[-1], driver):
                say(f"{len(plan):>3} left: {plan.pop()}")
                next_strike = time.monotonic() + campaign.chance.uniform(0, 2 * pause)
            time.sleep(TICK)
        batch += 1
    return files


def say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


@dataclass(frozen=True)
class Recorded:
    """One sweep as its files have it."""

    trials: Counter[tuple[str, str]]
    """How often each trial was recorded with each outcome."""
    threshold: str
    damaged: int
    failures: int


def read_records(root: Path) -> dict[tuple[str, str], list[Recorded]]:
    """The runs below a folder of artifacts that hold trials, by task and method; more than one of either is an error."""
    from lowdim_bench.tracking import trial_files

    found: dict[tuple[str, str], list[Recorded]] = {}
    for folder in sorted(path.parent for path in root.rglob("trials") if path.is_dir()):
        contents = {path.name: path.read_bytes() for path in (folder / "trials").iterdir()}
        decoded = trial_files.decode(contents, str(folder))
        trials = Counter(
            (result.trial.key, f"{result.status} {result.outcomes}") for some in decoded.values() for result in some
        )
        threshold = folder / "threshold.json"
        name = json.loads((folder / "task.json").read_text())["name"]
        method = json.loads((folder / "method.json").read_text())["name"]
        record = Recorded(
            trials,
            threshold.read_text() if threshold.exists() else "",
            len(contents) - len(decoded),
            len(list((folder / "failures").glob("*"))),
        )
        found.setdefault((name, method), []).append(record)
    return found


def compare(disturbed: Path, calm: Path) -> tuple[list[str], Counter[str]]:
    """What differs between the two, in words, and counts of what was compared."""
    ours, expected = read_records(disturbed), read_records(calm)
    faults: list[str] = []
    seen: Counter[str] = Counter()
    for key, (reference, *_) in expected.items():
        where = " of ".join(reversed(key))
        runs = ours.get(key, [])
        if len(runs) != 1:
            faults.append(f"{where}: {len(runs)} runs hold trials")
            continue
        run = runs[0]
        seen.update(sweeps=1, trials=len(reference.trials), damaged=run.damaged)
        faults += [f"{where}: {trial[0]} recorded {n} times" for trial, n in run.trials.items() if n != 1]
        if set(run.trials) != set(reference.trials):
            missing, extra = len(set(reference.trials) - set(run.trials)), len(set(run.trials) - set(reference.trials))
            faults.append(
                f"{where}: {missing} trials are missing, and {extra} are others than in the undisturbed sweep"
            )
        if not run.threshold or run.threshold != reference.threshold:
            faults.append(f"{where}: threshold.json is not that of the undisturbed sweep")
        if run.failures:
            faults.append(f"{where}: {run.failures} files of failed trials, though no trial is at fault")
    if set(ours) - set(expected) or not expected:
        faults.append(f"sweeps that were not asked for, or none at all: {sorted(set(ours) - set(expected))}")
    return faults, seen


@contextmanager
def installation(backend: str | None, seed: int, keep: bool) -> Iterator[Campaign]:
    """A cluster and a server, in a folder of their own that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="f-"))
    cluster, server = Cluster(folder, nodes=2), TrackingServer(folder, backend)
    network = Network(server.port)
    try:
        server.start(wait=False)
        cluster.start()
        server.wait()
        yield Campaign(folder, cluster, server, network, random.Random(seed))
    finally:
        cluster.kill()
        server.program.kill()
        network.close()
        if keep:
            say(f"everything is kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def report(campaign: Campaign, faults: Sequence[str], seen: Counter[str], minutes: float) -> str:
    """For people."""
    kills = {kind: campaign.done[kind] for kind in SHARES}
    lines = [
        f"{sum(kills.values())} kills in {minutes:.1f} minutes: " + ", ".join(f"{n} {k}" for k, n in kills.items())
    ]
    lines.append("besides: " + ", ".join(f"{campaign.done[kind]} x {kind}" for kind in DISTURBANCES))
    lines.append(f"the driver was started {campaign.starts} times; it gave up by itself {len(campaign.gave_up)} times")
    lines += [f"  it said: {text[:200]}" for text in campaign.gave_up]
    lines.append(
        f"{seen['sweeps']} sweeps with {seen['trials']} trials compared with undisturbed ones; files cut short and left out: "
        f"{seen['damaged']}"
    )
    verdict = "every trial is recorded exactly once, and every threshold.json equals the undisturbed one"
    lines += [f"FAULT {fault}" for fault in faults] or [verdict]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Parse, break, compare, print; the exit code is 1 where anything was lost, doubled or changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=60.0, help="no more kills after this time")
    parser.add_argument("--pause", type=float, default=4.0, help="seconds between kills, on average")
    parser.add_argument("--trials", type=int, default=64, help="trials of each sweep")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and victims")
    parser.add_argument("--backend", help="database URI of the MLflow server; default: a SQLite file")
    parser.add_argument("--keep", action="store_true", help="leave all files behind")
    options = parser.parse_args(arguments)
    with installation(options.backend, options.seed, options.keep) as campaign:
        began = time.monotonic()
        plan = plan_kills(options.kills, campaign.chance)
        files = run_campaign(campaign, plan, options.trials, began + 60 * options.minutes, options.pause)
        minutes = (time.monotonic() - began) / 60
        say("and now the same sweeps undisturbed")
        calm = campaign.folder / "calm"
        calm.mkdir()
        driver = campaign.driver(files, f"sqlite:///{calm}/mlflow.db", "calm.log")
        driver.start()
        while driver.running:
            time.sleep(TICK)
        if driver.exit_code:
            raise SystemExit(f"the undisturbed sweeps failed:\n{driver.log.read_text()[-3000:]}")
        faults, seen = compare(campaign.server.files, calm / "mlartifacts")
        tracebacks = sum("Traceback" in log.read_text(errors="replace") for log in campaign.folder.glob("driver-*.log"))
        if tracebacks:
            faults.append(f"{tracebacks} drivers ended in a traceback")
        sys.stdout.write(report(campaign, faults, seen, minutes))
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
