"""The service as docs/cluster.md has it started by hand: PostgreSQL, an MLflow server with accounts, and two Ray nodes with a
token, all on this machine's loopback and in folders of their own. Each is started once, for all tests of this folder."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import COMMAND, Cli

BIN = Path(sys.executable).parent
PASSWORD = "a%b@c d"
"""With characters that URIs and ini files would otherwise take for their own."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answer(url: str, **headers: str) -> int:
    """The HTTP status of a GET; 0 where nothing answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@contextmanager
def started(
    what: str, command: Sequence[object], log: Path, ready: Callable[[], bool], **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """A process that is ready, and ended by its id whatever happens."""
    with log.open("wb") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out, **options)
    try:
        until = time.monotonic() + 100
        while not ready():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, f"{what} did not come up\n{log.read_text()}"
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Database:
    """A PostgreSQL server with an empty database."""

    uri: str
    port: int


@dataclass(frozen=True)
class Tracking:
    """An MLflow server with accounts."""

    url: str
    credentials: Path
    log: Path


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """Short, since Unix sockets are made below it."""
    folder = Path(tempfile.mkdtemp(prefix="s-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def environment(place: Path) -> dict[str, str]:
    """That of somebody who has activated the environment, with a home that holds the cluster's token as Ray looks for it."""
    home = place / "home"
    token = home / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    bare = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RAY_", "LOWDIM_BENCH_"))
    }
    return bare | {
        "HOME": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_START_TIMEOUT_SECONDS": "31536000",
        "LOWDIM_BENCH_STATE_DIR": str(home / "state"),
    }


def _postgres_programs() -> Path:
    """Where Debian keeps the server's programs, newest first, or else where PATH has them."""
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    folders += [Path(name) for name in os.environ["PATH"].split(os.pathsep)]
    for folder in folders:
        if all((folder / program).exists() for program in ("initdb", "postgres", "pg_isready", "createdb")):
            return folder
    pytest.skip("needs a PostgreSQL server: none in /usr/lib/postgresql or on PATH (apt-get install postgresql)")


def _as_somebody_else(folder: Path) -> Sequence[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return ()
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")


@pytest.fixture(scope="session")
def database(place: Path) -> Iterator[Database]:
    programs = _postgres_programs()
    folder = place / "pg"
    folder.mkdir()
    user = _as_somebody_else(folder)
    secret = place / "pg_password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    initialize = [
        programs / "initdb",
        "-D",
        folder / "data",
        "-U",
        "lowdim",
        f"--pwfile={secret}",
        "-A",
        "scram-sha-256",
    ]
    subprocess.run([*user, *initialize, "--no-sync", "-E", "UTF8"], check=True, capture_output=True, cwd=folder)
    port, log = free_port(), place / "pg.log"
    options = ["-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    command = [*user, programs / "postgres", "-D", folder / "data", *options]
    probe = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    create = [programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "lowdim", "lowdim"]
    with started(
        "PostgreSQL", command, log, lambda: subprocess.run(probe, check=False).returncode == 0, cwd=folder
    ) as server:
        subprocess.run(create, check=True, env=os.environ | {"PGPASSWORD": PASSWORD})
        yield Database(f"postgresql://lowdim@127.0.0.1:{port}/lowdim", port)
        server.send_signal(signal.SIGINT)  # "fast": clients are disconnected


@pytest.fixture(scope="session")
def tracking(place: Path, database: Database, environment: dict[str, str]) -> Iterator[Tracking]:
    """`lowdim-bench serve` on the database; its password lies in the home, as its output says to put it."""
    port, log = free_port(), place / "serve.log"
    url = f"http://127.0.0.1:{port}"
    command = [*COMMAND, "serve", "--store", database.uri, "--port", str(port)]
    with started(
        "the MLflow server",
        command,
        log,
        lambda: answer(f"{url}/health") == 200,
        env=environment | {"PGPASSWORD": PASSWORD},
        cwd=place,
    ):
        home = Path(environment["HOME"])
        credentials = home / ".mlflow" / "credentials"
        credentials.parent.mkdir()
        shutil.copy(home / "state" / "server" / "credentials", credentials)
        yield Tracking(url, credentials, log)


@pytest.fixture(scope="session")
def job_server(place: Path, environment: dict[str, str], tracking: Tracking) -> Iterator[str]:
    """The address of a cluster of two nodes with one CPU each, which has a place for one driver."""
    gcs, dashboard, client = free_port(), free_port(), free_port()
    common = ["--block", "--num-cpus=1", "--num-gpus=0", "--disable-usage-stats"]
    head = ["--head", f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    places = ['--resources={"lowdim_bench_driver": 1}', f"--temp-dir={place}/ray"]
    address = f"http://127.0.0.1:{dashboard}"
    with ExitStack() as stack:
        for number, options in enumerate(([*head, *places], [f"--address=127.0.0.1:{gcs}"])):
            log = place / f"ray{number}.log"
            command = [BIN / "ray", "start", *common, *options, f"--dashboard-agent-listen-port={free_port()}"]
            ready = lambda log=log: b"Ray runtime started" in log.read_bytes()  # noqa: E731
            stack.enter_context(started("a node of Ray", command, log, ready, env=environment))
        yield address


@pytest.fixture
def cli(tmp_path: Path, environment: dict[str, str], job_server: str, tracking: Tracking) -> Cli:
    """The command in an empty folder, told of the cluster and the server by its environment."""
    where = {"LOWDIM_BENCH_JOB_SERVER": job_server, "LOWDIM_BENCH_TRACKING_URI": tracking.url}
    return Cli(tmp_path, environment | where)
