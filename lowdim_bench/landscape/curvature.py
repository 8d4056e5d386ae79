"""The Hessian of the training loss at a point, by its products with vectors: spectrum, trace, and how a vector lies in it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from lowdim_bench.problems import Problem
from lowdim_bench.theory import Measure

Floats = NDArray[np.float64]

EXACT_DIMENSION = 3000
"""Up to here the whole Hessian is made and decomposed."""
_COLUMNS = 32
"""Products at once."""
_STEPS = 80
"""Lanczos steps of one quadrature."""


class Curvature:
    """The Hessian H of a problem's loss on the full training set at `weights` (D,).

    Everything is float64 but the products themselves, which are the problem's, in float32. Raises `MethodFailure` where the
    problem gives no products.
    """

    def __init__(self, problem: Problem, weights: Tensor) -> None:
        self._problem = problem
        self._weights = weights
        self.dimension = problem.full_dimension
        self._dense: Floats | None = None

    def products(self, vectors: Floats) -> Floats:
        """H v for each row of vectors (n, D)."""
        done = []
        for start in range(0, len(vectors), _COLUMNS):
            some = torch.from_numpy(np.ascontiguousarray(vectors[start : start + _COLUMNS])).to(self._weights)
            points = self._weights.expand(len(some), -1).contiguous()
            done.append(self._problem.hessian_vector(points, some, None).double().cpu().numpy())
        return np.concatenate(done)

    def matrix(self) -> Floats:
        """All of H (D, D), made symmetric."""
        if self._dense is None:
            whole = self.products(np.eye(self.dimension))
            self._dense = 0.5 * (whole + whole.T)
        return self._dense

    def largest(self, count: int) -> Floats:
        """The `count` algebraically largest eigenvalues, descending (SciPy's implicitly restarted Lanczos)."""
        operator = _Products(self._product, self.dimension)
        start = np.random.default_rng(0).normal(size=self.dimension)
        found = eigsh(operator, k=count, which="LA", v0=start, return_eigenvectors=False)
        return np.sort(found)[::-1]

    def trace(self, probes: int, rng: np.random.Generator) -> tuple[float, float]:
        """The trace and its standard error, from `probes` >= 2 random signs (Hutchinson 1990)."""
        signs = rng.choice([-1.0, 1.0], size=(probes, self.dimension))
        seen = (signs * self.products(signs)).sum(axis=1)
        return float(seen.mean()), float(seen.std(ddof=1) / np.sqrt(probes))

    def density(self, probes: int, rng: np.random.Generator) -> Measure:
        """How many of the D eigenvalues lie where: all of them where D allows, else stochastic Lanczos quadrature (Ubaru, Chen
        & Saad 2017, SIAM J. Matrix Anal. Appl. 38:1075). Negative ones are counted at zero."""
        if self.dimension <= EXACT_DIMENSION:
            return _clipped(linalg.eigvalsh(self.matrix()), np.ones(self.dimension))
        found = [self._quadrature(rng.choice([-1.0, 1.0], size=self.dimension)) for _ in range(probes)]
        nodes, mass = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return _clipped(nodes, mass / probes)

    def spread(self, vector: Floats) -> Measure:
        """How much of |vector|^2 lies at which eigenvalue, by Gauss quadrature (Golub & Meurant 2010, chapter 7); exact where D
        allows. Negative eigenvalues are counted at zero."""
        if self.dimension <= EXACT_DIMENSION:
            values, vectors = linalg.eigh(self.matrix())
            return _clipped(values, (vectors.T @ vector) ** 2)
        return _clipped(*self._quadrature(vector))

    def negative_share(self) -> float:
        """The share of the eigenvalues' absolute sum that is below zero; NaN where D is too large to know them all."""
        if self.dimension > EXACT_DIMENSION:
            return float("nan")
        values = linalg.eigvalsh(self.matrix())
        return float(-values[values < 0].sum() / max(np.abs(values).sum(), 1e-300))

    def _product(self, vector: Floats) -> Floats:
        return self.products(vector.reshape(1, -1))[0]

    def _quadrature(self, start: Floats) -> tuple[Floats, Floats]:
        """Nodes and weights (steps,) with sum weight f(node) = start' f(H) start for polynomials f of degree < 2 steps.

        Lanczos with full reorthogonalization: without it, converged eigenvalues appear again as ghosts.
        """
        norm = float(np.linalg.norm(start))
        basis, diagonal, off = [start / norm], [], []
        for _ in range(min(_STEPS, self.dimension)):
            image = self._product(basis[-1])
            diagonal.append(float(basis[-1] @ image))
            known = np.stack(basis)
            for _ in range(2):  # once leaves too much behind in float32 products
                image -= known.T @ (known @ image)
            left = float(np.linalg.norm(image))
            if left <= 1e-6 * max(map(abs, diagonal)):
                break
            off.append(left)
            basis.append(image / left)
        nodes, vectors = linalg.eigh_tridiagonal(np.array(diagonal), np.array(off[: len(diagonal) - 1]))
        return nodes, vectors[0] ** 2 * norm**2


class _Products(LinearOperator):
    """Products as SciPy takes them."""

    def __init__(self, product: Callable[[Floats], Floats], dimension: int) -> None:
        super().__init__(np.float64, (dimension, dimension))
        self._product = product

    def _matvec(self, x: Floats) -> Floats:
        return self._product(x.ravel())


def _clipped(values: Floats, mass: Floats) -> Measure:
    return Measure(np.maximum(values, 0.0), mass)
