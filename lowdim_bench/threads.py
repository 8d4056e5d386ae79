"""One thread for a process: networks of these sizes run fastest so, with a process for each core."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits


def use_one_thread() -> None:
    """From now on, torch and the linear algebra behind NumPy, SciPy and the compiled kernels use one thread here."""
    import scipy.linalg.cython_blas  # noqa: F401 - the library that the kernels call has to be loaded to be limited

    torch.set_num_threads(1)
    threadpool_limits(limits=1)
