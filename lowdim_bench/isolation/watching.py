"""What a process and its descendants take, read from /proc by who watches them from outside."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One line of the process table."""

    parent: int
    threads: int
    cpu_seconds: float


def processes() -> dict[int, Process]:
    """All processes that /proc shows, by their number."""
    table: dict[int, Process] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - forty times a second, and plain strings cost a tenth of paths
        if entry.isdecimal() and (text := _read(f"/proc/{entry}/stat")):
            # The name in parentheses may hold anything, parentheses too.
            fields = text.rpartition(")")[2].split()
            table[int(entry)] = Process(int(fields[1]), int(fields[17]), (int(fields[11]) + int(fields[12])) / _TICKS)
    return table


def own_memory(pid: int) -> int:
    """Bytes of memory that a process holds and that no file backs; 0 where it has ended."""
    fields = dict(line.split(":", 1) for line in _read(f"/proc/{pid}/status").splitlines() if ":" in line)
    return 1024 * sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem", "VmSwap") if name in fields)


def _read(path: str) -> str:
    """Empty where the process has ended meanwhile."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
            return file.read()
    except OSError:
        return ""


class Census:
    """Counts of a process that was forked from this one, and of all its descendants, at the last look."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._inherited = own_memory(os.getpid())
        self.count = 0
        """Processes and threads."""
        self.bytes = 0
        """What they hold beyond what the first one was born with. What that one forks counts in full."""
        self.peak = 0
        self.cpu_seconds_of_others = 0.0
        """CPU time of the descendants: those that nobody waited for are in no other account."""
        self.cpu_seconds_seen = 0.0
        """CPU time of all that ever belonged to it, as last seen: who is reaped by nobody is in no other account."""
        self.descendants: tuple[int, ...] = ()
        self._last: dict[int, float] = {}

    def take(self, table: Mapping[int, Process]) -> None:
        """Look again."""
        children: dict[int, list[int]] = {}
        for pid, process in table.items():
            children.setdefault(process.parent, []).append(pid)
        family = [self._pid] if self._pid in table else []
        for member in family:  # grows while it is walked
            family += children.get(member, ())
        self.descendants = tuple(family[1:])
        self.count = sum(table[pid].threads for pid in family)
        held = max(0, own_memory(self._pid) - self._inherited) if family else 0
        self.bytes = held + sum(own_memory(pid) for pid in self.descendants)
        self.peak = max(self.peak, self.bytes)
        self.cpu_seconds_of_others = sum(table[pid].cpu_seconds for pid in self.descendants)
        self._last |= {pid: table[pid].cpu_seconds for pid in family}
        self.cpu_seconds_seen = sum(self._last.values())
