"""Updates by frozen random matrices with trained scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import FactoredWeights, VectorAdapters
from lowdim_bench.problems import Block


@final
class VectorBasedAdaptation(Method):
    """W = W_0 + diag(b) B diag(d) A for every weight matrix: B and A are drawn from the seed, frozen and shared by all.

    k gives the rank, that is the length of every d; every b has as many entries as the matrix has outputs.
    """

    summary: ClassVar[str] = "VeRA: trained scales of shared frozen random matrices"
    source: ClassVar[str] = "Kopiczko et al. 2024 (arXiv 2310.11454)"
    freedom: ClassVar[str] = "the vectors b and d of every weight matrix"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return 1, VectorAdapters.largest_k(blocks)

    def prepare(self, setting: Setting) -> FactoredWeights:
        return FactoredWeights.of(VectorAdapters(setting.k, setting.origin), setting.initial)
