"""Softmax and cross-entropy of rows of logits, with an exponential that compilers can vectorize."""

from __future__ import annotations

import numpy as np

from lowdim_bench.kernels.compiling import compiled

_LOG2_E = np.float32(1.44269504088896341)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)


@compiled
def exponentials(values: np.ndarray, powers: np.ndarray) -> None:
    """values (n,) float32, at most 0, become exp(values), to 2e-7 relative; `powers` (n,) int32 is scratch.

    exp(x) = 2^n * exp(r) with x = n ln 2 + r, |r| <= ln 2 / 2: the two-part ln 2 and the polynomial of Cephes' expf.
    """
    for i in range(len(values)):
        x = max(np.float32(-87.0), values[i])
        n = np.floor(x * _LOG2_E + np.float32(0.5))
        r = x - n * _LN2_HIGH - n * _LN2_LOW
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        values[i] = p * (r * r) + r + np.float32(1)
        powers[i] = (np.int32(n) + np.int32(127)) << np.int32(23)
    scale = powers.view(np.float32)
    for i in range(len(values)):
        values[i] *= scale[i]


@compiled
def _shifted(logits: np.ndarray) -> bool:
    """Take each row's largest logit off it; whether all were finite."""
    finite = True
    for row in range(logits.shape[0]):
        top = logits[row, 0]
        for column in range(1, logits.shape[1]):
            top = max(top, logits[row, column])
        span = np.float32(0)
        for column in range(logits.shape[1]):
            logits[row, column] -= top
            span += logits[row, column]
        finite &= np.isfinite(span)
    return finite


@compiled
def softmax_rows(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of logits (B, C), which become its gradient, (softmax - one-hot) / B; NaN if any is not finite."""
    batch, classes = logits.shape
    if not _shifted(logits):
        return np.nan
    total = 0.0
    for row in range(batch):
        total -= logits[row, labels[row]]
    exponentials(logits.reshape(-1), np.empty(batch * classes, np.int32))
    share = np.float32(1) / np.float32(batch)
    for row in range(batch):
        mass = np.float32(0)
        for column in range(classes):
            mass += logits[row, column]
        total += np.log(mass)
        factor = share / mass
        for column in range(classes):
            logits[row, column] *= factor
        logits[row, labels[row]] -= share
    return total / batch


@compiled
def cross_entropy_rows(logits: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    """Sum of cross-entropies of logits (B, C), and how many labels (B,) have the largest logit; logits are overwritten."""
    batch, classes = logits.shape
    if not _shifted(logits):
        return np.nan, 0
    total, right = 0.0, 0
    for row in range(batch):
        label = labels[row]
        total -= logits[row, label]
        best = 0
        while logits[row, best] < 0:  # the largest is zero now, and the first of equals counts
            best += 1
        right += best == label
    exponentials(logits.reshape(-1), np.empty(batch * classes, np.int32))
    for row in range(batch):
        mass = np.float32(0)
        for column in range(classes):
            mass += logits[row, column]
        total += np.log(mass)
    return total, right
