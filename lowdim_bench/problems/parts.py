"""A point measured part by part of the training set, so that a spot check can measure some of the parts again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lowdim_bench.problems.base import Metrics, Problem


class PartMetrics(NamedTuple):
    """Mean loss and accuracy on some examples; there is no accuracy where there are no classes."""

    loss: float
    accuracy: float | None

    @property
    def metrics(self) -> Metrics:
        """The same of a pack of one."""
        accuracy = None if self.accuracy is None else torch.tensor([self.accuracy], dtype=torch.float64)
        return Metrics(torch.tensor([self.loss], dtype=torch.float64), accuracy)


def measure_parts(problem: Problem, weights: Tensor, which: Iterable[int]) -> tuple[PartMetrics, ...]:
    """Metrics at weights (D,) on some of the parts that `problem.part_sizes` counts, in the order of `which`."""
    found = [problem.part_metrics(weights.unsqueeze(0), part) for part in which]
    return tuple(
        PartMetrics(float(one.loss[0]), None if one.accuracy is None else float(one.accuracy[0])) for one in found
    )


def together(parts: Sequence[PartMetrics], sizes: Sequence[int]) -> PartMetrics:
    """Metrics on all examples of some parts of so many examples each; of a single part they are its own, to the bit."""
    if len(parts) == 1:
        return parts[0]
    accuracies = [part.accuracy for part in parts]
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    return PartMetrics(
        _mean([part.loss for part in parts], sizes), _mean(known, sizes) if len(known) == len(parts) else None
    )


def _mean(values: Sequence[float], sizes: Sequence[int]) -> float:
    return math.fsum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)
