"""What methods share that move a mask while they train: drop the smallest weights, grow others, go on."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from lowdim_bench.methods.base import Method, Preparation, Setting, Train
from lowdim_bench.parametrizations import AffineSubspace, Coordinates
from lowdim_bench.parametrizations.draws import draw_mask

SEARCH = 0.75
"""The share of the full training in which the mask moves; it is that of Evci et al. 2020."""


class DynamicSparseMask(Method):
    """Train k weights, and from time to time exchange some of them; the mask in the end is trained from the initial weights.

    The search is preparation, and paid for as such: by its gradients, and by the bits of the mask it ends in. So the scored
    training moves k weights and no others, however many the search had touched. It begins at a mask of Erdos-Renyi-kernel
    densities, which stay those of every tensor; new weights begin at zero; the optimizer begins anew with every mask.
    """

    updates: Annotated[int, Field(ge=1, le=10_000)] = 20
    """How often the mask moves, at equal distances in the first three quarters of the full training."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Of the kept weights of a tensor that are exchanged at once, at most."""

    def prepare(self, setting: Setting) -> Preparation:
        generator = torch.Generator().manual_seed(setting.seed)
        kept = draw_mask("erdos_renyi_kernel", setting.k, setting.origin)
        weights = setting.initial
        until = int(SEARCH * setting.full_training.steps)
        every = max(1, until // self.updates)
        for stop in range(every, until + 1, every):
            subspace = AffineSubspace.masked(weights, kept)
            weights = (yield Train(subspace, start=stop - every, stop=stop)).weights
            scores = self.growth(setting, weights, stop, generator)
            kept = exchanged(setting, weights, kept, scores, self.share_at(stop / until))
        return AffineSubspace.masked(setting.initial, kept)

    def share_at(self, done: float) -> float:
        """The share that is exchanged when `done` of the search is done."""
        return self.share

    @abstractmethod
    def growth(self, setting: Setting, weights: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Scores (D,) of the coordinates at weights (D,) after `step` steps: those of the highest grow."""


def exchanged(setting: Setting, weights: Tensor, kept: Coordinates, scores: Tensor, share: float) -> Coordinates:
    """In each tensor, the share of kept weights of smallest magnitude is dropped, and as many of highest score are grown
    among those that are not kept then. Ties go to the lower index, so that the count is exact."""
    alive = torch.zeros(setting.full_dimension, dtype=torch.bool, device=weights.device)
    alive[kept.indices] = True
    for block in setting.problem.blocks:
        own = alive[block.start : block.stop]  # a view: what is written to it is written to the mask
        count = int(share * int(own.sum()))
        if not count:
            continue
        magnitudes = weights[block.start : block.stop].abs().masked_fill(~own, torch.inf)
        own[magnitudes.sort(stable=True).indices[:count]] = False
        candidates = scores[block.start : block.stop].masked_fill(own, -torch.inf)
        own[candidates.sort(descending=True, stable=True).indices[:count]] = True
    return Coordinates(alive.nonzero().squeeze(1), setting.full_dimension)
