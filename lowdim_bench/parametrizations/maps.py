"""What a map from k numbers to the parameters of a network is, alone and in a pack, whether linear or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lowdim_bench.parametrizations.operators import Coordinates


class Map(ABC):
    """A fixed map from R^k to R^D, a pure function of the k numbers."""

    kind: str
    """Its name in records."""
    shared: ClassVar[bool] = False
    """Whether the trials of a pack share most of what the map reads, so that mapping them at once is worth more than caches."""
    moves: ClassVar[bool] = False
    """Whether training itself changes what each number is for: then what it came to is measured afterwards."""

    def __init__(self, k: int, full_dimension: int, seed: int | None) -> None:
        self.k = k
        self.full_dimension = full_dimension
        self.seed = seed
        """The seed that regenerates it, or None where its tensors are stored."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that decides the map, by name."""

    def start_at(self, initial: Tensor) -> Tensor | None:
        """Where theta (k,) starts at initial weights (D,); None where it moves no weights by themselves: at zeros."""
        return None

    @classmethod
    @abstractmethod
    def pack(cls, operators: Sequence[Any]) -> PackedMap:
        """Several maps, all of this kind, as one. Raises ValueError where one is no longer what it was made as."""


class PackedMap(ABC):
    """P maps side by side; theta is (P, K), K the largest k, zero beyond each trial's own k."""

    constant: ClassVar[bool] = True
    """Whether every step of a training is alike, so that a recording of one stands for all."""

    def begin(self, step: int) -> None:
        """Is told of each step of a training, by its number in the recipe, before that is taken."""
        return

    @abstractmethod
    def forward(self, theta: Tensor, offset: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """offset + M(theta): (P, K) and (P, D) to (P, D).

        `out` (P, D) lends memory, for fresh pages cost more than the arithmetic; the result lies there or elsewhere.
        """

    @abstractmethod
    def pull_back(self, theta: Tensor, gradient: Tensor) -> Tensor:
        """J' g, the Jacobian J taken at theta: (P, K) and (P, D) to (P, K), zero beyond each trial's own k."""

    def settle(self, theta: Tensor) -> Tensor | None:
        """Is shown theta (P, K) after each step, whose gradient was the last one pulled back, and may change what its numbers
        are for. Returns for which of them, (P, K) bool, the optimizer begins anew; None where nothing changed."""
        return None

    @abstractmethod
    def keep(self, rows: Tensor) -> Self:
        """The packed map of some rows: `rows` holds their indices."""


class PackedMovingMap(PackedMap):
    """P maps that move, side by side."""

    @abstractmethod
    def stands(self, row: int) -> tuple[Coordinates, tuple[int, ...]]:
        """The weights that a row's training has opened, and the steps whose dense gradients chose them."""


def pack(operators: Sequence[Map]) -> PackedMap:
    """The maps of a pack as one. Raises ValueError where they are of several kinds."""
    if len({type(operator) for operator in operators}) > 1:
        raise ValueError(f"a pack holds one kind of operator; got {sorted({operator.kind for operator in operators})}")
    return operators[0].pack(operators)


def stack(rows: Sequence[Tensor]) -> Tensor:
    """torch.stack, but a single row is not copied: a large network's D numbers would take as much memory again."""
    return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(list(rows))


def moved_by(offset: Tensor | None, moved: Tensor, out: Tensor | None) -> Tensor:
    """offset + moved, each (P, D), in `out` where that is lent."""
    return moved if offset is None else torch.add(moved, offset, out=out)
