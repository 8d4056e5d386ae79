"""What theory says of the threshold training dimension where the loss is quadratic: L(w) = L* + (w - w*)'H(w - w*) / 2."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Floats = NDArray[np.float64]

_GORDON_SCALE, _GORDON_FACTOR = 18.0, 3.5


@dataclass(frozen=True)
class Measure:
    """Positive masses on a line: how much of something lies at which eigenvalue of the Hessian. Both (m,), eigenvalues >= 0."""

    eigenvalues: Floats
    mass: Floats

    @property
    def total(self) -> float:
        return float(self.mass.sum())


def equivalent_threshold(density: Measure, energy: Measure, epsilon: float) -> float:
    """The k at which the lowest loss above L* in a random k-dimensional subspace through w_0 is about epsilon.

    `density`: how many eigenvalues lie where, D in all. `energy`: how much of L(w_0) - L* lies there, c_i^2 lambda_i / 2 where
    c_i are the coordinates of w_0 - w*. With a random A the lowest loss over the subspace is close to
    sum_i energy_i g / (lambda_i + g), where sum_i lambda_i / (lambda_i + g) = k (the deterministic equivalent of a random
    projector). 0 where w_0 is low enough.
    """
    if energy.total <= epsilon:
        return 0.0

    def excess(log_g: float) -> float:
        g = np.exp(log_g)
        return float((energy.mass * g / (energy.eigenvalues + g)).sum() - epsilon)

    curved = energy.eigenvalues[energy.eigenvalues > 0]
    bracket = (float(np.log(curved.min())) - 60, float(np.log(curved.max())) + 60)
    g = np.exp(optimize.root_scalar(excess, bracket=bracket).root)
    return float((density.mass * density.eigenvalues / (density.eigenvalues + g)).sum())


def deterministic_equivalent(eigenvalues: Floats, coordinates: Floats, epsilon: float) -> float:
    """`equivalent_threshold` of the loss sum_i lambda_i c_i^2, all eigenvalues (D,) and coordinates (D,) of w_0 - w* known."""
    density = Measure(eigenvalues, np.ones_like(eigenvalues))
    return equivalent_threshold(density, Measure(eigenvalues, coordinates**2 * eigenvalues), epsilon)


def local_angular_dimension(density: Measure, radius: float, epsilon: float) -> float:
    """sum_i r_i^2 / (R^2 + r_i^2), r_i^2 = 2 epsilon / lambda_i: about the squared Gaussian width of the sub-level set of the
    quadratic loss, projected to the unit sphere around w_0 at distance R (Larsen et al. 2022, section 4). It ignores cross
    terms between the well and w_0."""
    return float((density.mass * 2 * epsilon / (density.eigenvalues * radius**2 + 2 * epsilon)).sum())


def gaussian_width_formula(eigenvalues: Floats, radius: float, epsilon: float) -> float:
    """sum_i lambda_i / (lambda_i + epsilon / R^2): D minus the local angular dimension of the loss sum_i lambda_i c_i^2 (Larsen
    et al. 2022). It lies far too high where the threshold is far below D; see `local_angular_dimension`."""
    density = Measure(2 * eigenvalues, np.ones_like(eigenvalues))
    return density.total - local_angular_dimension(density, radius, epsilon)


def certain_failure(full_dimension: int, angular_dimension: float, probability: float = 0.95) -> int:
    """The largest k at which a random subspace misses the set with at least `probability`, by Gordon's escape theorem, or 0.

    P(miss) >= 1 - 3.5 exp(-(m / sqrt(m + 1) - w)^2 / 18), m = D - k, w^2 the local angular dimension (Gordon 1988). True of
    any set; it says nothing where D is small.
    """
    margin = math.sqrt(_GORDON_SCALE * math.log(_GORDON_FACTOR / (1 - probability)))
    needed = math.sqrt(angular_dimension) + margin
    ks = np.arange(full_dimension, 0, -1)
    codimension = full_dimension - ks
    missed = ks[codimension / np.sqrt(codimension + 1) >= needed]
    return int(missed[0]) if missed.size else 0


def exact_minimum(hessian: Floats, offset: Floats, basis: Floats) -> float:
    """The lowest w'Hw over w = offset + basis theta, by QR: no optimizer is involved. `basis` is (D, k)."""
    values, vectors = np.linalg.eigh(hessian)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    directions = np.linalg.qr(root @ basis).Q
    start = root @ offset
    rest = start - directions @ (directions.T @ start)
    return float(rest @ rest)


def simulated_threshold(
    eigenvalues: Floats, coordinates: Floats, epsilon: float, rng: np.random.Generator, draws: int = 16
) -> float:
    """The k at which the exact minimum of sum_i lambda_i c_i^2 / 2 over a random subspace is at most epsilon in half the draws.

    No approximation and no optimizer: for each draw the columns of one Gaussian matrix are added one by one, and a QR
    decomposition gives the minimum over the first k of them for all k. Takes D^3 operations a draw.
    """
    root = np.sqrt(eigenvalues)
    start = root * coordinates
    found = []
    for _ in range(draws):
        directions = np.linalg.qr(root[:, None] * rng.normal(size=(len(root), len(root)))).Q
        left = 0.5 * (start @ start - np.concatenate([[0.0], np.cumsum((directions.T @ start) ** 2)]))
        found.append(int(np.argmax(left <= epsilon)) if left[-1] <= epsilon else len(root))
    return float(np.median(found))
