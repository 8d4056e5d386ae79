"""Maps whose rows have a few entries of one size: a coordinate reads from, and adds to, a few entries of a small table.

`code` (P, entries, D) uint32 is 2 * column + (sign < 0), or 2K for no entry. With the numbers of theta and their negatives side
by side in the table, an entry is one load, or one addition in the transposed map: nothing is multiplied with a sign. Codes
must lie in 0..2K, which is the caller's to check: nothing is checked here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowdim_bench.kernels.compiling import compiled

Floats = NDArray[np.float32]
Codes = NDArray[np.uint32]
"""Unsigned, for a signed index might count from the end, and finding out takes as long as the rest."""


@compiled
def forward(theta: Floats, scale: Floats, code: Codes, offset: Floats | None, out: Floats) -> None:
    """out = offset + A theta: theta and scale (P, K), offset and out (P, D)."""
    count, entries, full_dimension = code.shape
    table = np.zeros(2 * theta.shape[1] + 1, np.float32)
    for row in range(count):
        for j in range(theta.shape[1]):
            table[2 * j] = theta[row, j] * scale[row, j]
            table[2 * j + 1] = -table[2 * j]
        to, start = out[row], 0
        if entries == 4:  # all at once: four passes over the result would take twice the time
            one, two, three, four = code[row, 0], code[row, 1], code[row, 2], code[row, 3]
            for i in range(full_dimension):
                to[i] = (table[one[i]] + table[two[i]]) + (table[three[i]] + table[four[i]])
            start = 4
        else:
            to[:] = 0
        for entry in range(start, entries):
            places = code[row, entry]
            for i in range(full_dimension):
                to[i] += table[places[i]]
        if offset is not None:
            fixed = offset[row]
            for i in range(full_dimension):
                to[i] += fixed[i]


@compiled
def adjoint(weights: Floats, scale: Floats, code: Codes, out: Floats) -> None:
    """out = A' weights: weights (P, D), scale and out (P, K)."""
    count, entries, full_dimension = code.shape
    sums = np.empty(2 * out.shape[1] + 1, np.float32)
    for row in range(count):
        sums[:] = 0
        source, start = weights[row], 0
        if entries == 4:
            one, two, three, four = code[row, 0], code[row, 1], code[row, 2], code[row, 3]
            for i in range(full_dimension):
                value = source[i]
                sums[one[i]] += value
                sums[two[i]] += value
                sums[three[i]] += value
                sums[four[i]] += value
            start = 4
        for entry in range(start, entries):
            places = code[row, entry]
            for i in range(full_dimension):
                sums[places[i]] += source[i]
        for j in range(out.shape[1]):
            out[row, j] = (sums[2 * j] - sums[2 * j + 1]) * scale[row, j]
