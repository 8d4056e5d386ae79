"""What a linear map is, alone and in a pack, and how its rank is measured."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor


class Operator(ABC):
    """A fixed linear map from R^k to R^D."""

    kind: str
    """Its name in records."""
    nested: ClassVar[bool] = False
    """Whether, from one seed, the span at k lies in the span at every larger k."""
    shared: ClassVar[bool] = False
    """Whether the trials of a pack share most of what the map reads, so that mapping them at once is worth more than caches."""

    def __init__(self, k: int, full_dimension: int, seed: int | None) -> None:
        self.k = k
        self.full_dimension = full_dimension
        self.seed = seed
        """The seed that regenerates it, or None where its tensors are stored."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that decides the map, by name."""

    @classmethod
    @abstractmethod
    def pack(cls, operators: Sequence[Any]) -> PackedOperator:
        """Several operators, all of this kind, as one. Raises ValueError where one is no longer what it was made as."""

    def matrix(self) -> Tensor:
        """A itself, (D, k); for checks on small problems."""
        return self.columns_at(torch.arange(self.k)).T

    def columns_at(self, places: Tensor) -> Tensor:
        """Some columns of A, as rows: places (n,) to (n, D)."""
        device = next((tensor.device for tensor in self.tensors().values()), None)
        unit = torch.zeros(len(places), self.k, device=device)
        unit[torch.arange(len(places)), places] = 1.0
        return self.pack([self] * len(places)).forward(unit)

    def rank(self) -> int | None:
        """The rank of the map counted exactly, or None where that would cost more than the training it audits."""
        return _rank(self.columns_at(torch.arange(self.k))) if self.k <= _rank_columns(self.full_dimension) else None

    def sampled_columns_are_independent(self) -> bool:
        """Whether a spread-out sample of columns has full rank."""
        sample = torch.linspace(0, self.k - 1, min(self.k, _rank_columns(self.full_dimension))).long()
        return _rank(self.columns_at(sample)) == len(sample)


class PackedOperator(ABC):
    """P operators side by side; theta is (P, K), K the largest k, zero beyond each trial's own k."""

    @abstractmethod
    def forward(self, theta: Tensor, offset: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """offset + A theta: (P, K) and (P, D) to (P, D).

        `out` (P, D) lends memory, for fresh pages cost more than the arithmetic; the result lies there or elsewhere.
        """

    @abstractmethod
    def adjoint(self, weights: Tensor) -> Tensor:
        """A' w: (P, D) to (P, K), zero beyond each trial's own k."""

    @abstractmethod
    def keep(self, rows: Tensor) -> Self:
        """The packed operator of some rows: `rows` holds their indices."""


def pack(operators: Sequence[Operator]) -> PackedOperator:
    """The operators of a pack as one. Raises ValueError where they are of several kinds."""
    if len({type(operator) for operator in operators}) > 1:
        raise ValueError(f"a pack holds one kind of operator; got {sorted({operator.kind for operator in operators})}")
    return operators[0].pack(operators)


def stack(rows: Sequence[Tensor]) -> Tensor:
    """torch.stack, but a single row is not copied: a large network's D numbers would take as much memory again."""
    return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(list(rows))


def moved_by(offset: Tensor | None, moved: Tensor, out: Tensor | None) -> Tensor:
    """offset + moved, each (P, D), in `out` where that is lent."""
    return moved if offset is None else torch.add(moved, offset, out=out)


def beyond(operators: Sequence[Operator], width: int, device: torch.device) -> Tensor | None:
    """(P, width): True beyond each operator's own k; None where all have the same."""
    dimensions = torch.tensor([operator.k for operator in operators], device=device)
    if bool((dimensions == width).all()):
        return None
    return torch.arange(width, device=device) >= dimensions.unsqueeze(1)


_RANK_COLUMNS = 256
_RANK_OPERATIONS = 1_000_000_000
_RANK_TOLERANCE = 1e-12


def _rank_columns(full_dimension: int) -> int:
    """How many columns the rank is computed of: as many as cost little beside the training that is audited."""
    return max(2, min(_RANK_COLUMNS, math.isqrt(_RANK_OPERATIONS // full_dimension)))


def _rank(columns: Tensor) -> int:
    """Rank of (n, D) by its Gram matrix in float64: directions that float32 cannot tell from dependent do not count."""
    unit = columns.double()
    unit /= unit.norm(dim=1, keepdim=True).clamp_min(1e-300)
    gram = unit @ unit.T
    # The smallest eigenvalue is at least 1 / trace(inverse) and the largest at most the trace: nearly always that will do,
    # for a tenth of what eigenvalues cost.
    factor, failed = torch.linalg.cholesky_ex(gram)
    if not failed and 1.0 / float(torch.cholesky_inverse(factor).trace()) > _RANK_TOLERANCE * float(gram.trace()):
        return len(columns)
    return int(torch.linalg.matrix_rank(gram, rtol=_RANK_TOLERANCE, hermitian=True))
