"""ReLU followed by the mean over 2 x 2 pixels, forward and back, in one pass each; images have their channels last."""

from __future__ import annotations

import numpy as np

from lowdim_bench.kernels.compiling import compiled


@compiled
def relu_pool(values: np.ndarray, pooled: np.ndarray) -> None:
    """pooled (B, H // 2, W // 2, C) from values (B, H, W, C): means of the positive parts of 2 x 2 pixels."""
    for image in range(pooled.shape[0]):
        for y in range(pooled.shape[1]):
            for x in range(pooled.shape[2]):
                one, two = values[image, 2 * y, 2 * x], values[image, 2 * y, 2 * x + 1]
                three, four = values[image, 2 * y + 1, 2 * x], values[image, 2 * y + 1, 2 * x + 1]
                out = pooled[image, y, x]
                for c in range(len(out)):
                    a = np.float32(0) if one[c] < 0 else one[c]  # NaN stays NaN
                    b = np.float32(0) if two[c] < 0 else two[c]
                    d = np.float32(0) if three[c] < 0 else three[c]
                    e = np.float32(0) if four[c] < 0 else four[c]
                    out[c] = ((a + b) + (d + e)) * np.float32(0.25)


@compiled
def relu_pool_backward(above: np.ndarray, values: np.ndarray, wrong: np.ndarray) -> None:
    """The gradient `wrong` (B, H, W, C) at values (B, H, W, C), from the one above (B, H // 2, W // 2, C) at their pooling.

    Pixels that no pooling window covers, in the last row or column of an odd size, get zero.
    """
    if 2 * above.shape[1] < values.shape[1] or 2 * above.shape[2] < values.shape[2]:
        wrong[:] = 0
    quarter, nothing = np.float32(0.25), np.float32(0)
    for image in range(above.shape[0]):
        for y in range(2 * above.shape[1]):
            for x in range(2 * above.shape[2]):
                out, pixel, source = wrong[image, y, x], values[image, y, x], above[image, y // 2, x // 2]
                for c in range(len(out)):
                    share = source[c] * quarter  # computed whether wanted or not, which lets the loop be vectorized
                    out[c] = share if pixel[c] > nothing else nothing
