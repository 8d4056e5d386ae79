"""Iterative magnitude pruning with rewinding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from lowdim_bench.methods.base import Method, Preparation, Setting, Train
from lowdim_bench.methods.pruning import Scope, prunable_range, prune_iteratively, shuffled
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.problems import Block


@final
class IterativeMagnitudePruning(Method):
    """Train, prune the smallest of the surviving weights, rewind the survivors to step `rewind_step`; until k survive.

    Rounds prune equal fractions, at most `rate` each, so that exactly k survive. Every round trains from the rewind step to
    the end of the full-training recipe, so its total budget is constant.
    """

    summary: ClassVar[str] = "iterative magnitude pruning with rewinding (lottery tickets)"
    source: ClassVar[str] = "Frankle & Carbin 2019 (arXiv 1803.03635); Frankle et al. 2020 (arXiv 1912.05671)"

    freedom: ClassVar[str] = "the k kept weights"
    side_information: ClassVar[str] = "a mask; with rewinding, the weights of that step"
    data_seen: ClassVar[str] = "full trainings, one a round"

    rate: Annotated[float, Field(gt=0, lt=1)] = 0.2
    rewind_step: Annotated[int, Field(ge=0)] = 0
    scope: Scope = "all"
    control: Literal["none", "reinitialized", "shuffled"] = "none"
    """What the ticket is to be compared with. reinitialized: its mask, with other initial weights. shuffled: its weights, but
    the mask shuffled within each tensor."""

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return prunable_range(blocks, self.scope)

    def prepare(self, setting: Setting) -> Preparation:
        rewound = setting.initial
        if self.rewind_step:
            rewound = (yield Train(AffineSubspace.full_space(rewound), start=0, stop=self.rewind_step)).weights
        kept = yield from prune_iteratively(setting, rewound, self.rewind_step, self.rate, self.scope)
        if self.control == "reinitialized":
            return AffineSubspace.masked(setting.origin.reinitialized().to(rewound.device), kept)
        if self.control == "shuffled":
            kept = shuffled(kept, setting.problem.blocks, setting.seed)
        return AffineSubspace.masked(rewound, kept)
