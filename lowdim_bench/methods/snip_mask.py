"""Pruning by connection sensitivity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.methods.pruning import Scope, always_kept, largest, prunable_range
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.problems import Block


@final
class SnipMask(Method):
    """Keeps the k largest |gradient * weight| of one mini-batch at the initial weights, all tensors together.

    Biases start at zero, so that with scope "all" they go before any weight.
    """

    summary: ClassVar[str] = "keep the k weights of largest |gradient * weight| at initialization (SNIP)"
    source: ClassVar[str] = "Lee et al. 2019 (arXiv 1810.02340), section 4"
    freedom: ClassVar[str] = "the k kept weights"
    side_information: ClassVar[str] = "a mask"
    data_seen: ClassVar[str] = "one mini-batch"

    examples: Annotated[int, Field(ge=1)] = 100
    scope: Scope = "all"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return prunable_range(blocks, self.scope)

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> AffineSubspace:
        initial = setting.initial
        some = setting.problem.batch_order(self.examples).examples(0)
        _, gradient = setting.problem.loss_and_gradient(initial.unsqueeze(0), some)
        everywhere = torch.ones_like(initial, dtype=torch.bool)
        protected = always_kept(setting.problem.blocks, self.scope)
        kept = largest((gradient[0] * initial).abs(), setting.k, everywhere, protected)
        return AffineSubspace.masked(initial, kept)
