"""A map without a stored matrix whose every entry is as large as any other: the fast Walsh-Hadamard transform."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Self, final

import torch
from scipy.linalg import hadamard
from torch import Tensor

from lowdim_bench.parametrizations.operators.base import Operator, PackedOperator, moved_by


class Transform(Operator):
    """What is applied by fast transforms, one trial after the other."""

    @abstractmethod
    def apply(self, theta: Tensor) -> Tensor:
        """A theta: (k,) to (D,)."""

    @abstractmethod
    def apply_adjoint(self, weights: Tensor) -> Tensor:
        """A' w: (D,) to (k,)."""

    @classmethod
    def pack(cls, operators: Sequence[Self]) -> PackedOperator:
        return _PackedTransforms(operators, max(operator.k for operator in operators))


@final
class SubsampledHadamard(Transform):
    """A subsampled randomized Hadamard transform: k columns of H, signs and order of its rows random. O(D log D) time.

    Entries are +-1/sqrt(D), so columns have unit norm exactly; before the cut from the next power of two to D they are
    orthogonal, after it nearly so (Tropp 2011). `Fastfood` has two such transforms, with Gaussian factors between them.
    """

    kind = "hadamard"
    nested = True

    def __init__(self, k: int, full_dimension: int, seed: int, device: torch.device) -> None:
        super().__init__(k, full_dimension, seed)
        self._size = 1 << max(0, full_dimension - 1).bit_length()
        generator = torch.Generator().manual_seed(seed)
        sign = torch.randint(0, 2, (full_dimension,), generator=generator, dtype=torch.float32).mul_(2).sub_(1)
        self._row = torch.randperm(self._size, generator=generator)[:full_dimension].to(device)
        self._column = torch.randperm(self._size, generator=generator)[:k].to(device)
        self._sign = (sign / math.sqrt(full_dimension)).to(device)

    def tensors(self) -> dict[str, Tensor]:
        return {"row": self._row, "column": self._column, "sign": self._sign}

    def apply(self, theta: Tensor) -> Tensor:
        spread = theta.new_zeros(self._size)
        spread[self._column] = theta
        return walsh_hadamard(spread)[self._row] * self._sign

    def apply_adjoint(self, weights: Tensor) -> Tensor:
        spread = weights.new_zeros(self._size)
        spread[self._row] = weights * self._sign
        return walsh_hadamard(spread)[self._column]


class _PackedTransforms(PackedOperator):
    def __init__(self, operators: Sequence[Transform], width: int) -> None:
        self._operators, self._width = list(operators), width

    def forward(self, theta: Tensor, offset: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        pairs = zip(theta, self._operators, strict=True)
        moved = torch.stack([operator.apply(row[: operator.k]) for row, operator in pairs])
        return moved_by(offset, moved, out)

    def adjoint(self, weights: Tensor) -> Tensor:
        result = weights.new_zeros(weights.shape[0], self._width)
        for row, (weight, operator) in enumerate(zip(weights, self._operators, strict=True)):
            result[row, : operator.k] = operator.apply_adjoint(weight)
        return result

    def keep(self, rows: Tensor) -> Self:
        return type(self)([self._operators[int(row)] for row in rows], self._width)


def walsh_hadamard(values: Tensor) -> Tensor:
    """The unnormalized Walsh-Hadamard transform of each row (..., n), n a power of two: n is cut into axes of up to 64, along
    each of which it is a product with a small matrix."""
    (*rows, size), shape = values.shape, []
    while size > 1:
        shape.append(min(64, size))
        size //= shape[-1]
    result = values.reshape(*rows, *(shape or [1]))
    for axis, length in enumerate(shape, start=len(rows)):
        matrix = _hadamard_matrix(length, values.dtype, values.device)
        result = (result.movedim(axis, -1) @ matrix).movedim(-1, axis)
    return result.reshape(values.shape)


@lru_cache(maxsize=32)
def _hadamard_matrix(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(hadamard(length), dtype=dtype, device=device)
