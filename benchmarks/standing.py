"""A small installation of real processes on this machine, made to be broken: a Ray cluster of several nodes with token
authentication, an MLflow server, and a network between it and its clients that can be cut."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

START_PATIENCE = 180.0
_HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 4,
}
"""A node that has gone is noticed within seconds, as Ray's default of a quarter of a minute would only prolong the waiting."""


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def family(pid: int) -> list[int]:
    """A process and all its descendants, ancestors first; empty where it is gone."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after_name = stat.read_text().rpartition(")")[2].split()
            if after_name[0] not in "ZX":
                children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found = [pid] if Path(f"/proc/{pid}").exists() else []
    for one in found:
        found += children.get(one, [])
    return found


def title(pid: int) -> str:
    """What a process calls itself; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to those processes that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Program:
    """One program with its descendants, started again as often as asked. Its output goes to a file."""

    def __init__(self, command: Sequence[str], environ: dict[str, str], log: Path, cwd: Path | None = None) -> None:
        self._command, self._environ, self.log, self._cwd = list(command), environ, log, cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> list[int]:
        """All processes of it, the program itself first."""
        return family(self._process.pid) if self._process is not None else []

    def titles(self) -> list[str]:
        """What its processes call themselves."""
        return [title(pid) for pid in self.pids]

    @property
    def exit_code(self) -> int | None:
        """None while it runs, or where it was never started."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environ, cwd=self._cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """As a power cut would: all of it at once, without a word."""
        pids = self.pids
        send(pids, signal.SIGSTOP)  # so that nobody sees the others go and does something about it
        pids = [*dict.fromkeys([*pids, *self.pids])]
        send(pids, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()


def wait_until(ready: Callable[[], bool], program: Program, what: str, patience: float = START_PATIENCE) -> None:
    """Raises RuntimeError, with the end of its output, where a program ends or takes too long before it is ready."""
    until = time.monotonic() + patience
    while not ready():
        if not program.running or time.monotonic() > until:
            end = program.log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{what} did not start:\n{end}")
        time.sleep(0.1)


class Cluster:
    """A head without CPUs for work, and nodes with some CPUs each, as far as Ray is told."""

    def __init__(self, folder: Path, nodes: int, cpus: int = 1, drivers: int = 0) -> None:
        """`folder` must have a short path: sockets are made below it. `drivers`: how many jobs its job server runs at a time;
        it has none for 0."""
        token = folder / "ray_token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.environ = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_JOB_START_TIMEOUT_SECONDS": "31536000",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self.address = f"127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        dashboard = free_port()
        self.job_server = f"http://127.0.0.1:{dashboard}"
        head = [*("--head", f"--port={port}", "--num-cpus=0", f"--temp-dir={folder}", f"--dashboard-port={dashboard}")]
        head += [f"--system-config={json.dumps(_HEALTH)}", f"--ray-client-server-port={free_port()}"]
        head += [f"--include-dashboard={str(drivers > 0).lower()}"]
        head += [f'--resources={{"lowdim_bench_driver": {drivers}}}'] if drivers else []
        self.head = self._program(head, folder / "head.log")
        self.nodes = [
            self._program([f"--address={self.address}", f"--num-cpus={cpus}"], folder / f"node{n}.log")
            for n in range(nodes)
        ]

    def _program(self, options: Sequence[str], log: Path) -> Program:
        ports = ["--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={free_port()}"]
        memory = f"--object-store-memory={100 * 2**20}"
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", memory, *ports, *options]
        return Program(command, os.environ | self.environ, log)

    def start(self) -> None:
        self.head.start()
        host, _, port = self.address.partition(":")
        wait_until(lambda: _listens(host, int(port)), self.head, "The head of the Ray cluster")
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            _wait_for_node(node)

    def workers(self) -> list[int]:
        """Processes that train, or are about to."""
        return [pid for node in self.nodes for pid in node.pids if title(pid).startswith("ray::Worker")]

    def kill(self) -> None:
        for program in (*self.nodes, self.head):
            program.kill()


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


def _wait_for_node(node: Program) -> None:
    """Until it runs; one that found the head too busy to be let in tries again."""
    until = time.monotonic() + 2 * START_PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(RuntimeError):
            return wait_until(lambda: _has_raylet(node), node, "A node of the Ray cluster")
        if not node.running:
            node.start()
    raise RuntimeError("A node of the Ray cluster did not start, however often it was tried")


def _has_raylet(node: Program) -> bool:
    return any("/raylet " in one for one in node.titles())


class TrackingServer:
    """An MLflow server; its database and files outlive it."""

    def __init__(self, folder: Path, backend: str | None = None) -> None:
        """`backend`: the URI of its database; a SQLite file in `folder` where None."""
        self.files = folder / "files"
        self.port = free_port()
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", backend or f"sqlite:///{folder}/server.db"]
        command += ["--artifacts-destination", str(self.files)]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.program = Program(command, os.environ | quiet, folder / "server.log", folder)

    def start(self, *, wait: bool = True) -> None:
        self.program.start()
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it answers."""
        wait_until(self._answers, self.program, "The MLflow server")

    def _answers(self) -> bool:
        with contextlib.suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2):
            return True
        return False


class Network:
    """Carries connections to a port of this machine, and can be cut: then it swallows whatever is sent, and answers nothing."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._cut = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Within, nothing gets through. What was connected meanwhile is lost afterwards."""
        self._cut.set()
        try:
            yield
        finally:
            with self._lock:
                for one in self._open:
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)
                self._cut.clear()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target), 5)
        except OSError:
            client.close()  # as a port on which nobody listens
            return
        server.settimeout(None)
        with self._lock:
            self._open |= {client, server}
        back = threading.Thread(target=self._carry, args=(server, client), daemon=True)
        back.start()
        self._carry(client, server)
        back.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self._cut.is_set():
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
