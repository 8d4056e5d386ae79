"""Joining a cluster by its address, and addresses where there is none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.settings import Settings, why_unreachable

ROOT = Path(__file__).resolve().parents[2]

# A driver in a process of its own, since this one is connected already.
SCRIPT = """
import json, sys
from pathlib import Path
from lowdim_bench.errors import UserError
from lowdim_bench.execution import Executor, Work
from lowdim_bench.settings import Settings, quiet_stdout
work = Work(lambda task, root: {}, lambda *a: None, lambda *a: [], lambda: None)
with quiet_stdout() as out:
    settings = Settings.resolve(
        ray_address=sys.argv[1], state_dir=sys.argv[2], tracking_uri="sqlite:///unused.db", gpus_per_worker=0
    )
    try:
        with Executor(settings, work) as executor:
            json.dump({"workers": executor.workers}, out)
    except UserError as error:
        json.dump({"error": str(error)}, out)
"""


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where something listens and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        yield listener.getsockname()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def driver(address: str, settings: Settings, **environment: str) -> dict[str, object]:
    command = [sys.executable, "-W", "error", "-c", SCRIPT, address, str(settings.state_dir)]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_why_unreachable(silent_port: int) -> None:
    assert why_unreachable("127.0.0.1", silent_port) is None
    assert why_unreachable("127.0.0.1", silent_port, 0.2, grpc=True) == "no answer within 0.2 s"
    assert why_unreachable("127.0.0.1", free_port()) == "Connection refused"
    assert why_unreachable("no-such-host.invalid", 1) is not None


@pytest.mark.slow
def test_an_address_where_nothing_listens(settings: Settings) -> None:
    address = f"127.0.0.1:{free_port()}"
    start = time.monotonic()
    error = driver(address, settings)["error"]
    assert time.monotonic() - start < 15
    assert f"'{address}' cannot be reached: Connection refused" in str(error)
    assert "ray start --head" in str(error)


@pytest.mark.slow
def test_the_address_of_a_standing_cluster(cluster: None, settings: Settings) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    assert why_unreachable(*address.split(":"), grpc=True) is None
    assert driver(address, settings) == {"workers": 2}
    assert ray.cluster_resources()["CPU"] == 2, "it stands after the driver has left"


@pytest.mark.slow
def test_the_wrong_token(cluster: None, settings: Settings) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    start = time.monotonic()
    error = driver(address, settings, RAY_AUTH_TOKEN="f" * 64)["error"]
    assert time.monotonic() - start < 15
    assert "token is not the one here" in str(error)


def test_a_port_that_does_not_speak_grpc(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowdim_bench.execution import cluster as under_test

    monkeypatch.setattr(under_test.ray, "is_initialized", lambda: False)
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(UserError, match="does not speak gRPC"):
            under_test.Cluster.open(replace(settings, ray_address=f"127.0.0.1:{server.server_port}"))
