"""How the kernels are compiled: in one place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config

from lowdim_bench.errors import UserError

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

OPTIONS = {"nogil": True, "error_model": "numpy"}


def compiled(function: Kernel) -> Kernel:
    """Compile a kernel when it is first called, and keep the result on disk for the next process, until any kernel changes.

    Floating-point rules stay those of IEEE 754: sums keep their order, so that results repeat, and NaN stays NaN.
    (`tiles` alone lets a product and a sum be rounded once, where the processor can.)
    Raises `UserError` where Numba is told not to compile.
    """
    if config.DISABLE_JIT:  # pyright: ignore[reportAttributeAccessIssue]
        raise UserError("NUMBA_DISABLE_JIT is set, but the kernels exist only compiled. Unset it.")
    try:
        kernel: Any = numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # there is nowhere to write: each process compiles it anew
        kernel = numba.njit(**OPTIONS)(function)
    else:
        # Numba asks for the time of the kernel's own file only, and so would go on with what was compiled with other options,
        # or from other files that the kernel calls. It has no public way to say more.
        index = kernel._cache._cache_file  # noqa: SLF001
        index._source_stamp = (index._source_stamp, stamp(Path(__file__).parent))  # noqa: SLF001
    return kernel


def stamp(folder: Path) -> str:
    """What compiled code depends on: the options and all files of a folder of kernels."""
    digest = hashlib.sha256(repr(sorted(OPTIONS.items())).encode())
    for file in sorted(folder.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
