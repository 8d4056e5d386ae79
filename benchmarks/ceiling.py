"""The machine's matrix-product rate, under which every loop works, and the work in a step, to tell the share of it reached."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.linalg import get_blas_funcs
from threadpoolctl import threadpool_info

from lowdim_bench.problems import Block


def matrix_product_gflops(size: int = 1024, repeats: int = 5) -> float:
    """Float32 matrix products of this process on one thread, 1e9 operations a CPU second: the best of a few, by torch's library
    or by SciPy's, which the compiled kernels call. Which of the two is faster depends on the processor."""
    one, two = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    columns = {"a": one.numpy().T, "b": two.numpy().T, "c": out.numpy().T, "overwrite_c": True}
    gemm: Any = get_blas_funcs("gemm", dtype=np.float32)
    products = lambda: torch.mm(one, two, out=out), lambda: gemm(1.0, **columns)
    best = float("inf")
    for _ in range(repeats):
        for product in products:
            began = time.process_time()
            product()
            best = min(best, time.process_time() - began)
    return 2 * size**3 / best / 1e9


def blas_kernels() -> str:
    """The processor that SciPy's OpenBLAS takes this one for: its kernels for older ones are up to twice as slow."""
    found = {library["architecture"] for library in threadpool_info() if library.get("internal_api") == "openblas"}
    return ", ".join(sorted(found)) or "another library"


def network_flop(blocks: Sequence[Block], image: Sequence[int], batch_size: int) -> int:
    """Floating-point operations of one step's matrix products and convolutions, for an MLP or a plain convolutional net.

    A dense layer takes 2 B in out forward, as much for the gradient of its weights, and as much for that of its input, which
    the first layer does not need; a convolution likewise at every pixel. Projection, activations, pooling and optimizer are not
    counted: they are what keeps a loop from the ceiling. `image` is (channels, height, width) or (features,).
    """
    total = 0
    height, width = (image[1], image[2]) if len(image) == 3 else (1, 1)
    weights = [block for block in blocks if block.role == "weight"]
    for index, block in enumerate(weights):
        elements = block.stop - block.start
        if len(block.shape) == 4:
            elements *= height * width
            height, width = height // 2, width // 2
        total += 2 * batch_size * elements * (3 if index else 2)
    return total
