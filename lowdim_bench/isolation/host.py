"""The harness's side of the processes: it starts the nursery, has it fork, and ends what it started."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from torch import Tensor

from lowdim_bench.errors import InfrastructureError, MethodFailure
from lowdim_bench.isolation import fences
from lowdim_bench.isolation.limits import ENDED_BY_HARNESS, Limits
from lowdim_bench.isolation.messages import LONGEST_HEADER, Channel, Fenced, Gone, OutOfTime, parse_request
from lowdim_bench.records import Usage
from lowdim_bench.specs import Spec

START_SECONDS = 120.0
_REPORT_SECONDS = 20.0
_LONGEST_REPORT = 2**16
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "NUMBA_CACHE_DIR", "TMPDIR")
"""All that the nursery learns of this process's environment: no tokens, addresses or keys."""


class _Report(Spec):
    """What the nursery tells of a process that has ended."""

    reason: str
    status: int = 0
    cpu_seconds: float = Field(default=0.0, ge=0)
    peak_bytes: int = 0


class _NurseryProcess:
    """The running nursery of this process."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        package = str(Path(__file__).resolve().parents[2])
        program = (
            f"import sys; sys.path.insert(0, {package!r}); "
            f"from lowdim_bench.isolation import nursery; nursery.main({theirs.fileno()})"
        )
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", program],
                env={**environment, **threads, "CUDA_VISIBLE_DEVICES": ""},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd="/",
            )
        self.owner = os.getpid()

    @property
    def pid(self) -> int:
        return self._process.pid

    def order(self, limits: Limits, readable: Sequence[str], descriptors: Sequence[int]) -> None:
        """Have it fork a child that speaks on the first descriptor; the second is for its report. Raises OSError."""
        text = json.dumps({"limits": asdict(limits), "readable": list(readable)}).encode()
        socket.send_fds(self._orders, [text], descriptors)

    def close(self) -> None:
        """End it and all its children."""
        self._orders.close()
        try:
            self._process.wait(_REPORT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the launcher, with which the kernel ends the nursery and its children
            self._process.wait()


class Host:
    """Keeps one nursery for this process, started when it is needed and anew when it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nursery: _NurseryProcess | None = None
        atexit.register(self.close)

    def start(self, limits: Limits, readable: Sequence[str]) -> Guest:
        """A process for one trial, fenced in and waiting for its opening.

        Raises `InfrastructureError` where the fences do not hold, or no process can be had.
        """
        for attempt in range(2):
            try:
                return self._try_to_start(limits, readable)
            except (OSError, Gone) as error:
                self.close()  # killed, or out of memory
                if attempt:
                    raise InfrastructureError(f"no process for submitted code could be started: {error}") from None
        raise AssertionError("not reached")

    def _try_to_start(self, limits: Limits, readable: Sequence[str]) -> Guest:
        connection, theirs = socket.socketpair()
        control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, their_control:
            try:
                with self._lock:
                    if self._nursery is None or self._nursery.owner != os.getpid():
                        self._nursery = _NurseryProcess()
                    self._nursery.order(limits, readable, [theirs.fileno(), their_control.fileno()])
            except OSError:
                connection.close()
                control.close()
                raise
        guest = Guest(connection, control, limits)
        try:
            guest.wait_for_fences()
        except BaseException:
            guest.end()
            raise
        return guest

    @property
    def nursery_pid(self) -> int | None:
        """The process that was started last and not closed."""
        return self._nursery.pid if self._nursery else None

    def close(self) -> None:
        """End the nursery; the next start starts another."""
        with self._lock:
            nursery, self._nursery = self._nursery, None
        if nursery and nursery.owner == os.getpid():
            nursery.close()


class Guest:
    """The process of one trial, as the harness sees it. Its clock runs whenever the harness waits for it."""

    def __init__(self, connection: socket.socket, control: socket.socket, limits: Limits) -> None:
        self._channel = Channel(connection, LONGEST_HEADER, limits.message)
        self._control, self.limits = control, limits
        self._seconds = 0.0
        self._report: _Report | None = None
        self._fences: tuple[str, ...] = ()

    @property
    def usage(self) -> Usage:
        """What it took up to now; CPU and memory are known once it has ended."""
        report = self._report or _Report(reason="")
        return Usage(
            seconds=self._seconds, cpu_seconds=report.cpu_seconds, peak_bytes=report.peak_bytes, fences=self._fences
        )

    def wait_for_fences(self) -> None:
        """Read which fences hold, and see that they are enough.

        Raises `InfrastructureError` where they are not, `Gone` where the process never came to be.
        """
        try:
            header, _ = self._channel.receive(time.monotonic() + START_SECONDS)
        except OutOfTime:
            raise Gone("it did not start") from None
        told = parse_request(header)
        assert isinstance(told, Fenced)  # said by trusted code: nothing else has run there
        self._fences = told.held
        if not self.limits.weak and not fences.ENOUGH & set(told.held):
            raise InfrastructureError(  # no fault of the method: another machine may offer it
                "This machine offers no Landlock (Linux 5.13 or newer), so submitted code is not run here: it could read this "
                "user's files. Run it on another, or set LOWDIM_BENCH_ISOLATION=weak where you trust its authors."
            )

    def timed(self, work: Callable[[], Any]) -> Any:
        """Do what counts as the method's own time."""
        started = time.monotonic()
        try:
            return work()
        finally:
            self._seconds += time.monotonic() - started

    def send(self, header: Spec, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Send it a message. Raises `MethodFailure`, or `InfrastructureError` where its end was not its own doing."""
        self._speak(lambda deadline: self._channel.send(header, tensors, deadline))

    def receive(self) -> tuple[Any, dict[str, Tensor]]:
        """Its next message, of a known kind. Raises as `send` does."""
        header, tensors = self._speak(self._channel.receive)
        return parse_request(header), tensors

    def _speak(self, talk: Callable[[float], Any]) -> Any:
        left = self.limits.seconds - self._seconds
        try:
            return self.timed(lambda: talk(time.monotonic() + left))
        except OutOfTime:
            raise MethodFailure(f"it took more than {self.limits.seconds:g} s of its own time") from None
        except Gone:
            self.end()
            if self._report is None:
                raise InfrastructureError("the processes for submitted code were ended from outside") from None
            raise MethodFailure(self._how_it_ended(self._report)) from None

    def _how_it_ended(self, report: _Report) -> str:
        if report.reason and report.reason != ENDED_BY_HARNESS:
            return report.reason
        if report.status == -signal.SIGXCPU:
            return f"it took more than {self.limits.seconds:g} s of CPU time"
        if report.status == -signal.SIGKILL and report.reason:
            return "it closed its connection to the harness"
        how = f"was killed by signal {-report.status}" if report.status < 0 else "ended by itself"
        return f"its process {how} before it had prepared anything"

    def end(self) -> None:
        """End it, if it has not ended, and learn what it took. Afterwards nothing of it runs any more."""
        self._channel.connection.close()
        if self._control.fileno() < 0:
            return
        try:
            self._control.settimeout(_REPORT_SECONDS)
            self._control.shutdown(socket.SHUT_WR)
            text = self._control.recv(_LONGEST_REPORT)
            self._report = _Report.model_validate_json(text) if text else None
        except (OSError, ValidationError):
            self._report = None  # the nursery has died, and its children with it
        finally:
            self._control.close()


HOST = Host()
"""Of this process."""
