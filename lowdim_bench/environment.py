"""Where a loss was computed, as far as its last bits depend on it, and how closely two computations of it must agree."""

from __future__ import annotations

import math
import os
import platform
import re
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch
from threadpoolctl import threadpool_info

from lowdim_bench import __version__
from lowdim_bench.specs import Spec

_CHOOSES_KERNELS = re.compile(r"(OPENBLAS|MKL|ONEDNN|DNNL|BLIS|ATEN)_(?!.*(NUM_THREADS|VERBOSE)).*")


class Environment(Spec):
    """What the last bits of a loss depend on."""

    lowdim_bench: str
    torch: str
    numpy: str
    numba: str
    python: str
    device: str
    """"cpu", or the name of the GPU."""
    cpu: str
    blas: str


@lru_cache
def environment(device: torch.device) -> Environment:
    """The environment of this process, for computations on a device."""
    return Environment(
        lowdim_bench=__version__,
        torch=torch.__version__,
        numpy=version("numpy"),
        numba=version("numba"),
        python=platform.python_version(),
        device="cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
        cpu=f"{_cpu_model()} ({torch.backends.cpu.get_cpu_capability()})",
        blas=_blas(),
    )


def _blas() -> str:
    """torch's library, the processor that NumPy's and SciPy's takes this one for, and what was set to have them choose
    otherwise: other kernels add up in another order."""
    import_module("scipy.linalg.cython_blas")  # as the compiled kernels do: in every process it is one of the libraries
    of_torch = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    others = {f"{one['internal_api']} {one['architecture']}" for one in threadpool_info() if "architecture" in one}
    chosen = {f"{name}={value}" for name, value in os.environ.items() if _CHOOSES_KERNELS.fullmatch(name)}
    return ", ".join([of_torch[1] if of_torch else "unknown", *sorted(others), *sorted(chosen)])


def _cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def is_exact(made: Environment, here: Environment) -> bool:
    """Whether losses computed in two environments must agree to the last bit."""
    return made == here and here.device == "cpu"


TOLERANCE = 1e-3
"""Relative difference of losses, and absolute one of accuracies, that another processor, GPU or version may make."""


def agree(claimed: float | None, found: float | None, *, exact: bool) -> bool:
    """Whether a recomputed value is the claimed one: to the bit, or within `TOLERANCE`."""
    if claimed is None or found is None or exact:
        return claimed == found
    return math.isclose(claimed, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE * 1e-3)
