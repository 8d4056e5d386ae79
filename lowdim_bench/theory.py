"""What theory says of the threshold training dimension of quadratic wells L(w) = w'Hw / unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Floats = NDArray[np.float64]


def deterministic_equivalent(eigenvalues: Floats, coordinates: Floats, epsilon: float) -> float:
    """The k at which the lowest loss in a random k-dimensional subspace through w_0 is about epsilon.

    `coordinates` (D,) are those of w_0 - w* in the eigenbasis of H; the loss is sum_i lambda_i c_i^2. With random A the
    minimum over the subspace is close to sum_i c_i^2 lambda_i g / (lambda_i + g), where sum_i lambda_i / (lambda_i + g) = k
    (the deterministic equivalent of a random projector). Returns 0 where the loss is at most epsilon already.
    """
    energy = coordinates**2 * eigenvalues
    if energy.sum() <= epsilon:
        return 0.0

    def excess(log_g: float) -> float:
        g = np.exp(log_g)
        return float((energy * g / (eigenvalues + g)).sum() - epsilon)

    bracket = (float(np.log(eigenvalues.min())) - 60, float(np.log(eigenvalues.max())) + 60)
    root = optimize.root_scalar(excess, bracket=bracket).root
    return float((eigenvalues / (eigenvalues + np.exp(root))).sum())


def gaussian_width_formula(eigenvalues: Floats, radius: float, epsilon: float) -> float:
    """sum_i lambda_i / (lambda_i + epsilon / R^2): D minus the local angular dimension of the well (Larsen et al. 2022).

    It ignores cross terms between the well and w_0, and so lies far too high where the threshold is far below D.
    """
    return float((eigenvalues / (eigenvalues + epsilon / radius**2)).sum())


def exact_minimum(hessian: Floats, offset: Floats, basis: Floats) -> float:
    """The lowest w'Hw over w = offset + basis theta, by QR: no optimizer is involved. `basis` is (D, k)."""
    values, vectors = np.linalg.eigh(hessian)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    directions = np.linalg.qr(root @ basis).Q
    start = root @ offset
    rest = start - directions @ (directions.T @ start)
    return float(rest @ rest)
