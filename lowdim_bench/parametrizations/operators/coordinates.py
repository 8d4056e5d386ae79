"""Maps that move coordinates alone: all of them, or those that a mask leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, final

import torch
from torch import Tensor

from lowdim_bench.parametrizations.operators.base import Operator, PackedOperator, beyond, moved_by


@final
class FullSpace(Operator):
    """The identity: training in all D dimensions."""

    kind = "full_space"
    nested = True

    def __init__(self, full_dimension: int) -> None:
        super().__init__(full_dimension, full_dimension, seed=0)

    def tensors(self) -> dict[str, Tensor]:
        return {}

    @classmethod
    def pack(cls, operators: Sequence[Self]) -> PackedOperator:
        return _PackedIdentity()

    def start_at(self, initial: Tensor) -> Tensor:
        return initial

    def rank(self) -> int:
        return self.full_dimension


class _PackedIdentity(PackedOperator):
    def forward(self, theta: Tensor, offset: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        return moved_by(offset, theta, out)

    def adjoint(self, weights: Tensor) -> Tensor:
        return weights

    def keep(self, rows: Tensor) -> Self:
        return self


@final
class Coordinates(Operator):
    """The span of k coordinate axes: what a mask leaves trainable."""

    kind = "coordinates"
    nested = True

    def __init__(self, indices: Tensor, full_dimension: int, seed: int | None = None, draw: str = "uniform") -> None:
        """`indices` (k,) int64, distinct. Give `seed` only where they come from it; `draw` names how: as `random` does, or
        another one of `parametrizations.draws.MASKS`."""
        super().__init__(len(indices), full_dimension, seed)
        self.draw = draw if seed is not None else ""
        self.indices = indices.sort().values
        distinct = bool((self.indices.diff() > 0).all())
        if not distinct or (self.k and not 0 <= int(self.indices[0]) <= int(self.indices[-1]) < full_dimension):
            raise ValueError(f"indices must be distinct and lie in 0..{full_dimension - 1}")

    @classmethod
    def random(cls, k: int, full_dimension: int, seed: int, device: torch.device) -> Coordinates:
        """k axes drawn without replacement; the draw at k lies in the draw at every larger k."""
        generator = torch.Generator().manual_seed(seed)
        return cls(torch.randperm(full_dimension, generator=generator)[:k].to(device), full_dimension, seed)

    def tensors(self) -> dict[str, Tensor]:
        return {"indices": self.indices}

    @classmethod
    def pack(cls, operators: Sequence[Self]) -> PackedOperator:
        width = max(operator.k for operator in operators)
        # A shorter row names its last axis again, and puts the same number there again.
        places = torch.stack([one.indices[torch.arange(width).clamp_max(one.k - 1)] for one in operators])
        return _PackedCoordinates(places, beyond(operators, width, places.device), operators[0].full_dimension)

    def start_at(self, initial: Tensor) -> Tensor:
        return initial[self.indices]

    def rank(self) -> int:
        return int(torch.unique(self.indices).numel())


class _PackedCoordinates(PackedOperator):
    def __init__(self, places: Tensor, unused: Tensor | None, full_dimension: int) -> None:
        self._places, self._unused, self._full_dimension = places, unused, full_dimension

    def forward(self, theta: Tensor, offset: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        if self._unused is not None:
            last = (~self._unused).sum(dim=1, keepdim=True) - 1
            theta = torch.where(self._unused, theta.gather(1, last), theta)
        shape = (len(theta), self._full_dimension)
        moved = theta.new_zeros(shape) if out is None else out.zero_()
        return moved_by(offset, moved.scatter_(1, self._places, theta), out)

    def adjoint(self, weights: Tensor) -> Tensor:
        sums = weights.gather(1, self._places)
        return sums if self._unused is None else sums.masked_fill_(self._unused, 0.0)

    def keep(self, rows: Tensor) -> Self:
        rows = rows.to(self._places.device)
        unused = None if self._unused is None else self._unused[rows]
        return type(self)(self._places[rows], unused, self._full_dimension)
