"""Iterative magnitude pruning with rewinding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field

from lowdim_bench.methods.base import Method, Preparation, Setting, Train
from lowdim_bench.methods.pruning import Scope, always_kept, largest, prunable_range, survivors_by_round
from lowdim_bench.parametrizations import AffineSubspace, Coordinates
from lowdim_bench.problems import Block


@final
class IterativeMagnitudePruning(Method):
    """Train, prune the smallest of the surviving weights, rewind the survivors to step `rewind_step`; until k survive.

    Rounds prune equal fractions, at most `rate` each, so that exactly k survive. Every round trains from the rewind step to
    the end of the full-training recipe, so its total budget is constant.
    """

    summary: ClassVar[str] = "iterative magnitude pruning with rewinding (lottery tickets)"
    source: ClassVar[str] = "Frankle & Carbin 2019 (arXiv 1803.03635); Frankle et al. 2020 (arXiv 1912.05671)"

    rate: Annotated[float, Field(gt=0, lt=1)] = 0.2
    rewind_step: Annotated[int, Field(ge=0)] = 0
    scope: Scope = "all"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return prunable_range(blocks, self.scope)

    def prepare(self, setting: Setting) -> Preparation:
        protected = always_kept(setting.problem.blocks, self.scope)
        rewound = setting.initial
        if self.rewind_step:
            rewound = (yield Train(AffineSubspace.full_space(rewound), start=0, stop=self.rewind_step)).weights
        kept = Coordinates(torch.arange(setting.full_dimension, device=rewound.device), setting.full_dimension)
        alive = torch.ones(setting.full_dimension, dtype=torch.bool, device=rewound.device)
        for count in survivors_by_round(setting.full_dimension, setting.k, self.rate, int(protected.sum())):
            subspace = AffineSubspace.masked(rewound, kept)
            trained = yield Train(subspace, start=self.rewind_step, stop=setting.full_training.steps)
            kept = largest(trained.weights.abs(), count, alive, protected)
            alive = torch.zeros_like(alive)
            alive[kept.indices] = True
        return AffineSubspace.masked(rewound, kept)
