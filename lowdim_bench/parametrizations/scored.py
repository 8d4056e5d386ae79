"""Initial weights under a mask that follows from a score for each of them: what edge-popup trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, final

import torch
from torch import Tensor

from lowdim_bench.parametrizations.maps import Map, PackedMap, moved_by

if TYPE_CHECKING:  # problems load the compiler of their kernels
    from lowdim_bench.problems import Block


@final
class ScoredMask(Map):
    """Scores (D,) to weights (D,): each weight tensor keeps the initial weights whose scores are largest in magnitude.

    Its gradient goes straight through the choice, as if the magnitude of each score scaled its weight (Ramanujan et al. 2020,
    arXiv 1911.13299, section 3, with magnitudes as in the authors' code). Biases and normalizations stay as initialized.
    It is a way to a mask in preparation: no trial is scored with it.
    """

    kind = "scored_mask"

    def __init__(self, initial: Tensor, blocks: Sequence[Block], density: float) -> None:
        """`density`: the share of each weight tensor (initial: (D,)) that is kept; at least one weight."""
        super().__init__(len(initial), len(initial), seed=None)
        self.initial, self.density = initial, density
        self.scored = tuple(block for block in blocks if block.role == "weight")

    def tensors(self) -> dict[str, Tensor]:
        return {"initial": self.initial}

    def initial_scores(self, generator: torch.Generator) -> Tensor:
        """(D,): uniform within +-1 / sqrt(fan-in), as in the authors' code; zero where there is nothing to score."""
        scores = torch.zeros(self.k)
        for block in self.scored:
            width = block.fan_in**-0.5
            scores[block.start : block.stop].uniform_(-width, width, generator=generator)
        return scores.to(self.initial.device)

    @classmethod
    def pack(cls, operators: Sequence[Self]) -> PackedMap:
        return _PackedScores(operators)


class _PackedScores(PackedMap):
    def __init__(self, operators: Sequence[ScoredMask]) -> None:
        self._operators = list(operators)
        self._initial = torch.stack([operator.initial for operator in operators])
        self._scored = torch.zeros(self._initial.shape[1], dtype=torch.bool, device=self._initial.device)
        for block in operators[0].scored:
            self._scored[block.start : block.stop] = True

    def forward(self, theta: Tensor, offset: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        first = self._operators[0]
        kept = torch.ones_like(theta, dtype=torch.bool)
        for block in first.scored:
            sizes = theta[:, block.start : block.stop].abs()
            count = max(1, round(first.density * sizes.shape[1]))
            best = sizes.sort(dim=1, descending=True, stable=True).indices[:, :count]  # ties go to the lower index
            kept[:, block.start : block.stop] = torch.zeros_like(sizes, dtype=torch.bool).scatter_(1, best, value=True)
        return moved_by(offset, torch.where(kept, self._initial, 0.0), out)  # a product would leave zeros with signs

    def pull_back(self, theta: Tensor, gradient: Tensor) -> Tensor:
        return (
            gradient * self._initial * theta.sign() * self._scored
        )  # of magnitudes: a kept weight that hurts loses, of either sign

    def keep(self, rows: Tensor) -> Self:
        return type(self)([self._operators[int(row)] for row in rows])
