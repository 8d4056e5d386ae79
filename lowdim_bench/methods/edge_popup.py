"""A supermask: initial weights that need no training, only a choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field

from lowdim_bench.methods.base import Method, Preparation, Setting, Train
from lowdim_bench.parametrizations import AffineSubspace, Coordinates, Parametrization, ScoredMask
from lowdim_bench.problems import Block


@final
class EdgePopup(Method):
    """Initial weights under a mask found by edge-popup; of the kept ones, the k largest are trained, the others never.

    Every weight has a score that the task's full training moves, straight through the choice of the largest scores of each
    layer. The answer is in the mask: where it does all the work, one trained number is enough, and the side information, about
    D bits at a density of a half, is the price to look at.
    """

    summary: ClassVar[str] = "supermask by edge-popup: untrained weights chosen by trained scores"
    source: ClassVar[str] = "Ramanujan et al. 2020 (arXiv 1911.13299); Zhou et al. 2019 (arXiv 1905.01067)"
    freedom: ClassVar[str] = "k of the kept weights; the others stay at their initial values"
    side_information: ClassVar[str] = "the mask of all kept weights, and which of them are trained"
    data_seen: ClassVar[str] = "a full training, of scores"

    density: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share of each weight tensor that is kept."""

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        """k weights of those that are kept."""
        sizes = [block.stop - block.start for block in blocks if block.role == "weight"]
        return 1, sum(max(1, round(self.density * size)) for size in sizes)

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> Preparation:
        scores = ScoredMask(setting.initial, setting.problem.blocks, self.density)
        start = scores.initial_scores(torch.Generator().manual_seed(setting.seed))
        masked = Parametrization(torch.zeros_like(start), scores, start)
        kept = (yield Train(masked, start=0, stop=setting.full_training.steps)).weights
        among_weights = torch.zeros_like(kept)
        for block in scores.scored:
            among_weights[block.start : block.stop] = kept[block.start : block.stop].abs()
        moved = among_weights.sort(descending=True, stable=True).indices[: setting.k].sort().values
        return AffineSubspace(kept.index_fill(0, moved, 0.0), Coordinates(moved, setting.full_dimension), kept[moved])
