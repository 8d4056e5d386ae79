"""How fast is the leaderboard with many rows? A made-up store, the real server, and a real browser where there is one.

    python -m benchmarks.page --tasks 10 --methods 50 --running 50

Prints what the server takes cold (its first edition) and warm (median and slowest of some requests), until when the page can
be used in headless Chromium, the hosts that it asked, and the size and time of the report. Rows are simulated: success is a
logistic function of ln k, and no network is trained.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from lowdim_bench.bench import conclude
from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Audit, Outcome, Spending, Trial, TrialResult
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task, load_task
from lowdim_bench.specs.task import Track
from lowdim_bench.tracking import Store, keys, summary, trial_files
from lowdim_bench.tracking.views import described

FULL_DIMENSION, K_HIGH = 2410, 2048
_TRIALS = 40
_PATIENCE = 900.0
"""Seconds for the first edition of a large store."""


def simulated(
    task: Task, k_star: float, seed: int, *, trials: int = _TRIALS, track: Track = "cold", bits: float = 0.0
) -> list[TrialResult]:
    """Trials around a threshold, as a search leaves them: two replicates at each of some k, and steep logistic success."""
    rng = random.Random(seed)
    results: list[TrialResult] = []
    for number in range(trials):
        k = min(K_HIGH, max(1, round(k_star * math.exp(rng.gauss(0, 0.12)))))
        ease = rng.gauss(0, 0.02)
        reached = [
            rng.random() < 1 / (1 + math.exp(-60 * (math.log(k / k_star) + ease + 0.6 * easier)))
            for easier in range(len(task.targets) - 1, -1, -1)
        ]
        results.append(
            TrialResult(
                trial=Trial(k=k, replicate=number, round=number),
                status="trained",
                outcomes=tuple(
                    Outcome(target=target.name, reached=hit, step=100 if hit else None)
                    for target, hit in zip(task.targets, reached, strict=True)
                ),
                audit=Audit(
                    measured_k=k, rank_evidence="exact", affine=True, side_information_bits=bits, track=track
                ),
                preparation=Spending() if track == "cold" else Spending(gradient_evaluations=k, examples=64 * k, labels=64),
                seconds=1.5,
            )
        )  # fmt: skip
    return results


def variants(count: int) -> Iterator[MethodChoice]:
    """Methods that differ in what they are or in one parameter."""
    yield MethodChoice(name="random_subspace")
    for number in range(count - 1):
        if number % 2:
            yield MethodChoice(name="burn_in_subspace", parameters={"burn_in_steps": number + 1})
        else:
            yield MethodChoice(name="imp", parameters={"rewind_step": number + 1})


def fill(settings: Settings, tasks: int, methods: int, running: int) -> int:
    """Write a store of tasks x methods sweeps, the last `running` of which have not ended; returns how many.

    The runs hold what `SweepLog` leaves, written with fewer requests; figures are left out.
    """
    made = 0
    base = load_task("digits-mlp")
    with Store(settings) as store:
        connection = store._connection  # noqa: SLF001 - a benchmark of pages, not of writing
        from lowdim_bench.tracking.connection import Point

        for number in range(tasks):
            task = base.model_copy(update={"name": f"digits-{number:02d}"})
            for place, method in enumerate(variants(methods)):
                made += 1
                unfinished = made > tasks * methods - running
                k_star = 400 * math.exp(-0.03 * place + 0.1 * number)
                track: Track = "cold" if method.name == "random_subspace" else "prepared"
                count, bits = 5 if unfinished else _TRIALS, 0.0 if track == "cold" else 40.0 * place
                trials = simulated(task, k_star, made, trials=count, track=track, bits=bits)
                ladder, _, _ = conclude(task, 1, K_HIGH, trials)
                sentence = summary.sentence(task, method.label, ladder[-1], FULL_DIMENSION)
                tags = {
                    keys.SWEEP: keys.sweep_id(task.digest, method.method_digest), keys.TASK: task.name,
                    keys.TASK_DIGEST: task.digest, keys.METHOD: method.name, keys.METHOD_DIGEST: method.method_digest,
                    keys.TRACK: task.track, keys.K_LOW: "1", keys.K_HIGH: str(K_HIGH),
                    keys.FULL_DIMENSION: str(FULL_DIMENSION), keys.DESCRIBED: "yes",
                    keys.STATUS: "running" if unfinished else ladder[-1].status,
                }  # fmt: skip
                run = connection.create_run(f"{task.name}: {method.label}", tags)
                name, content = trial_files.encode(trials)
                connection.upload(run.run_id, keys.TRIALS, {name: content})
                files = {keys.TASK_FILE: task.model_dump_json(), keys.METHOD_FILE: method.model_dump_json()}
                connection.upload(run.run_id, "", {name: text.encode() for name, text in files.items()})
                values = summary.final_metrics(ladder[-1], trials, FULL_DIMENSION)
                connection.write(
                    run.run_id,
                    points=[Point(name, value, 0) for name, value in values.items()],
                    params=summary.parameters(task, method),
                    tags={keys.NOTE: described(sentence, run.run_id)},
                )
    return made


@contextmanager
def served(settings: Settings, log: Path, *, accounts: bool = False) -> Iterator[str]:
    """The server of a store, on a free port of loopback, once it answers; lends its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from lowdim_bench.cli import main; main()", "serve"]
    command += ["--accounts" if accounts else "--no-accounts", "--store", settings.tracking_uri, "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=os.environ | {"LOWDIM_BENCH_STATE_DIR": str(settings.state_dir)}
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 400
        while not answers(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server did not come up:\n{log.read_text()}")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    """Whether a GET succeeds."""
    with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - ours
        return response.status == 200
    return False


def cold_seconds(url: str) -> float:
    """From now until the server has its first edition, which it began when it was started."""
    begun = time.monotonic()
    while not answers(f"{url}/leaderboard"):
        if time.monotonic() - begun > _PATIENCE:
            raise RuntimeError("the first edition was never made")
        time.sleep(0.25)
    return time.monotonic() - begun


def request_seconds(url: str, count: int) -> list[float]:
    """Of so many requests of the whole page, one after the other."""
    taken: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        with urllib.request.urlopen(f"{url}/leaderboard", timeout=60) as response:  # noqa: S310 - ours
            response.read()
        taken.append(time.perf_counter() - begun)
    return taken


def interactive_seconds(url: str, count: int) -> tuple[list[float], set[str]]:
    """From the start of the navigation until filters and order work and the page has loaded, and the hosts that were asked."""
    from playwright.sync_api import sync_playwright

    hosts: set[str] = set()
    taken: list[float] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(count):
            page = browser.new_page()
            page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
            begun = time.perf_counter()
            page.goto(f"{url}/leaderboard", wait_until="load")
            page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
            page.get_by_role("searchbox", name="Method").fill("imp")  # the answer of the page to a key, too
            page.wait_for_function("document.getElementById('count').textContent.endsWith('rows')")
            taken.append(time.perf_counter() - begun)
            page.close()
        browser.close()
    return taken, hosts


def report(settings: Settings, out: Path) -> float:
    """Seconds that the report takes, which is written to `out`."""
    command = [sys.executable, "-c", "from lowdim_bench.cli import main; main()", "report", "--out", str(out)]
    environment = {
        "LOWDIM_BENCH_STATE_DIR": str(settings.state_dir),
        "LOWDIM_BENCH_TRACKING_URI": settings.tracking_uri,
    }
    begun = time.monotonic()
    subprocess.run(command, check=True, env=os.environ | environment, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def _told(seconds: Sequence[float]) -> dict[str, float | int]:
    return {"n": len(seconds), "median": round(statistics.median(seconds), 3), "slowest": round(max(seconds), 3)}


def _tell(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the measurements as lines of JSON."""
    parser = argparse.ArgumentParser(description="How fast is the leaderboard with many rows?")
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--methods", type=int, default=50)
    parser.add_argument("--running", type=int, default=50, help="Of all sweeps, those that have not ended.")
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--no-report", action="store_true")
    parser.add_argument("--keep", type=Path, help="Fill the store in this folder, or use the one that is there.")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="page-") as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        there = (folder / "mlflow.db").exists()
        settings = Settings.resolve(tracking_uri=f"sqlite:///{folder.absolute()}/mlflow.db", state_dir=folder / "state")
        rows = None if there else fill(settings, given.tasks, given.methods, given.running)
        _tell(rows=rows, running=given.running)
        with served(settings, folder / "serve.log") as url:
            _tell(first_edition_seconds=round(cold_seconds(url), 1))
            _tell(warm_request_seconds=_told(request_seconds(url, given.requests)))
            if shutil.which("chromium"):
                seconds, hosts = interactive_seconds(url, 5)
                _tell(interactive_seconds=_told(seconds), hosts=sorted(hosts))
        if not given.no_report:
            out = folder / "report.html"
            _tell(report_seconds=round(report(settings, out), 1), report_megabytes=out.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
