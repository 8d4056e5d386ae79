"""What methods share whose mask moves within the scored training itself."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.methods.dynamic_sparse import SEARCH
from lowdim_bench.parametrizations import AffineSubspace, MovingMask, Rewiring
from lowdim_bench.parametrizations.draws import draw_order

_DRAW = "erdos_renyi_kernel"


class InLoopMask(Method):
    """Train few weights at a time, and others from time to time; k is the union of all that are ever trained, and its limit.

    All others are zero, and so are those that were dropped, or have just grown, whose optimizer begins anew. The mask begins
    at Erdos-Renyi-kernel densities, and moves tensor by tensor in the first three quarters of the training.
    """

    growth: ClassVar[Literal["random", "gradient"]]

    active: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The share of k that is trained at a time; at least one weight."""
    updates: Annotated[int, Field(ge=1, le=10_000)] = 20
    """How often the mask moves, at equal distances."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Of the trained weights of a tensor that are exchanged at once, at most."""

    def prepare(self, setting: Setting) -> AffineSubspace:
        until = max(1, int(SEARCH * setting.problem.training.steps))
        rule = Rewiring(self.growth, self.share, max(1, until // self.updates), until)
        order, count = draw_order(_DRAW, setting.k, setting.origin), max(1, round(self.active * setting.k))
        spans = [(block.start, block.stop) for block in setting.problem.blocks]
        mask = MovingMask(order, spans, count, rule, setting.seed, _DRAW)
        return AffineSubspace(torch.zeros_like(setting.initial), mask, mask.start_at(setting.initial))
