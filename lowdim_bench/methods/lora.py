"""Low-rank updates of the initial weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import FactoredWeights, LowRankUpdate
from lowdim_bench.problems import Block


@final
class LowRankAdaptation(Method):
    """W = W_0 + B A for every weight matrix, A drawn from the seed, B zero at first; biases stay as they are.

    k gives the rank, the same for all matrices up to their full one; of the last component as many entries are trained as k
    leaves, those of B first.
    """

    summary: ClassVar[str] = "LoRA: low-rank updates W_0 + B A of the initial weights"
    source: ClassVar[str] = "Hu et al. 2021 (arXiv 2106.09685)"
    freedom: ClassVar[str] = "entries of A and B"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return 1, LowRankUpdate.largest_k(blocks)

    def prepare(self, setting: Setting) -> FactoredWeights:
        return FactoredWeights.of(LowRankUpdate(setting.k, setting.origin), setting.initial)
