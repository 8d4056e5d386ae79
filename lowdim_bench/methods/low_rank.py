"""Weight matrices of low rank, trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import FactoredWeights, LowRank
from lowdim_bench.problems import Block


@final
class LowRankTraining(Method):
    """W = B A for every weight matrix, from the truncated singular value decomposition of its initial weights.

    k gives the rank, the same for all matrices up to their full one; of the last component as many entries are trained as k
    leaves, and the others stay as they begin. Biases and scales of normalization are always among the k numbers, and first.
    """

    summary: ClassVar[str] = "low-rank weight matrices W = B A, trained from scratch"
    source: ClassVar[str] = "Khodak et al. 2021 (arXiv 2105.01029), spectral initialization"
    freedom: ClassVar[str] = "entries of the factors, biases and scales"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return 1, LowRank.largest_k(blocks)

    def prepare(self, setting: Setting) -> FactoredWeights:
        return FactoredWeights.of(LowRank(setting.k, setting.origin), setting.initial)
