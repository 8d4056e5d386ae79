"""Optimizer steps for a pack, one pass over its state: theta (P, K) against gradients (P, K) at rates (P, 1)."""

from __future__ import annotations

import numpy as np

from lowdim_bench.kernels.compiling import compiled


@compiled
def adam(
    theta: np.ndarray,
    gradient: np.ndarray,
    rate: np.ndarray,
    mean: np.ndarray,
    square: np.ndarray,
    step: int,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> None:
    """Step number `step` (from 1) of Kingma & Ba 2015, algorithm 1; mean and square (P, K) are its moments, updated too."""
    keep1, take1 = np.float32(beta1), np.float32(1 - beta1)
    keep2, take2 = np.float32(beta2), np.float32(1 - beta2)
    correct2, floor = np.float32(1 / (1 - beta2**step)), np.float32(epsilon)
    for row in range(len(theta)):
        scale = rate[row, 0] * np.float32(1 / (1 - beta1**step))
        weights, slopes, first, second = theta[row], gradient[row], mean[row], square[row]
        for i in range(len(weights)):
            slope = slopes[i]
            first[i] = keep1 * first[i] + take1 * slope
            second[i] = keep2 * second[i] + take2 * slope * slope
            weights[i] -= scale * first[i] / (np.sqrt(second[i] * correct2) + floor)
