"""How many trials a worker trains at once: as many as fit, by what earlier ones took on this worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lowdim_bench.records import Trial

FIRST = 8
"""Trials of a sweep's first, unmeasured pack on a worker."""
SHARE = 0.7
"""Of the memory that is free, how much a pack may take; what it took before does not bound what it takes next."""

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def fitting(taken: float | None, free: float | None) -> int:
    """How many trials to train at once, where each was measured to take so many bytes and so many are free; None where that is
    not known."""
    return FIRST if taken is None or free is None else max(1, int(SHARE * free / taken))


class PackMemory:
    """Measures packs and cuts the next ones to size. Knows nothing of a sweep before its first pack.

    `neighbours`: how many workers may share this machine's memory; on a GPU, Ray's fractions say it instead.
    """

    def __init__(self, device: str, neighbours: int) -> None:
        self._cuda = device != "cpu"
        self._neighbours = max(1, min(neighbours, os.cpu_count() or 1))
        self._bytes: dict[object, float] = {}

    def slices(self, key: object, trials: Sequence[Trial], beside: float = 0.0) -> Iterator[Sequence[Trial]]:
        """The trials in packs that should fit; each size is decided when the pack before it has been measured.

        `beside`: bytes that each trial may take of this machine's memory in a process of its own. A pack has no more such
        trials than all of them may take at once, but at least one.
        """
        start = 0
        while start < len(trials):
            stop = start + min(self._fitting(key), self._beside(beside))
            yield trials[start:stop]
            start = stop

    @contextmanager
    def measured(self, key: object, count: int) -> Iterator[None]:
        """Run a pack of `count` trials inside: what they take at the most is remembered."""
        before, peak = self._watch()
        yield
        if (taken := peak() - before) > 0:
            self._bytes[key] = max(self._bytes.get(key, 0.0), taken / count)

    def _fitting(self, key: object) -> int:
        return fitting(self._bytes.get(key), self._free() if key in self._bytes else None)

    def _beside(self, each: float) -> int:
        """How many processes of so many bytes each fit beside this one."""
        free = self._free_on_host() if each else None
        return sys.maxsize if free is None else max(1, int(free / each))

    def _watch(self) -> tuple[float, Callable[[], float]]:
        """Bytes in use now, and a function that tells the most that were in use since; zeros where none can be told."""
        if self._cuda:
            cuda = _cuda()
            cuda.reset_peak_memory_stats()
            return cuda.memory_allocated(), cuda.max_memory_allocated
        try:
            _CLEAR.write_text("5")  # resets the high-water mark
            return _kilobytes(_STATUS, "VmRSS"), lambda: _kilobytes(_STATUS, "VmHWM")
        except (OSError, ValueError):
            return 0.0, lambda: 0.0

    def _free(self) -> float | None:
        """Bytes that this worker may use beside what it holds, or None where that cannot be told."""
        if self._cuda:
            cuda = _cuda()
            unused_in_cache = cuda.memory_reserved() - cuda.memory_allocated()
            return float(cuda.mem_get_info()[0] + unused_in_cache)
        return self._free_on_host()

    def _free_on_host(self) -> float | None:
        """This worker's share of what the machine, or the container, has free; None where that cannot be told."""
        try:
            return min(_kilobytes(_MEMINFO, "MemAvailable"), _group_headroom()) / self._neighbours
        except (OSError, ValueError):
            return None


def _cuda() -> Any:
    import torch

    return torch.cuda


def _kilobytes(file: Path, name: str) -> float:
    """Bytes of one line of a file of /proc, such as 'VmRSS:  1234 kB'. Raises ValueError where it is not there."""
    for line in file.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024.0 * float(line.split()[1])
    raise ValueError(f"{file} has no {name}")


def _group_headroom() -> float:
    """What a container's limit leaves (control groups, version 2) with file pages that can go; infinite without one."""
    try:
        limit = (_GROUP / "memory.max").read_text().strip()
        used = float((_GROUP / "memory.current").read_text())
        lines = (_GROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return float("inf")
    droppable = sum(float(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return float("inf") if limit == "max" else max(0.0, float(limit) - used + droppable)
