"""How coarsely theta can be stored: bits are what a threshold in real numbers leaves open."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lowdim_bench.parametrizations import Parametrization
from lowdim_bench.problems import Problem
from lowdim_bench.specs import Target
from lowdim_bench.verification.report import Precision

FINEST = 24
"""Bits of a float32's significand: no finer grid says more."""
_ENDS = 64
"""Bits of the two ends of the range, as float32."""


def coarsest(problem: Problem, subspace: Parametrization, theta: Tensor, target: Target, trial: str) -> Precision:
    """The fewest bits b such that theta (k,), rounded to 2**b evenly spaced values from its smallest to its largest, meets the
    target: by bisection, so b bits meet it and b - 1 do not. An upper bound of what an entropy coder would need."""
    k = len(theta)
    found: dict[int, float] = {}

    def meets(bits: int) -> bool:
        rounded = on_grid(theta, bits).to(problem.device)
        metrics = problem.train_metrics(subspace.map(rounded).unsqueeze(0))
        found[bits] = float(metrics.loss[0])
        return target.reached(metrics.value(target, 0))

    low, high = -1, FINEST
    if not meets(high):
        return Precision(trial=trial, k=k, bits_per_number=None, bits=None, loss=None)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(middle) else (middle, high)
    loss = found[high]
    return Precision(
        trial=trial, k=k, bits_per_number=high, bits=high * k + _ENDS, loss=loss if math.isfinite(loss) else None
    )


def on_grid(theta: Tensor, bits: int) -> Tensor:
    """Theta (k,) at the nearest of 2**bits evenly spaced values between its ends; at their middle for no bits."""
    wide = theta.double()
    low, high = wide.min(), wide.max()
    if bits == 0 or low == high:
        return torch.full_like(theta, float((low + high) / 2))
    step = (high - low) / (2**bits - 1)
    return (low + ((wide - low) / step).round() * step).float()
