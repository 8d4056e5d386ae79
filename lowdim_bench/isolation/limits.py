"""What a submission's process may take: its own time, memory, processes, and how strictly it must be fenced in."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from lowdim_bench.errors import UserError
from lowdim_bench.settings import PREFIX

MEBIBYTE = 2**20
GIBIBYTE = 2**30
WEAK, STRICT = "weak", "strict"
ENDED_BY_HARNESS = "the harness ended it"


@dataclass(frozen=True)
class Limits:
    """Never part of a digest: within them nothing changes, and beyond them a trial fails and says so."""

    seconds: float = 600.0
    """Of a trial's own time, from the start of its process on: what it waits for the harness does not count."""
    memory: int = 4 * GIBIBYTE
    """Bytes, of all its processes together."""
    processes: int = 64
    """Processes and threads that it may have at once."""
    scratch: int = 256 * MEBIBYTE
    """Bytes that it may write into the folder of its own, which lies in memory and ends with it."""
    message: int = GIBIBYTE
    """Bytes of tensors in one message from it, and of a basis that it has the harness draw."""
    weak: bool = False
    """Whether submitted code is run even where this machine allows neither namespaces nor Landlock."""

    @classmethod
    def resolve(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """From LOWDIM_BENCH_METHOD_SECONDS, _METHOD_GIGABYTES, _METHOD_PROCESSES and LOWDIM_BENCH_ISOLATION, or defaults.

        Raises `UserError`.
        """
        default = cls()
        mode = environ.get(PREFIX + "ISOLATION") or STRICT
        if mode not in {WEAK, STRICT}:
            raise UserError(f"{PREFIX}ISOLATION is '{mode}'; give {STRICT} or {WEAK}.")
        return cls(
            seconds=_positive(environ, "METHOD_SECONDS", default.seconds),
            memory=int(_positive(environ, "METHOD_GIGABYTES", default.memory / GIBIBYTE) * GIBIBYTE),
            processes=math.ceil(_positive(environ, "METHOD_PROCESSES", default.processes)),
            weak=mode == WEAK,
        )


def _positive(environ: Mapping[str, str], name: str, default: float) -> float:
    given = environ.get(PREFIX + name)
    if not given:
        return default
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise UserError(f"{PREFIX}{name} is '{given}'; give a number above 0.")
    return value
