"""CPU seconds of a command with all the processes that it starts, daemons that outlive it included. Linux only.

`run_counted` runs the command under this module as a process of its own, which makes itself the foster parent of every orphan
among the command's descendants (PR_SET_CHILD_SUBREAPER), so that the kernel adds them up as they end. What the kernel does not
add up are children of a process that ignores SIGCHLD, as Ray's raylet does with its workers: these are sampled from /proc ten
times a second, and their last reading counts, which misses at most a tenth of a second of each.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE_SECONDS = 0.1
_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """What a command used."""

    exit_code: int
    output: str
    """Its standard output."""
    wall_seconds: float
    """Until the command itself ended."""
    cpu_seconds: float
    """User and system time of all processes."""
    by_process: Mapping[str, float]
    """CPU seconds by name of the program as sampled; coarser than the sum."""
    killed: bool
    """Whether processes stayed behind and had to be ended."""


def run_counted(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    patience: float = 30.0,
) -> Usage:
    """Run a command to the end of its last descendant; what is left `patience` seconds after its own end is killed.

    Its standard error goes where ours goes. Raises RuntimeError where the counting itself failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "usage.json"
        counter = [sys.executable, str(Path(__file__).resolve()), str(report), str(patience), *command]
        done = subprocess.run(
            counter,
            cwd=cwd,
            env=None if environ is None else dict(environ),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if not report.exists():
            raise RuntimeError(f"counting CPU time of {' '.join(command)} ended with exit code {done.returncode}")
        return Usage(output=done.stdout, **json.loads(report.read_text()))


@dataclass
class _Process:
    """A descendant as it was last seen in /proc."""

    name: str
    cpu_seconds: float
    collected: bool
    """Whether its parent takes its CPU time over when it ends."""


def _main(report: Path, patience: float, command: Sequence[str]) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    main = os.posix_spawnp(command[0], list(command), os.environ)
    seen: dict[tuple[int, str], _Process] = {}
    reaped: set[int] = set()
    total, code, ended, killed = 0.0, -1, None, False
    while True:
        _sample(seen)
        pid, status, used = _reap()
        if pid is None:
            break
        if pid:
            total += used
            reaped.add(pid)
            if pid == main:
                code, ended = os.waitstatus_to_exitcode(status), time.monotonic()
            continue
        if ended is not None and time.monotonic() - ended > patience:
            killed = True
            for left in _descendants():
                os.kill(left, signal.SIGKILL)
        time.sleep(_SAMPLE_SECONDS)
    total += sum(one.cpu_seconds for (pid, _), one in seen.items() if not one.collected and pid not in reaped)
    names = sorted({one.name for one in seen.values()})
    by_process = {name: sum(one.cpu_seconds for one in seen.values() if one.name == name) for name in names}
    assert ended is not None
    usage = asdict(Usage(code, "", ended - began, total, by_process, killed))
    del usage["output"]
    report.write_text(json.dumps(usage))


def _reap() -> tuple[int | None, int, float]:
    """(pid, status, CPU seconds) of a child that has ended, with what it collected; pid 0: none yet, None: none is left."""
    try:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
    except ChildProcessError:
        return None, 0, 0.0
    return pid, status, usage.ru_utime + usage.ru_stime


def _stats() -> dict[int, list[str]]:
    """The fields of /proc/PID/stat after the name, of all processes: state, parent, ..."""
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - ten times a second
        if entry.isdigit():
            try:
                text = Path("/proc", entry, "stat").read_text(errors="replace")
            except OSError:  # it has ended meanwhile
                continue
            found[int(entry)] = text.rpartition(")")[2].split()
    return found


def _descendants(stats: Mapping[int, list[str]] | None = None) -> list[int]:
    stats = _stats() if stats is None else stats
    family = {os.getpid()}
    grown = True
    while grown:
        more = {pid for pid, fields in stats.items() if int(fields[1]) in family} - family
        family |= more
        grown = bool(more)
    return sorted(family - {os.getpid()})


def _sample(seen: dict[tuple[int, str], _Process]) -> None:
    stats = _stats()
    for pid in _descendants(stats):
        fields = stats[pid]
        key = (pid, fields[19])  # with its start time, since process numbers come again
        seconds = (int(fields[11]) + int(fields[12])) * _TICK
        parent = int(fields[1])
        name = _name(pid) or (seen[key].name if key in seen else "?")
        seen[key] = _Process(name, seconds, collected=parent == os.getpid() or not _ignores_its_children(parent))


def _name(pid: int) -> str:
    """The program, and for an interpreter what it runs."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    programs = [Path(word).name for word in words if word and not word.startswith("-")]
    named = programs[0] if programs else ""
    return " ".join(programs[:2]) if named.startswith("python") else named


def _ignores_its_children(pid: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    mask = next((int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:")), 0)
    return bool(mask >> (signal.SIGCHLD - 1) & 1)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
