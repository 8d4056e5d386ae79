"""Opening stores: where none is, many at once, and through a real MLflow server."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from lowdim_bench.errors import InfrastructureError, UserError
from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Estimate, TrialResult
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task
from lowdim_bench.tracking import Store, SweepLog, keys

pytestmark = pytest.mark.slow

Make = Callable[..., TrialResult]
ROOT = Path(__file__).resolve().parents[2]

# The modules are imported once, then six processes open the store at the same moment.
SIX = """
import os, sys, time
from lowdim_bench.settings import Settings, prepare_environment
settings = Settings.resolve(tracking_uri=sys.argv[1], state_dir=sys.argv[2])
prepare_environment(settings)
import lowdim_bench.tracking.connection
from lowdim_bench.tracking import Store, SweepLog, keys
import mlflow.store.tracking.sqlalchemy_store
start = time.time() + 0.5
children = []
for _ in range(6):
    if not (child := os.fork()):
        time.sleep(max(0, start - time.time()))
        try:
            Store(settings).sweeps()
        except BaseException as error:
            print(error, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def resolve(uri: str, tmp_path: Path) -> Settings:
    return Settings.resolve(tracking_uri=uri, state_dir=tmp_path / "state")


def test_a_server_that_is_not_there(schema: Path, tmp_path: Path) -> None:
    """In a process that has imported MLflow already."""
    uri = f"http://127.0.0.1:{free_port()}"
    start = time.monotonic()
    with pytest.raises(UserError, match="cannot be reached: Connection refused") as caught:
        Store(resolve(uri, tmp_path))
    assert time.monotonic() - start < 10
    assert uri in str(caught.value)
    assert "mlflow server --host 127.0.0.1 --port" in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        Store(resolve(f"sqlite:///{tmp_path}/none/mlflow.db", tmp_path))


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("nothing of the sort" * 100)
    with pytest.raises(UserError, match="cannot be opened: file is not a database"):
        Store(resolve(f"sqlite:///{tmp_path}/mlflow.db", tmp_path))


def test_an_experiment_that_was_deleted(settings: Settings) -> None:
    connection = Store(settings)._connection
    connection._client.delete_experiment(connection._experiment)
    with pytest.raises(UserError, match="mlflow experiments restore"):
        Store(settings)


def test_readers_do_not_wait_for_the_writer(settings: Settings) -> None:
    Store(settings)
    assert settings.sqlite_path is not None
    with closing(sqlite3.connect(settings.sqlite_path)) as database:
        assert database.execute("pragma journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_waits_for_the_end_of_a_transaction_once(settings: Settings, times: int) -> None:
    connection = Store(settings)._connection
    run_id = connection.create_run("a run", {}).run_id
    interrupted: list[str] = []

    def interrupt(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT") and not interrupted:
            for _each in range(times):
                interrupted.append(statement)
                os.kill(os.getpid(), signal.SIGINT)

    event.listen(Engine, "after_cursor_execute", interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            connection.write(run_id, tags={"written": "yes"})
    finally:
        event.remove(Engine, "after_cursor_execute", interrupt)
    assert len(interrupted) == times
    assert connection.run(run_id).tags.get("written") == (None if times == 2 else "yes")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert settings.sqlite_path is not None
    with closing(sqlite3.connect(settings.sqlite_path, timeout=1)) as database:  # nothing holds the database locked
        database.execute("delete from tags where key = 'none'")


def test_six_processes_open_a_new_store_at_once(tmp_path: Path) -> None:
    settings = resolve(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", SIX, settings.tracking_uri, str(settings.state_dir)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.stdout == "[0, 0, 0, 0, 0, 0]\n", done.stderr
    assert Store(settings).sweeps() == []


def test_files_that_were_listed_are_waited_for(
    open_sweep: Callable[[], SweepLog], result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow says of a server that is away at that moment, or of its disk, that the file does not exist."""
    from lowdim_bench.tracking import connection as module

    with open_sweep() as log:
        log.append([result(40)])
        connection, away = log._connection, iter([True, False])
        client = connection._client
        root = Path(str(client.get_run(log.run_id).info.artifact_uri))
        plain = client.download_artifacts

        def download(*given: str) -> str:
            if not next(away):
                return plain(*given)
            hidden = root.rename(root.with_name("away"))
            try:
                return plain(*given)
            finally:
                hidden.rename(root)

        monkeypatch.setattr(client, "download_artifacts", download)
        monkeypatch.setattr(module, "PAUSES", (0.0,))
        (name,) = connection.download(log.run_id, keys.TRIALS)
        assert name.startswith("round-0000")
        away = iter([True, True])
        with pytest.raises(InfrastructureError, match="failed while fetching trials, again and again"):
            connection.download(log.run_id, keys.TRIALS)


@pytest.fixture
def server(settings: Settings, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An MLflow server on a database with tables, and its process."""
    uri = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", settings.tracking_uri]
    command += ["--artifacts-destination", str(tmp_path / "served"), "--port", uri.rpartition(":")[2], "--workers", "1"]
    with (tmp_path / "server.log").open("w") as noise:
        process = subprocess.Popen(command, stdout=noise, stderr=noise, start_new_session=True)
    try:
        for _ in range(400):
            try:
                with urlopen(f"{uri}/health", timeout=1):
                    break
            except (URLError, OSError):
                assert process.poll() is None, (tmp_path / "server.log").read_text()
                time.sleep(0.1)
        yield uri, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_sweep_through_a_server_that_dies_in_the_end(
    server: tuple[str, subprocess.Popen[bytes]],
    task: Task,
    result: Make,
    found: Estimate,
    curve: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from lowdim_bench.tracking import connection

    monkeypatch.setattr(connection, "PAUSES", (0.1,))
    uri, process = server
    method = MethodChoice(name="random_subspace")
    store = Store(resolve(uri, tmp_path))
    with store.open_sweep(task, method, (1, 2048), 2410) as log:
        log.append([result(8), result(9)])
        log.heartbeat()
        elsewhere = replace(resolve(uri, tmp_path), state_dir=tmp_path / "state of another user")
        with pytest.raises(UserError, match="is being run already, by process"):
            Store(elsewhere).open_sweep(task, method, (1, 2048), 2410)
        log.finish(found, [found], *curve)
    (stored,) = store.sweeps()
    assert stored.results == tuple(log.results()) == (result(8), result(9))
    assert stored.status == "found"
    assert (tmp_path / "served").is_dir(), "files went through the server"

    with store.open_sweep(task, MethodChoice(name="imp"), (1, 64), 2410) as log:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with pytest.raises(InfrastructureError, match="finished trials are kept"):
            log.append([result(8)])
    assert "could not be marked as interrupted" in caplog.text
