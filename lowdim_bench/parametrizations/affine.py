"""Affine subspaces w(theta) = offset + A theta."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from lowdim_bench.parametrizations.base import Parametrization
from lowdim_bench.parametrizations.operators import Coordinates, FullSpace, Operator

if TYPE_CHECKING:  # problems load the compiler of their kernels
    from lowdim_bench.problems import RowSampling


@dataclass(frozen=True)
class AffineSubspace(Parametrization):
    """w(theta) = offset + A theta, where training starts at `start`. Raises ValueError where shapes do not fit.

    A mask is the subspace of the kept coordinate axes with offset 0, started at the kept weights.
    """

    operator: Operator

    @classmethod
    def full_space(cls, weights: Tensor) -> Self:
        """All D dimensions, started at weights (D,)."""
        return cls(torch.zeros_like(weights), FullSpace(len(weights)), weights)

    @classmethod
    def masked(cls, weights: Tensor, kept: Coordinates, rows: RowSampling | None = None) -> Self:
        """The kept coordinates of weights (D,) trainable, all others exactly zero."""
        return cls(torch.zeros_like(weights), kept, weights[kept.indices], rows)
