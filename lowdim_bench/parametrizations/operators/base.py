"""What a linear map is, alone and in a pack, and how its rank is measured."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lowdim_bench.parametrizations import maps
from lowdim_bench.parametrizations.maps import Map, PackedMap, moved_by, stack

__all__ = ["Operator", "PackedOperator", "beyond", "moved_by", "pack", "rank_columns", "rank_of", "stack"]


class Operator(Map):
    """A fixed linear map from R^k to R^D."""

    nested: ClassVar[bool] = False
    """Whether, from one seed, the span at k lies in the span at every larger k."""
    draw: str = ""
    """How its seed draws it, where there are several ways: see `parametrizations.draws`."""

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
        return rank_of(self.columns_at(torch.arange(self.k))) if self.k <= rank_columns(self.full_dimension) else None

    def sampled_columns_are_independent(self) -> bool:
        """Whether a spread-out sample of columns has full rank."""
        sample = torch.linspace(0, self.k - 1, min(self.k, rank_columns(self.full_dimension))).long()
        return rank_of(self.columns_at(sample)) == len(sample)


class PackedOperator(PackedMap):
    """P linear maps side by side: the Jacobian is the matrix, wherever theta is."""

    def pull_back(self, theta: Tensor, gradient: Tensor) -> Tensor:
        return self.adjoint(gradient)

    @abstractmethod
    def adjoint(self, weights: Tensor) -> Tensor:
        """A' w: (P, D) to (P, K), zero beyond each trial's own k."""


def pack(operators: Sequence[Operator]) -> PackedOperator:
    """The operators of a pack as one. Raises ValueError where they are of several kinds."""
    packed = maps.pack(operators)
    assert isinstance(packed, PackedOperator)
    return packed


def beyond(operators: Sequence[Operator], width: int, device: torch.device) -> Tensor | None:
    """(P, width): True beyond each operator's own k; None where all have the same."""
    dimensions = torch.tensor([operator.k for operator in operators], device=device)
    if bool((dimensions == width).all()):
        return None
    return torch.arange(width, device=device) >= dimensions.unsqueeze(1)


_RANK_COLUMNS = 256
_RANK_OPERATIONS = 1_000_000_000
_RANK_TOLERANCE = 1e-12


def rank_columns(full_dimension: int) -> int:
    """How many columns the rank is computed of: as many as cost little beside the training that is audited."""
    return max(2, min(_RANK_COLUMNS, math.isqrt(_RANK_OPERATIONS // full_dimension)))


def rank_of(columns: Tensor) -> int:
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
