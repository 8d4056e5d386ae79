"""Drivers with a cluster of their own, in processes of their own: what they print, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lowdim_bench.specs import Task

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("embedded_driver.py")
ROOT = Path(__file__).resolve().parents[2]


def start(what: str, task: Task, folder: Path, ray_folder: Path) -> subprocess.Popen[str]:
    with (folder / "stderr").open("w") as noise:
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(SCRIPT), what, str(folder), str(folder), task.model_dump_json()],
            env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(ray_folder)},
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
            start_new_session=True,
        )


def until(process: subprocess.Popen[str], key: str) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        facts = json.loads(line)  # a line of anything else on standard output ends the test here
        yield facts
        if key in facts:
            return


def left(session: int) -> list[str]:
    """What a session still runs after some seconds: a worker whose node is gone may take one to notice."""
    deadline = time.monotonic() + 15
    while True:
        listing = subprocess.run(
            ["ps", "-o", "pid=,comm=", "-s", str(session)], capture_output=True, text=True, check=False
        )
        if not (found := listing.stdout.splitlines()) or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def test_an_interrupted_driver_closes_at_once_and_prints_nothing_but_its_own(
    task: Task, tmp_path: Path, ray_folder: Path
) -> None:
    with start("interrupt", task, tmp_path, ray_folder) as process:
        first, _ = until(process, "waiting")
        assert first == {"ks": [3], "attempts": 2}
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the driver and all that it started
        interrupted, closed = until(process, "seconds_to_close")
        assert interrupted == {"interrupted": True}
        assert closed["seconds_to_close"] < 8
        assert process.stdout is not None
        assert process.stdout.read() == ""
        assert process.wait(10) == 0
    assert left(process.pid) == []
    noise = (tmp_path / "stderr").read_text()
    assert "the driver prints this" in noise
    assert "A worker died" in noise, "Ray no longer prints this: is the redirection still put to the test?"


def test_a_lost_cluster_is_said_and_left(task: Task, tmp_path: Path, ray_folder: Path) -> None:
    with start("lose", task, tmp_path, ray_folder) as process:
        *_, lost, closed = until(process, "seconds_to_close")
        assert "is gone" in lost["lost"]
        assert "finished trials are kept" in lost["lost"]
        assert closed["seconds_to_close"] < 20
        assert process.wait(10) == 0
