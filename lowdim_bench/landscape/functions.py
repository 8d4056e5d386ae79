"""What networks compute, whatever their weights: how far their predictions and their tangent kernels are apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowdim_bench.problems.classification import ClassificationProblem

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Disagreement:
    """How often networks predict different classes (Fort, Hu & Lakshminarayanan 2019, arXiv 1912.02757)."""

    networks: int
    examples: int
    share: float
    """The share of examples on which two of them differ, as the mean over pairs."""
    normalized: float
    """The same over the mean error; 0 for the same function, NaN where nobody errs."""


def disagreement(predictions: Tensor, errors: Floats) -> Disagreement:
    """Of predicted classes (m, N) of m >= 2 networks with errors (m,) on the same examples."""
    shares = [float((one != other).double().mean()) for one, other in combinations(predictions, 2)]
    share, error = float(np.mean(shares)), float(np.mean(errors))
    return Disagreement(len(predictions), predictions.shape[1], share, share / error if error else math.nan)


def cosine(one: Tensor, other: Tensor) -> float:
    """Of the angle between two vectors (D,)."""
    return float(torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=0))


def tangent_kernel(problem: ClassificationProblem, weights: Tensor, examples: int) -> Floats:
    """The empirical neural tangent kernel (n, n), float64, at weights (D,), summed over logits, on the first `examples`
    training examples, or on all where they are fewer.

    One backward pass for each example and class. Each example's logits are its own: where batches are normalized, at the
    statistics of the training set, which are held fixed.
    """
    inputs = problem.inputs[:examples]
    statistics = problem.network.statistics(weights.unsqueeze(0), problem.inputs)
    kernel = np.zeros((len(inputs), len(inputs)))
    for label in range(
        int(problem.labels.max()) + 1
    ):  # one class at a time: all at once would be (n, classes, D) numbers
        slopes = torch.stack([_slope(problem, weights, statistics, example, label) for example in inputs]).double()
        kernel += (slopes @ slopes.T).cpu().numpy()
    return kernel


def _slope(
    problem: ClassificationProblem, weights: Tensor, statistics: Tensor | None, example: Tensor, label: int
) -> Tensor:
    """The gradient (D,) of an example's logit of a class."""
    with torch.enable_grad():
        point = weights.detach().unsqueeze(0).requires_grad_()
        parts = problem.network.split(point)
        logits = problem.network.evaluate(parts, example.view(1, 1, *example.shape), statistics)
        return torch.autograd.grad(logits[0, 0, label], point)[0][0]


def kernel_distance(one: Floats, other: Floats) -> float:
    """1 - Tr(K_1 K_2') / (|K_1| |K_2|): 0 for proportional kernels, 1 for orthogonal ones (Fort et al. 2020, arXiv
    2010.15110). NaN where one is zero."""
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return float(1 - (one * other).sum() / size) if size else math.nan
