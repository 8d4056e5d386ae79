"""The full space, trained on what a new random basis of each step lets through of the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from lowdim_bench.parametrizations.operators import RANDOM_OPERATORS, Operator, PackedOperator, pack
from lowdim_bench.parametrizations.operators.base import moved_by
from lowdim_bench.seeds import derive


@final
class RedrawnBases(Operator):
    """All D weights are trained; step t sees A_t A_t' g in place of the gradient g, A_t a new random basis of `directions`.

    With plain gradient descent this is random bases descent (Gressmann et al. 2020, arXiv 2011.04720). A step moves the weights
    in the span of its own basis, T steps in that of T bases: what training can change is all of them, and so k = D.
    """

    kind = "redrawn_bases"

    def __init__(self, full_dimension: int, directions: int, drawn_as: str, seed: int) -> None:
        """`drawn_as` is one of `RANDOM_OPERATORS`. Raises ValueError where `directions` do not lie in 1..D, or for another
        name."""
        if not 1 <= directions <= full_dimension:
            raise ValueError(f"a basis has 1 to {full_dimension} directions, not {directions}")
        if drawn_as not in RANDOM_OPERATORS:
            raise ValueError(f"no basis is drawn as '{drawn_as}'; known are {', '.join(RANDOM_OPERATORS)}")
        super().__init__(full_dimension, full_dimension, seed)
        self.directions, self.drawn_as = directions, drawn_as

    def basis(self, step: int, device: torch.device) -> Operator:
        """A_t of a step: its columns have unit norm."""
        assert self.seed is not None
        draw = RANDOM_OPERATORS[self.drawn_as]
        return draw(self.directions, self.full_dimension, derive("basis of a step", self.seed, step), device)

    def tensors(self) -> dict[str, Tensor]:
        return {}

    @classmethod
    def pack(cls, operators: Sequence[Self]) -> PackedOperator:
        return _PackedRedrawn(operators)

    def start_at(self, initial: Tensor) -> Tensor:
        return initial

    def rank(self) -> int:
        return self.full_dimension


class _PackedRedrawn(PackedOperator):
    constant: ClassVar[bool] = False

    def __init__(self, operators: Sequence[RedrawnBases]) -> None:
        self._operators, self._step = list(operators), 0

    def begin(self, step: int) -> None:
        self._step = step

    def forward(self, theta: Tensor, offset: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        return moved_by(offset, theta, out)

    def adjoint(self, weights: Tensor) -> Tensor:
        bases = pack([operator.basis(self._step, weights.device) for operator in self._operators])
        return bases.forward(bases.adjoint(weights))

    def keep(self, rows: Tensor) -> Self:
        return type(self)([self._operators[int(row)] for row in rows])
