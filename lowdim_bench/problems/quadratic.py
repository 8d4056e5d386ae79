"""Quadratic wells: the problems whose threshold training dimension is known (Larsen et al. 2022, section 4)."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from lowdim_bench.errors import UserError
from lowdim_bench.problems.base import Metrics, Problem
from lowdim_bench.problems.networks import Block
from lowdim_bench.specs import Task
from lowdim_bench.specs.problem import PowerSpectrum, QuadraticWell, Spectrum, TwoLevelSpectrum

_WIDEST_SPECTRUM = 1e7


def eigenvalues(spectrum: Spectrum, dimension: int) -> np.ndarray:
    """The D eigenvalues, float64. Raises `UserError` where a two-level spectrum has more high ones than D, and where the
    spectrum is so wide that the Hessian in float32 would have negative eigenvalues, and so no minimum."""
    if isinstance(spectrum, PowerSpectrum):
        values = np.arange(1, dimension + 1, dtype=np.float64) ** -spectrum.exponent
    elif isinstance(spectrum, TwoLevelSpectrum):
        if spectrum.high_count > dimension:
            raise UserError(f"high_count ({spectrum.high_count}) is more than the dimension ({dimension}).")
        values = np.where(np.arange(dimension) < spectrum.high_count, 1.0, spectrum.low)
    else:
        # Logarithms first: a wide spectrum overflows.
        logarithms = spectrum.sigma * ndtri((np.arange(dimension) + 0.5) / dimension)
        values = np.exp(np.clip(logarithms, -100, 100))
    ratio = values.max() / values.min()
    if ratio > _WIDEST_SPECTRUM:
        raise UserError(
            f"The largest eigenvalue is {ratio:.1e} times the smallest; float32 holds wells of at most {_WIDEST_SPECTRUM:.0e}."
        )
    return values


@final
class QuadraticProblem(Problem):
    """L(w) = w'Hw / unit, where `unit` is the mean eigenvalue.

    H has the given spectrum in one random eigenbasis of the task, so that coordinates carry no special meaning. w_0 is a
    uniformly random direction, one a replicate, scaled so that every replicate starts at the same loss, radius ** 2.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        spec = task.problem
        assert isinstance(spec, QuadraticWell)
        super().__init__(task, [Block("w", "weight", (spec.dimension,), 0, spec.dimension)], None, device)
        self._radius = spec.radius
        self.eigenvalues = eigenvalues(spec.spectrum, spec.dimension)
        normal = torch.randn(
            spec.dimension, spec.dimension, generator=self.generator("eigenbasis"), dtype=torch.float64
        )
        self.eigenvectors, _ = torch.linalg.qr(normal)
        values = torch.from_numpy(self.eigenvalues)
        self.hessian = ((self.eigenvectors * values) @ self.eigenvectors.T).float().to(device)
        self.unit = float(values.mean())

    def initial(self, replicate: int) -> Tensor:
        generator = self.generator("initial weights", replicate)
        direction = torch.randn(self.full_dimension, generator=generator, dtype=torch.float64)
        loss = ((self.eigenvectors.T @ direction) ** 2 * torch.from_numpy(self.eigenvalues)).sum() / self.unit
        return (direction * (self._radius / loss.sqrt())).float().to(self.device)

    def loss_and_gradient(self, weights: Tensor, examples: Tensor | None) -> tuple[Tensor, Tensor]:
        pulled = weights @ self.hessian
        return (weights * pulled).sum(dim=1) / self.unit, pulled * (2 / self.unit)

    def train_metrics(self, weights: Tensor) -> Metrics:
        wide = weights.double()
        return Metrics(((wide @ self.hessian.double()) * wide).sum(dim=1).cpu() / self.unit, None)

    def hessian_vector(self, weights: Tensor, vectors: Tensor, examples: Tensor | None) -> Tensor:
        return vectors @ self.hessian * (2 / self.unit)

    def synaptic_flow(self, weights: Tensor) -> Tensor:
        """As of one layer with one output: each weight's own magnitude."""
        return weights.detach().cpu().double().abs()

    def test_accuracy(self, weights: Tensor) -> None:
        return None
