"""Where training starts: how signals pass an initialization, and how convex the loss is around a point."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.polynomial import hermite_e
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor

from lowdim_bench.landscape.curvature import Curvature
from lowdim_bench.problems import Problem

Floats = NDArray[np.float64]
Activation = Literal["relu", "tanh"]

_FUNCTIONS: dict[Activation, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {
    "relu": (lambda h: np.maximum(h, 0.0), lambda h: (h > 0).astype(np.float64)),
    "tanh": (np.tanh, lambda h: 1 / np.cosh(h) ** 2),
}
"""Activation and its derivative."""
_NODES = 128
"""Of the Gauss-Hermite quadrature: an even number, so that none lies on the kink of ReLU."""
_ITERATIONS = 20_000
_SMALL = 1e-12
"""Below this q* is zero, and chi_1 its limit there."""


@dataclass(frozen=True)
class TransientChaos:
    """How signals pass a deep network of random weights (Poole et al. 2016, arXiv 1606.05340)."""

    q_star: float
    """The mean squared pre-activation that depth leads to; infinite where it grows without end."""
    chi_1: float
    """The factor by which a layer stretches small squared distances there: below 1 ordered, above 1 chaotic."""


@dataclass(frozen=True)
class Goldilocks:
    """How convex the loss is at a point (Fort & Scherlis 2019, arXiv 1807.02581)."""

    radius: float
    """|w|."""
    trace: float
    """Of the Hessian, estimated by random probes."""
    frobenius: float
    """The Hessian's Frobenius norm, from the same probes."""
    ratio: float
    """trace / frobenius: large where most eigenvalues are positive and alike. Between -sqrt(D) and sqrt(D); NaN for 0 / 0."""
    positive: float
    """The share of positive eigenvalues of the Hessian in a random slice."""


def transient_chaos(activation: Activation, weight_variance: float, bias_variance: float = 0.0) -> TransientChaos:
    """The fixed point q* of q = sw^2 E[phi(sqrt(q) z)^2] + sb^2 from q = 1, and chi_1 = sw^2 E[phi'(sqrt(q*) z)^2] there.

    sw^2 is the variance of a weight times its fan-in. Expectations over z ~ N(0, 1) are Gauss-Hermite quadratures of 128 nodes:
    exact for ReLU, and for tanh while sqrt(q*) is a few units at most. Raises ValueError for negative variances, and
    ArithmeticError where the iteration does not settle.
    """
    if min(weight_variance, bias_variance) < 0:
        raise ValueError(f"variances cannot be negative; got {weight_variance} and {bias_variance}")
    phi, slope = _FUNCTIONS[activation]
    nodes, masses = hermite_e.hermegauss(_NODES)
    masses = masses / masses.sum()
    q = 1.0
    for _ in range(_ITERATIONS):
        before, q = q, weight_variance * float(masses @ phi(math.sqrt(q) * nodes) ** 2) + bias_variance
        if q > 1e12:
            q = math.inf
            break
        if abs(q - before) <= 1e-12 * q or q < _SMALL:
            break
    else:
        raise ArithmeticError(f"q did not settle within {_ITERATIONS} layers: this is too near to the edge of chaos")
    at = min(max(q, _SMALL), 1e12)
    chi = weight_variance * float(masses @ slope(math.sqrt(at) * nodes) ** 2)
    return TransientChaos(0.0 if q < _SMALL else q, chi)


def normalized_chaos(activation: Activation) -> TransientChaos:
    """q* and chi_1 where each layer's pre-activations are normalized over a large batch, to mean 0 and variance 1: q* is 1, and
    chi_1 = E[phi'(z)^2] / Var[phi(z)], whatever the variance of the weights (Yang et al. 2019, arXiv 1902.08129).

    The batch's own pre-activations are taken to be uncorrelated, as depth makes them: it takes Var[phi(z)] of each channel.
    For ReLU it is pi / (pi - 1): such networks are chaotic.
    """
    phi, slope = _FUNCTIONS[activation]

    def mean(function: Callable[[Floats], Floats]) -> float:
        """Adaptive, in two halves: a kink at 0 would cost a quadrature of fixed nodes its accuracy."""
        halves = ((-12, 0), (0, 12))
        return sum(quad(lambda z: float(function(np.array([z]))[0]) * norm.pdf(z), *half)[0] for half in halves)

    return TransientChaos(1.0, mean(lambda z: slope(z) ** 2) / (mean(lambda z: phi(z) ** 2) - mean(phi) ** 2))


def goldilocks(
    problem: Problem, weights: Tensor, probes: int, slice_dimension: int, rng: np.random.Generator
) -> Goldilocks:
    """Tr(H) / |H|_F at weights (D,) from `probes` random signs z (E z'Hz and E |Hz|^2; Hutchinson 1990), and the share of
    positive eigenvalues of V'HV, where V are `slice_dimension` random orthonormal directions (all, where D is smaller).

    Raises `MethodFailure` where the problem gives no products with its Hessian.
    """
    curvature = Curvature(problem, weights)
    signs = rng.choice([-1.0, 1.0], size=(probes, curvature.dimension))
    images = curvature.products(signs)
    trace, frobenius = float((signs * images).sum(axis=1).mean()), math.sqrt(float((images**2).sum(axis=1).mean()))
    size = min(slice_dimension, curvature.dimension)
    basis = np.linalg.qr(rng.normal(size=(curvature.dimension, size)))[0].T
    inside = basis @ curvature.products(basis).T
    return Goldilocks(
        radius=float(weights.double().norm()),
        trace=trace,
        frobenius=frobenius,
        ratio=trace / frobenius if frobenius else math.nan,
        positive=float((np.linalg.eigvalsh(0.5 * (inside + inside.T)) > 0).mean()),
    )
