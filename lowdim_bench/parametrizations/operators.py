"""Linear maps A from R^k to R^D: the directions in which training may move.

Each operator works for one trial or, packed with others of its kind, for P trials at once. Columns have unit norm, so that a
step in theta is a step of the same length in weights. A seeded operator is regenerated from its seed and stores nothing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self, TypeVar, final

import torch
from scipy.linalg import hadamard
from torch import Tensor


class Operator(ABC):
    """A fixed linear map from R^k to R^D."""

    kind: str
    """Its name in records."""
    nested: ClassVar[bool] = False
    """Whether, from one seed, the span at k lies in the span at every larger k."""

    def __init__(self, k: int, full_dimension: int, seed: int | None) -> None:
        self.k = k
        self.full_dimension = full_dimension
        self.seed = seed
        """The seed that regenerates it, or None where its tensors are stored."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that decides the map, by name."""

    def matrix(self) -> Tensor:
        """A itself, (D, k); for checks on small problems."""
        return self.columns_at(torch.arange(self.k)).T

    def columns_at(self, places: Tensor) -> Tensor:
        """Some columns of A, as rows: places (n,) to (n, D)."""
        device = next((tensor.device for tensor in self.tensors().values()), None)
        unit = torch.zeros(len(places), self.k, device=device)
        unit[torch.arange(len(places)), places] = 1.0
        return pack([self] * len(places)).forward(unit)

    def rank(self) -> int | None:
        """The rank of the map counted exactly, or None where that would cost more than the training it audits."""
        return _rank(self.columns_at(torch.arange(self.k))) if self.k <= _rank_columns(self.full_dimension) else None

    def sampled_columns_are_independent(self) -> bool:
        """Whether a spread-out sample of columns has full rank."""
        sample = torch.linspace(0, self.k - 1, min(self.k, _rank_columns(self.full_dimension))).long()
        return _rank(self.columns_at(sample)) == len(sample)


_RANK_COLUMNS = 256
_RANK_OPERATIONS = 1_000_000_000


def _rank_columns(full_dimension: int) -> int:
    """How many columns the rank is computed of: as many as cost little beside the training that is audited."""
    return max(2, min(_RANK_COLUMNS, math.isqrt(_RANK_OPERATIONS // full_dimension)))


def _rank(columns: Tensor) -> int:
    """Rank of (n, D) by its Gram matrix in float64: directions that float32 cannot tell from dependent do not count."""
    unit = columns.double()
    unit /= unit.norm(dim=1, keepdim=True).clamp_min(1e-300)
    return int(torch.linalg.matrix_rank(unit @ unit.T, rtol=1e-12, hermitian=True))


class PackedOperator(ABC):
    """P operators side by side; theta is (P, K), K the largest k, zero beyond each trial's own k."""

    @abstractmethod
    def forward(self, theta: Tensor) -> Tensor:
        """A theta: (P, K) to (P, D)."""

    @abstractmethod
    def adjoint(self, weights: Tensor) -> Tensor:
        """A' w: (P, D) to (P, K), zero beyond each trial's own k."""

    @abstractmethod
    def keep(self, rows: Tensor) -> Self:
        """The packed operator of some rows: `rows` holds their indices."""


@final
class FullSpace(Operator):
    """The identity: training in all D dimensions."""

    kind = "full_space"
    nested = True

    def __init__(self, full_dimension: int) -> None:
        super().__init__(full_dimension, full_dimension, seed=0)

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def rank(self) -> int:
        return self.full_dimension


class _PackedIdentity(PackedOperator):
    def forward(self, theta: Tensor) -> Tensor:
        return theta

    def adjoint(self, weights: Tensor) -> Tensor:
        return weights

    def keep(self, rows: Tensor) -> Self:
        return self


class _OneEntryRows(Operator):
    """An operator whose every row has at most one entry: w_i = scale_i * theta[bucket_i]. O(D) time and memory."""

    @abstractmethod
    def rows(self) -> tuple[Tensor, Tensor]:
        """bucket (D,) int64 and scale (D,) float32; scale 0 where a coordinate does not move."""

    def rank(self) -> int:
        bucket, scale = self.rows()
        return int(torch.unique(bucket[scale != 0]).numel())  # columns of disjoint support are independent


class _PackedOneEntryRows(PackedOperator):
    def __init__(self, bucket: Tensor, scale: Tensor, width: int) -> None:
        self._bucket, self._scale, self._width = bucket, scale, width

    def forward(self, theta: Tensor) -> Tensor:
        return theta.gather(1, self._bucket).mul_(self._scale)

    def adjoint(self, weights: Tensor) -> Tensor:
        sums = weights.new_zeros(weights.shape[0], self._width)
        return sums.scatter_add_(1, self._bucket, weights * self._scale)

    def keep(self, rows: Tensor) -> Self:
        return type(self)(self._bucket[rows], self._scale[rows], self._width)


@final
class SignedHash(_OneEntryRows):
    """Every coordinate goes to one of k buckets with a random sign: exactly orthonormal columns, O(D) time.

    Buckets are cut from a random permutation, so that their sizes differ by at most one and none is empty at any k <= D.
    A count sketch (Charikar et al. 2002) balanced over its buckets; as a subspace also HashedNets without its layers.
    """

    kind = "signed_hash"

    def __init__(self, k: int, full_dimension: int, seed: int, device: torch.device) -> None:
        super().__init__(k, full_dimension, seed)
        generator = torch.Generator().manual_seed(seed)
        bucket = torch.randperm(full_dimension, generator=generator) % k
        sign = torch.randint(0, 2, (full_dimension,), generator=generator, dtype=torch.float32).mul_(2).sub_(1)
        size = torch.bincount(bucket, minlength=k).float()
        self._bucket = bucket.to(device)
        self._scale = (sign / size.sqrt()[bucket]).to(device)

    def rows(self) -> tuple[Tensor, Tensor]:
        return self._bucket, self._scale

    def tensors(self) -> dict[str, Tensor]:
        return {"bucket": self._bucket, "scale": self._scale}


@final
class Coordinates(_OneEntryRows):
    """The span of k coordinate axes: what a mask leaves trainable."""

    kind = "coordinates"
    nested = True

    def __init__(self, indices: Tensor, full_dimension: int, seed: int | None = None) -> None:
        """`indices` (k,) int64, distinct. Give `seed` only where `random` drew them."""
        super().__init__(len(indices), full_dimension, seed)
        self.indices = indices.sort().values
        distinct = bool((self.indices.diff() > 0).all())
        if not distinct or (self.k and not 0 <= int(self.indices[0]) <= int(self.indices[-1]) < full_dimension):
            raise ValueError(f"indices must be distinct and lie in 0..{full_dimension - 1}")

    @classmethod
    def random(cls, k: int, full_dimension: int, seed: int, device: torch.device) -> Coordinates:
        """k axes drawn without replacement; the draw at k lies in the draw at every larger k."""
        generator = torch.Generator().manual_seed(seed)
        return cls(torch.randperm(full_dimension, generator=generator)[:k].to(device), full_dimension, seed)

    def rows(self) -> tuple[Tensor, Tensor]:
        bucket = torch.zeros(self.full_dimension, dtype=torch.int64, device=self.indices.device)
        bucket[self.indices] = torch.arange(self.k, device=self.indices.device)
        scale = torch.zeros(self.full_dimension, device=self.indices.device)
        scale[self.indices] = 1.0
        return bucket, scale

    def tensors(self) -> dict[str, Tensor]:
        return {"indices": self.indices}


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
        return cls(_normal_columns(k, full_dimension, seed).to(device), seed, "gaussian")

    @classmethod
    def orthonormal(cls, k: int, full_dimension: int, seed: int, device: torch.device) -> DenseBasis:
        """The Gaussian columns made orthonormal one after the other (QR), which keeps their spans."""
        normal = _normal_columns(k, full_dimension, seed)
        return cls(torch.linalg.qr(normal.T).Q.T.contiguous().to(device), seed, "orthonormal")

    def tensors(self) -> dict[str, Tensor]:
        return {"columns": self.columns}

    def columns_at(self, places: Tensor) -> Tensor:
        return self.columns[places.to(self.columns.device)]


def _normal_columns(k: int, full_dimension: int, seed: int) -> Tensor:
    """(k, D) of unit rows. Drawn row by row, so that the first rows do not depend on how many follow."""
    generator = torch.Generator().manual_seed(seed)
    columns = torch.empty(k, full_dimension)
    for row in columns:
        row.normal_(generator=generator)
    return columns.div_(columns.norm(dim=1, keepdim=True))


class _PackedDense(PackedOperator):
    """One matrix-vector product a trial: every trial has a matrix of its own, so there is nothing to batch."""

    def __init__(self, matrices: Sequence[Tensor], width: int) -> None:
        self._matrices, self._width = list(matrices), width

    def forward(self, theta: Tensor) -> Tensor:
        pairs = zip(theta, self._matrices, strict=True)
        return torch.stack([torch.mv(matrix.T, row[: len(matrix)]) for row, matrix in pairs])

    def adjoint(self, weights: Tensor) -> Tensor:
        result = weights.new_zeros(weights.shape[0], self._width)
        for row, (weight, matrix) in enumerate(zip(weights, self._matrices, strict=True)):
            torch.mv(matrix, weight, out=result[row, : len(matrix)])
        return result

    def keep(self, rows: Tensor) -> Self:
        return type(self)([self._matrices[int(row)] for row in rows], self._width)


@final
class SubsampledHadamard(Operator):
    """A subsampled randomized Hadamard transform: k columns of H, signs and order of its rows random. O(D log D) time.

    Entries are +-1/sqrt(D), so columns have unit norm exactly; before the cut from the next power of two to D they are
    orthogonal, after it nearly so (Tropp 2011; Le et al. 2013 use it inside Fastfood).
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
        """A theta: (k,) to (D,)."""
        spread = theta.new_zeros(self._size)
        spread[self._column] = theta
        return _walsh_hadamard(spread)[self._row] * self._sign

    def apply_adjoint(self, weights: Tensor) -> Tensor:
        """A' w: (D,) to (k,)."""
        spread = weights.new_zeros(self._size)
        spread[self._row] = weights * self._sign
        return _walsh_hadamard(spread)[self._column]


class _PackedHadamard(PackedOperator):
    def __init__(self, operators: Sequence[SubsampledHadamard], width: int) -> None:
        self._operators, self._width = list(operators), width

    def forward(self, theta: Tensor) -> Tensor:
        pairs = zip(theta, self._operators, strict=True)
        return torch.stack([operator.apply(row[: operator.k]) for row, operator in pairs])

    def adjoint(self, weights: Tensor) -> Tensor:
        result = weights.new_zeros(weights.shape[0], self._width)
        for row, (weight, operator) in enumerate(zip(weights, self._operators, strict=True)):
            result[row, : operator.k] = operator.apply_adjoint(weight)
        return result

    def keep(self, rows: Tensor) -> Self:
        return type(self)([self._operators[int(row)] for row in rows], self._width)


def _walsh_hadamard(values: Tensor) -> Tensor:
    """The unnormalized Walsh-Hadamard transform of (n,), n a power of two: a product with a small matrix along each axis."""
    size, shape = values.numel(), []
    while size > 1:
        shape.append(min(64, size))
        size //= shape[-1]
    result = values.reshape(shape or [1])
    for axis, length in enumerate(shape):
        matrix = torch.tensor(hadamard(length), dtype=values.dtype, device=values.device)
        result = (result.movedim(axis, -1) @ matrix).movedim(-1, axis)
    return result.reshape(-1)


_Kind = TypeVar("_Kind", bound=Operator)


def pack(operators: Sequence[Operator]) -> PackedOperator:
    """The operators of a pack as one. Raises ValueError where they are of several kinds."""
    width = max(operator.k for operator in operators)
    if _all_of(FullSpace, operators):
        return _PackedIdentity()
    if one_entry := _all_of(_OneEntryRows, operators):
        rows = [operator.rows() for operator in one_entry]
        return _PackedOneEntryRows(torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows]), width)
    if dense := _all_of(DenseBasis, operators):
        return _PackedDense([operator.columns for operator in dense], width)
    if transforms := _all_of(SubsampledHadamard, operators):
        return _PackedHadamard(transforms, width)
    raise ValueError(f"a pack holds one kind of operator; got {sorted({operator.kind for operator in operators})}")


def _all_of(kind: type[_Kind], operators: Sequence[Operator]) -> list[_Kind]:
    """The operators where all are of a kind, else nothing."""
    found = [operator for operator in operators if isinstance(operator, kind)]
    return found if len(found) == len(operators) else []


RANDOM_OPERATORS = {
    "gaussian": DenseBasis.gaussian,
    "orthonormal": DenseBasis.orthonormal,
    "signed_hash": SignedHash,
    "hadamard": SubsampledHadamard,
}
"""What a random subspace can be drawn with: (k, D, seed, device) -> Operator."""

NESTED_OPERATORS = frozenset({"gaussian", "orthonormal", "hadamard"})
"""Those whose span at k lies, for one seed, in the span at every larger k."""
