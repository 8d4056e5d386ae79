"""Affine subspaces w(theta) = offset + A theta, alone and in packs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from lowdim_bench.parametrizations.operators import Coordinates, FullSpace, Operator, PackedOperator, pack, stack


@dataclass(frozen=True)
class AffineSubspace:
    """w(theta) = offset + A theta, where training starts at `start`. Raises ValueError where shapes do not fit.

    A mask is the subspace of the kept coordinate axes with offset 0, started at the kept weights.
    """

    offset: Tensor
    """(D,) float32: where the subspace passes through."""
    operator: Operator
    start: Tensor = field(default_factory=lambda: torch.empty(0))
    """(k,) float32: where theta starts; zeros unless given."""

    def __post_init__(self) -> None:
        if not self.start.numel():
            object.__setattr__(self, "start", torch.zeros(self.operator.k, device=self.offset.device))
        if self.offset.shape != (self.operator.full_dimension,):
            raise ValueError(f"offset has shape {tuple(self.offset.shape)}, not ({self.operator.full_dimension},)")
        if self.start.shape != (self.operator.k,):
            raise ValueError(f"start has shape {tuple(self.start.shape)}, not ({self.operator.k},)")
        if self.offset.dtype != torch.float32 or self.start.dtype != torch.float32:
            raise ValueError("offset and start must be float32")

    @classmethod
    def full_space(cls, weights: Tensor) -> Self:
        """All D dimensions, started at weights (D,)."""
        return cls(torch.zeros_like(weights), FullSpace(len(weights)), weights)

    @classmethod
    def masked(cls, weights: Tensor, kept: Coordinates) -> Self:
        """The kept coordinates of weights (D,) trainable, all others exactly zero."""
        return cls(torch.zeros_like(weights), kept, weights[kept.indices])

    @property
    def k(self) -> int:
        """How many real numbers training may change."""
        return self.operator.k

    def map(self, theta: Tensor) -> Tensor:
        """w(theta): (k,) to (D,)."""
        return Pack.of([self]).map(theta.unsqueeze(0))[0]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that decides the map, by name."""
        return {"offset": self.offset, **self.operator.tensors()}

    def fingerprint(self) -> str:
        """SHA-256 of every tensor that decides the map: equal before and after training, or something moved."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.tensors().items()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Pack:
    """P affine subspaces of one kind of operator, mapped at once. Their k may differ; K is the largest."""

    dimensions: tuple[int, ...]
    """The k of every row."""
    offset: Tensor | None
    """(P, D), or None where all offsets are zero."""
    operator: PackedOperator

    @classmethod
    def of(cls, subspaces: Sequence[AffineSubspace]) -> Self:
        """The subspaces as one pack. Raises ValueError where their operators are of several kinds."""
        offsets = [subspace.offset for subspace in subspaces]
        return cls(
            dimensions=tuple(subspace.k for subspace in subspaces),
            offset=stack(offsets) if any(bool(offset.any()) for offset in offsets) else None,
            operator=pack([subspace.operator for subspace in subspaces]),
        )

    def map(self, theta: Tensor, out: Tensor | None = None) -> Tensor:
        """w(theta): (P, K) to (P, D). `out` (P, D) lends memory; the result lies there, elsewhere, or is theta itself."""
        return self.operator.forward(theta, self.offset, out)

    def pull_back(self, gradient: Tensor) -> Tensor:
        """The gradient with respect to theta, (P, K), from the one with respect to weights, (P, D)."""
        return self.operator.adjoint(gradient)

    def keep(self, rows: Tensor) -> Pack:
        """The pack of some rows: `rows` holds their indices, on the CPU."""
        return Pack(
            dimensions=tuple(self.dimensions[int(row)] for row in rows),
            offset=None if self.offset is None else self.offset[rows.to(self.offset.device)],
            operator=self.operator.keep(rows),
        )


def stack_starts(subspaces: Sequence[AffineSubspace]) -> Tensor:
    """Where the trainings of a pack start: (P, K), zero beyond each trial's own k."""
    theta = subspaces[0].start.new_zeros(len(subspaces), max(subspace.k for subspace in subspaces))
    for row, subspace in enumerate(subspaces):
        theta[row, : subspace.k] = subspace.start
    return theta
