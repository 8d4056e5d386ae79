"""Maps with a stored matrix: one for each trial, or one for all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Self, final

import torch
from torch import Tensor

from lowdim_bench.parametrizations.operators.base import Operator, PackedOperator, beyond, moved_by
from lowdim_bench.parametrizations.operators.hashing import PackedHash, SignedHash
from lowdim_bench.seeds import derive


@final
class DenseBasis(Operator):
    """A stored or drawn matrix, kept as its transpose (k, D). The reference that the other operators stand in for."""

    kind = "dense"
    nested = True

    def __init__(self, columns: Tensor, seed: int | None = None, kind: str = "dense") -> None:
        """`columns` (k, D): row j is the j-th column of A. Give `seed` and `kind` only where they were drawn from it."""
        if columns.ndim != 2 or columns.dtype != torch.float32:
            raise ValueError(f"columns must be float32 of shape (k, D), not {columns.dtype} of {tuple(columns.shape)}")
        super().__init__(columns.shape[0], columns.shape[1], seed)
        self.columns = columns
        self.kind = kind

    @classmethod
    def gaussian(cls, k: int, full_dimension: int, seed: int, device: torch.device) -> DenseBasis:
        """Independent normal columns scaled to unit norm (Li et al. 2018; Larsen et al. 2022)."""
        columns = _normal_columns(k, full_dimension, torch.Generator().manual_seed(seed))
        return cls(columns.to(device), seed, "gaussian")

    @classmethod
    def orthonormal(cls, k: int, full_dimension: int, seed: int, device: torch.device) -> DenseBasis:
        """The Gaussian columns made orthonormal one after the other (QR), which keeps their spans."""
        normal = _normal_columns(k, full_dimension, torch.Generator().manual_seed(seed))
        return cls(torch.linalg.qr(normal.T).Q.T.contiguous().to(device), seed, "orthonormal")

    def tensors(self) -> dict[str, Tensor]:
        return {"columns": self.columns}

    @classmethod
    def pack(cls, operators: Sequence[Self]) -> PackedOperator:
        return _PackedDense([operator.columns for operator in operators], max(operator.k for operator in operators))

    def columns_at(self, places: Tensor) -> Tensor:
        return self.columns[places.to(self.columns.device)]


def _normal_columns(k: int, full_dimension: int, generator: torch.Generator) -> Tensor:
    """(k, D) of unit rows. Drawn row by row, so that the first rows do not depend on how many follow."""
    columns = torch.empty(k, full_dimension)
    for row in columns:
        row.normal_(generator=generator)
    return columns.div_(columns.norm(dim=1, keepdim=True))


class _PackedDense(PackedOperator):
    """One matrix-vector product a trial: every trial has a matrix of its own, so there is nothing to batch."""

    def __init__(self, matrices: Sequence[Tensor], width: int) -> None:
        self._matrices, self._width = list(matrices), width

    def forward(self, theta: Tensor, offset: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        pairs = zip(theta, self._matrices, strict=True)
        moved = torch.stack([torch.mv(matrix.T, row[: len(matrix)]) for row, matrix in pairs])
        return moved_by(offset, moved, out)

    def adjoint(self, weights: Tensor) -> Tensor:
        result = weights.new_zeros(weights.shape[0], self._width)
        for row, (weight, matrix) in enumerate(zip(weights, self._matrices, strict=True)):
            torch.mv(matrix, weight, out=result[row, : len(matrix)])
        return result

    def keep(self, rows: Tensor) -> Self:
        return type(self)([self._matrices[int(row)] for row in rows], self._width)


@final
class SharedGaussian(Operator):
    """The Gaussian basis of D, the same for all trials, its rows put in an order and given signs of the trial's own.

    Each trial's law is that of independent Gaussian columns, for these do not change under a permutation and signs. Trials
    of one D are independent of each other given the basis, so a success rate over them is one over their own seeds; what
    the basis itself adds is the same for all. A pack maps with one matrix product instead of a product a trial.
    """

    kind = "shared_gaussian"
    nested = True
    shared = True

    def __init__(self, k: int, full_dimension: int, seed: int, device: torch.device) -> None:
        super().__init__(k, full_dimension, seed)
        self._order = SignedHash(full_dimension, full_dimension, seed, device)
        """With as many buckets as coordinates a signed hash is a permutation with signs."""

    def _basis(self) -> Tensor:
        """(k, D): row j is the j-th column that all trials share. Not to be handed out: who changed it would change all."""
        return _shared_columns(self.full_dimension, self._order.code.device).first(self.k)

    def tensors(self) -> dict[str, Tensor]:
        return {"basis": self._basis().clone(), **self._order.tensors()}

    @classmethod
    def pack(cls, operators: Sequence[Self]) -> PackedOperator:
        widest = max(operators, key=lambda operator: operator.k)
        order = SignedHash.pack([operator._order for operator in operators])  # noqa: SLF001 - of its own kind
        return _PackedShared(widest._basis(), order, beyond(operators, widest.k, order.code.device))  # noqa: SLF001

    def columns_at(self, places: Tensor) -> Tensor:
        some = self._basis()[places.to(self._order.code.device)]
        return SignedHash.pack([self._order] * len(some)).forward(some)


class _PackedShared(PackedOperator):
    def __init__(self, basis: Tensor, order: PackedHash, unused: Tensor | None) -> None:
        self._basis, self._order, self._unused = basis, order, unused

    def forward(self, theta: Tensor, offset: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        return self._order.forward(theta @ self._basis, offset, out)

    def adjoint(self, weights: Tensor) -> Tensor:
        sums = self._order.adjoint(weights) @ self._basis.T
        return sums if self._unused is None else sums.masked_fill_(self._unused, 0.0)

    def keep(self, rows: Tensor) -> Self:
        unused = None if self._unused is None else self._unused[rows.to(self._unused.device)]
        return type(self)(self._basis, self._order.keep(rows), unused)


class _GrowingColumns:
    """Unit Gaussian columns of which more are drawn when more are asked for; the first ones stay as they are."""

    def __init__(self, full_dimension: int, device: torch.device) -> None:
        self._generator = torch.Generator().manual_seed(derive("shared gaussian basis", full_dimension))
        self._columns = torch.empty(0, full_dimension, device=device)

    def first(self, count: int) -> Tensor:
        """(count, D)."""
        missing = count - len(self._columns)
        if missing > 0:
            held, full_dimension = self._columns.shape
            # Twice as many as before, or a sweep that goes up in k would copy all of them again and again.
            more = _normal_columns(max(missing, min(held, full_dimension - held)), full_dimension, self._generator)
            self._columns = torch.cat([self._columns, more.to(self._columns.device)])
        return self._columns[:count]


@lru_cache(maxsize=2)
def _shared_columns(full_dimension: int, device: torch.device) -> _GrowingColumns:
    """The columns that all trials of a D share, once a process; of two D at most, for they may take much memory."""
    return _GrowingColumns(full_dimension, device)
