"""How the kernels are compiled: in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """Compile a kernel when it is first called, and keep the result on disk for the next process.

    What is kept is looked up by the kernel's own file alone: so a kernel calls none of another file (a test sees to it), and
    after a change here what is kept has to go (`make clean`).

    Floating-point rules stay those of IEEE 754: sums keep their order, so that results repeat, and NaN stays NaN.
    """
    try:
        return cast(Kernel, numba.njit(nogil=True, error_model="numpy", cache=True)(function))
    except RuntimeError:  # there is nowhere to write: each process compiles it anew
        return cast(Kernel, numba.njit(nogil=True, error_model="numpy")(function))
