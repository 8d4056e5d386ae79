"""Submissions queued in the job server of a cluster, all of them before the first may begin."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

_TICK = 2.0
_PATIENCE = 3600.0
_ROW = re.compile(r"^(load-\d+)\s.*?\s(\d+)/(\d+)(?:\s|$)", re.MULTILINE)
"""A sweep in the table that a driver ends with: its task, successes and trainings."""


def run_jobs(
    folder: Path, environ: Mapping[str, str], tasks: Sequence[dict[str, Any]], places: int, enough: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Send every task as a submission of its own, and run them `places` at a time until `enough` have ended; those that still
    wait are then cancelled.

    Returns what the logs of the jobs say of their sweeps, and the tasks of those that were cancelled. Raises RuntimeError where
    the queue is not what was sent, or a job ends otherwise than well. This process is a client of the cluster from then on.
    """
    os.environ.update(environ)
    for task in tasks:
        _write_submission(folder / task["name"], task)
    from lowdim_bench.execution.service import JobService
    from lowdim_bench.settings import Settings

    service = JobService(Settings.resolve(), environ["LOWDIM_BENCH_JOB_SERVER"])
    gate = folder / "open"
    _hold_places(environ, places, gate)
    began = time.monotonic()
    # One process sends them all, for each would spend seconds on importing its packages.
    subprocess.run([sys.executable, "-m", "benchmarks.load_jobs", str(folder)], env=dict(environ), check=True)
    waiting = [job for job in service.jobs() if job.status == "PENDING"]
    _say(f"{len(waiting)} submissions queued in {time.monotonic() - began:.0f} s, before the first began")
    expected = [(number, (task["name"],)) for number, task in enumerate(tasks, start=1)]
    if [(job.position, job.tasks) for job in waiting] != expected:
        raise RuntimeError(f"the queue is not what was sent, in its order: {[job.tasks for job in waiting]}")
    gate.touch()
    began = time.monotonic()
    most, ended = _work_off(service, enough)
    _say(f"{len(ended)} jobs ended in {time.monotonic() - began:.0f} s, at most {most} of them running at a time")
    return [_told(service, job) for job in ended], _left(tasks, [job.tasks[0] for job in ended])


def _write_submission(folder: Path, task: Mapping[str, Any]) -> None:
    folder.mkdir()
    name = str(task["name"])
    (folder / f"{name}.yaml").write_text(json.dumps(task))
    about = {"name": name, "authors": ["A Load"], "method": "random_subspace", "tasks": [f"{name}.yaml"]}
    (folder / "submission.yaml").write_text(json.dumps(about))


def _hold_places(environ: Mapping[str, str], places: int, gate: Path) -> None:
    """Have a job of no submission take all places of drivers until a file is there."""
    from ray.job_submission import JobStatus, JobSubmissionClient

    client = JobSubmissionClient(environ["LOWDIM_BENCH_JOB_SERVER"])
    script = f"until [ -e {gate} ]; do sleep 0.2; done"
    held = client.submit_job(
        entrypoint=f"sh -c '{script}'", submission_id="gate", entrypoint_resources={"lowdim_bench_driver": places}
    )
    until = time.monotonic() + 120
    while client.get_job_status(held) != JobStatus.RUNNING:
        if time.monotonic() > until:
            raise RuntimeError("the places of drivers could not be taken")
        time.sleep(0.2)


def _work_off(service: Any, enough: int) -> tuple[int, list[Any]]:
    """The most jobs that were seen running at a time, and those that ran to their end."""
    most, until = 0, time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        jobs = service.jobs()
        running, waiting = ([job for job in jobs if job.status == status] for status in ("RUNNING", "PENDING"))
        most = max(most, len(running))
        over = [job for job in jobs if job.status in {"SUCCEEDED", "FAILED"}]
        if not (running or waiting):
            return most, over
        if waiting and len(over) >= enough:
            service.cancel([job.id for job in waiting if job.status == "PENDING"])
            _say(f"{len(waiting)} that still waited were cancelled")
        time.sleep(_TICK)
    raise RuntimeError(f"the queue was not worked off within {_PATIENCE:.0f} s")


def _told(service: Any, job: Any) -> dict[str, Any]:
    """What the log of a job says of its sweep."""
    rows = _ROW.findall(service.log(job.id))
    if job.status != "SUCCEEDED" or [name for name, *_ in rows] != list(job.tasks):
        raise RuntimeError(f"job {job.id} {job.status}, and tells of {rows}: {job.note}\n{service.log(job.id)[-2000:]}")
    ((name, _, trainings),) = rows
    return {"task": name, "trainings": int(trainings), "failure": ""}


def _left(tasks: Sequence[dict[str, Any]], ended: Sequence[str]) -> list[dict[str, Any]]:
    return [task for task in tasks if task["name"] not in set(ended)]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def send_all(folder: Path) -> None:
    """The real command, once for each submission of a folder, in the order of their numbers."""
    from lowdim_bench.cli import app

    submissions = [path for path in folder.glob("load-*") if path.is_dir()]
    for path in sorted(submissions, key=lambda path: int(path.name.partition("-")[2])):
        with redirect_stdout(StringIO()):
            app(["submit", str(path), "--workers", "1", "--gpus-per-worker", "0", "--json"], standalone_mode=False)


if __name__ == "__main__":
    send_all(Path(sys.argv[1]))
