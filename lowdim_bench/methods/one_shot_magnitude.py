"""Magnitude pruning in one step, with rewinding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field

from lowdim_bench.methods.base import Method, Preparation, Setting, Train
from lowdim_bench.methods.pruning import Scope, always_kept, largest, prunable_range
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.problems import Block


@final
class OneShotMagnitude(Method):
    """Train once in full, keep the k largest weights, rewind them to step `rewind_step`: "lottery tickets" of one round."""

    summary: ClassVar[str] = "keep the k largest trained weights in one step, rewound"
    source: ClassVar[str] = "Han et al. 2015 (arXiv 1506.02626); the lottery tickets of Larsen et al. 2022's code"
    freedom: ClassVar[str] = "the k kept weights"
    side_information: ClassVar[str] = "a mask; with rewinding, the weights of that step"
    data_seen: ClassVar[str] = "one full training"

    rewind_step: Annotated[int, Field(ge=0)] = 0
    scope: Scope = "all"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return prunable_range(blocks, self.scope)

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> Preparation:
        protected = always_kept(setting.problem.blocks, self.scope)
        rewound = setting.initial
        if self.rewind_step:
            rewound = (yield Train(AffineSubspace.full_space(rewound), start=0, stop=self.rewind_step)).weights
        full_space = AffineSubspace.full_space(rewound)
        trained = yield Train(full_space, start=self.rewind_step, stop=setting.full_training.steps)
        everywhere = torch.ones(setting.full_dimension, dtype=torch.bool, device=rewound.device)
        return AffineSubspace.masked(rewound, largest(trained.weights.abs(), setting.k, everywhere, protected))
