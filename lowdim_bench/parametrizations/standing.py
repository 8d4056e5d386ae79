"""Where a training stands: its parametrization and theta, and, of a map that moves, what was seen of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lowdim_bench.parametrizations.base import Parametrization


class Footprint:
    """Which weights have ever been away from their base: seen from the weights themselves, not from what a map says of them."""

    def __init__(self, base: Tensor) -> None:
        """`base` (P, D): what is added to the map."""
        self._base = base
        self.touched = torch.zeros_like(base, dtype=torch.bool)
        """(P, D): those that were ever away."""
        self.most = torch.zeros(len(base), dtype=torch.int64, device=base.device)
        """(P,): the most that were away at once."""

    def look(self, weights: Tensor) -> None:
        """Take note of weights (P, D)."""
        away = weights != self._base
        self.touched |= away
        self.most = torch.maximum(self.most, away.sum(dim=1))

    def keep(self, rows: Tensor) -> Footprint:
        """That of some rows: `rows` holds their indices."""
        rows = rows.to(self._base.device)
        kept = Footprint(self._base[rows])
        kept.touched, kept.most = self.touched[rows], self.most[rows]
        return kept


@dataclass(frozen=True)
class Movement:
    """What a map that moves did in a training."""

    active: int
    """The most weights that were away from their base at once."""
    touched: Tensor
    """(D,) bool: those that ever were."""
    looks: tuple[int, ...]
    """The steps whose dense gradients chose what was trained."""


@dataclass(frozen=True)
class Standing:
    """Where a training stands."""

    parametrization: Parametrization
    """The one that was prepared; of a map that moves, the fixed one that it has come to."""
    theta: Tensor
    """(k,), in it."""
    movement: Movement | None = None
    """None where the map does not move."""
