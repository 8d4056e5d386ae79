"""A disk that is full: a clear error, nothing lost, and on it goes when there is room again."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lowdim_bench.errors import InfrastructureError, UserError
from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import TrialResult
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task
from lowdim_bench.tracking import Store, connection

pytestmark = pytest.mark.slow

Make = Callable[..., TrialResult]
METHOD = MethodChoice(name="random_subspace")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mounting, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs the program mount")
    if done.returncode:
        pytest.skip(f"needs the right to mount a small disk: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def store(small_disk: Path, schema: Path, tmp_path: Path) -> Store:
    """A store whose database and files are on the small disk; `schema` is closed, so that its file is all there is."""
    shutil.copy(schema, small_disk / "mlflow.db")
    return Store(Settings.resolve(tracking_uri=f"sqlite:///{small_disk}/mlflow.db", state_dir=tmp_path / "state"))


def fill(disk: Path) -> Path:
    """Leave no byte free; returns what has to go to make room."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(os.urandom(4096))
        except OSError:
            return filler


def test_results_wait_for_room_and_an_error_says_so(
    store: Store, small_disk: Path, task: Task, result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PAUSES", (0.1,))
    with store.open_sweep(task, METHOD, (1, 2048), 2410) as log:
        log.append([result(8)])
        filler = fill(small_disk)
        with pytest.raises(
            InfrastructureError, match=r"(?s)(No space left on device|disk is full).*same command again"
        ):
            log.append([result(9)])
        filler.unlink()
    with store.open_sweep(task, METHOD, (1, 2048), 2410) as log:
        assert log.results() == [result(8)], "what was cut short is no result"
        log.append([result(9)])
    with store.open_sweep(task, METHOD, (1, 2048), 2410) as log:
        assert log.results() == [result(8), result(9)]


def test_room_made_in_time_is_all_it_takes(
    store: Store, small_disk: Path, task: Task, result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PAUSES", (0.2,) * 50)
    with store.open_sweep(task, METHOD, (1, 2048), 2410) as log:
        filler = fill(small_disk)
        freeing = threading.Timer(1.0, filler.unlink)
        freeing.start()
        began = time.monotonic()
        log.append([result(9)])
        assert time.monotonic() - began > 0.8
        freeing.join()
    with store.open_sweep(task, METHOD, (1, 2048), 2410) as log:
        assert log.results() == [result(9)]


def test_a_full_state_folder_is_told(store: Store, small_disk: Path, task: Task) -> None:
    elsewhere = Store(replace(store._settings, state_dir=small_disk / "state"))
    filler = fill(small_disk)
    with pytest.raises(UserError, match=r"No space left on device\. Make room there"):
        elsewhere.open_sweep(task, METHOD, (1, 2048), 2410)
    filler.unlink()
    elsewhere.open_sweep(task, METHOD, (1, 2048), 2410).close()
