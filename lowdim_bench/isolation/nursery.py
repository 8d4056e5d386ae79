"""The nursery: a process that has imported torch and this package, holds no secret, and forks a process for each trial.

Forking takes tens of milliseconds where starting Python with torch takes seconds. It runs trusted code only: its children fence
themselves in before they get to see a submission. It watches what they take, and nothing of theirs outlives them.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lowdim_bench.isolation import fences, kernel
from lowdim_bench.isolation.limits import ENDED_BY_HARNESS, Limits
from lowdim_bench.isolation.watching import Census, Process, processes

LOOK_EVERY = 0.025
_LONGEST_ORDER = 2**16


@dataclass
class _Child:
    """One trial's process."""

    pid: int
    control: socket.socket
    limits: Limits
    scratch: Path | None
    """A folder to be removed with it, where its files do not lie in memory of its own."""
    census: Census
    reason: str = ""
    """Why the nursery ended it; empty where it did not."""


class Nursery:
    """Takes orders on a socket until the other end is closed: a JSON text with two descriptors, the connection on which a new
    child speaks and the one on which the nursery reports its end. Shutting down the latter asks for the child's end."""

    def __init__(self, orders: socket.socket, root: Path, *, in_namespaces: bool) -> None:
        self._orders, self._root, self._in_namespaces = orders, root, in_namespaces
        self._own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if in_namespaces else -1
        if not in_namespaces:
            root.chmod(0o711)  # whoever its children become has to get to their own folders below it
        self._children: dict[int, _Child] = {}
        self._strays = False
        """Whether processes without a child may be there; with namespaces there are none."""
        self._started = 0
        self._selector = selectors.DefaultSelector()
        self._selector.register(orders, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve until the harness is gone; then end all that is left."""
        while True:
            for key, _ in self._selector.select(LOOK_EVERY if self._children or self._strays else None):
                if key.fileobj is self._orders:
                    if not self._obey():
                        self._close()
                        return
                elif key.data in self._children:
                    self._end(self._children[key.data], ENDED_BY_HARNESS)
            if self._children or self._strays:
                self._look(processes())

    def _obey(self) -> bool:
        """Carry out the next order. False: there will be no more."""
        try:
            text, descriptors, _, _ = socket.recv_fds(self._orders, _LONGEST_ORDER, 2)
        except OSError:
            return False
        if not text:
            return False
        connection, control = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        try:
            self._start(connection, control, json.loads(text))
        except OSError as error:  # no process or memory left: the trial fails, and says why
            _report(control, {"reason": f"no process could be started: {error}"})
        connection.close()
        return True

    def _start(self, connection: socket.socket, control: socket.socket, order: Mapping[str, Any]) -> None:
        limits = Limits(**order["limits"])
        self._started += 1
        scratch = self._root if self._in_namespaces else self._root / str(self._started)
        if not self._in_namespaces:
            scratch.mkdir(mode=0o700)
        pid = self._fork()
        if pid == 0:
            _become_child(connection, scratch, order["readable"], limits, in_namespaces=self._in_namespaces)
        own = None if self._in_namespaces else scratch
        self._children[pid] = _Child(pid, control, limits, own, Census(pid))
        self._selector.register(control, selectors.EVENT_READ, pid)

    def _fork(self) -> int:
        if not self._in_namespaces:
            return os.fork()
        kernel.unshare(kernel.CLONE_NEWPID)  # of the next child, which takes all its descendants with it when it ends
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                kernel.set_namespace(self._own_namespace, kernel.CLONE_NEWPID)
        return pid

    def _look(self, table: Mapping[int, Process]) -> None:
        """Bury who has ended, and end who takes too much."""
        before = len(self._children)
        for child in list(self._children.values()):
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                self._bury(child, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)
                continue
            child.census.take(table)
            if child.census.count > child.limits.processes:
                self._end(child, f"it had more than {child.limits.processes} processes and threads at once")
            elif child.census.bytes > child.limits.memory:
                self._end(child, f"it took more than {child.limits.memory / 2**30:.3g} GB of memory")
        if not self._in_namespaces:
            ended = self._end_orphans(table)
            # What a child began just before it ended is nobody's orphan in this table yet: look until there is none.
            self._strays = ended or len(self._children) < before

    def _end(self, child: _Child, reason: str) -> None:
        child.reason = child.reason or reason
        if child.control in (key.fileobj for key in self._selector.get_map().values()):
            self._selector.unregister(child.control)
        for pid in (child.pid, *(() if self._in_namespaces else child.census.descendants)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _bury(self, child: _Child, status: int, cpu_seconds: float) -> None:
        if not child.reason:
            self._end(child, "")  # what it leaves behind
        del self._children[child.pid]
        if child.scratch is not None:
            shutil.rmtree(child.scratch, ignore_errors=True)
        report = {
            "reason": child.reason,
            "status": status,
            "cpu_seconds": max(cpu_seconds + child.census.cpu_seconds_of_others, child.census.cpu_seconds_seen),
            "peak_bytes": child.census.peak,
        }
        _report(child.control, report)

    def _end_orphans(self, table: Mapping[int, Process]) -> bool:
        """Whose parent has ended became the nursery's own child: it belongs to no trial, so it ends. Says whether one was."""
        found = False
        for pid, process in table.items():
            if process.parent == os.getpid() and pid not in self._children:
                found = True
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
        return found

    def _close(self) -> None:
        for child in list(self._children.values()):
            self._end(child, ENDED_BY_HARNESS)
            _, status, usage = os.wait4(child.pid, 0)
            self._bury(child, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)
        while not self._in_namespaces and self._end_orphans(processes()):
            pass
        if self._root != fences.MOUNT_POINT:
            shutil.rmtree(self._root, ignore_errors=True)


def _report(control: socket.socket, report: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody waits for it any more
        control.sendall(json.dumps(report).encode())
    control.close()


def _become_child(
    connection: socket.socket, scratch: Path, readable: Sequence[str], limits: Limits, *, in_namespaces: bool
) -> NoReturn:
    """In the new process: fence it in, then serve the one trial. Whatever happens, it ends here."""
    try:
        if not in_namespaces:
            kernel.die_with_parent(signal.SIGKILL)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os.dup2(connection.fileno(), 3, inheritable=False)
        connection.detach()
        os.closerange(4, 2**16)
        held = fences.put_up(scratch, readable, limits, in_namespaces=in_namespaces)
        from lowdim_bench.isolation import child

        child.serve(socket.socket(fileno=3), held)
    finally:
        os._exit(0)


def _preload() -> None:
    """Import, and where need be compile, what children would otherwise have to, each for itself."""
    import gc

    import torch

    from lowdim_bench.isolation import child
    from lowdim_bench.parametrizations import SignedHash
    from lowdim_bench.threads import use_one_thread

    use_one_thread()
    child.preload()
    operator = SignedHash.sparse_signs(2, 8, 0, torch.device("cpu"))
    packed = operator.pack([operator])
    packed.adjoint(packed.forward(torch.zeros(1, 2), torch.zeros(1, 8)))
    gc.freeze()  # so that collecting garbage in a child copies no page of what it shares with the nursery


def _scratch(*, in_namespaces: bool) -> Path:
    """Where children have folders of their own: each mounts one here, or, without namespaces, gets one below."""
    if in_namespaces and fences.MOUNT_POINT.is_dir():
        return fences.MOUNT_POINT
    return Path(tempfile.mkdtemp(prefix="lowdim-bench-"))


def main(descriptor: int) -> None:
    """Become the nursery, in namespaces of its own where this machine allows it. Ends with the harness."""
    for number in (signal.SIGINT, signal.SIGTERM):  # of a terminal's whole group: the harness decides what ends
        signal.signal(number, signal.SIG_IGN)
    in_namespaces = fences.enter_namespaces()
    if in_namespaces:
        pid = os.fork()
        if pid:
            os.close(descriptor)
            os.waitpid(pid, 0)
            os._exit(0)
        kernel.die_with_parent(signal.SIGKILL)
        fences.mount_own_proc()
    else:
        kernel.adopt_orphans()
    kernel.hide_memory()
    _preload()
    root = _scratch(in_namespaces=in_namespaces)
    Nursery(socket.socket(fileno=descriptor), root, in_namespaces=in_namespaces).run()
