"""Weight sharing by hashing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import AffineSubspace, LayeredHash
from lowdim_bench.problems import Block


@final
class HashedNets(Method):
    """w_i = sign_i theta_h(i): weights of a tensor that hash to the same bucket are one number, but for their signs.

    Each tensor has buckets of its own, in proportion to its size and at least one. A bucket starts at the initial value of its
    first weight, so that weights start as large as ever.
    """

    summary: ClassVar[str] = "share weights within each tensor by a signed hash"
    source: ClassVar[str] = "Chen et al. 2015 (arXiv 1504.04788), section 4"
    freedom: ClassVar[str] = "k shared weights"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return len(blocks), blocks[-1].stop

    def prepare(self, setting: Setting) -> AffineSubspace:
        initial = setting.initial
        shared = LayeredHash.drawn(setting.k, setting.problem.blocks, setting.seed, initial.device)
        return AffineSubspace(torch.zeros_like(initial), shared, shared.start_at(initial))
