"""Low-rank updates whose factors are combinations of random matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, final

from pydantic import Field

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import BasisAdapters, FactoredWeights
from lowdim_bench.problems import Block


@final
class RandomBasisAdaptation(Method):
    """W = W_0 + (sum_j b_j B_j) (sum_i a_i A_i) for every weight matrix, the B_j and A_i drawn from the seed and frozen.

    k gives the number of bases; `rank` that of the update.
    """

    summary: ClassVar[str] = "NOLA: low-rank updates by coefficients of random bases"
    source: ClassVar[str] = "Koohpayegani et al. 2024 (arXiv 2310.02556)"
    freedom: ClassVar[str] = "the coefficients a and b of every weight matrix"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    rank: Annotated[int, Field(ge=1, le=1024)] = 8

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return 1, BasisAdapters.largest_k(blocks, self.rank)

    def prepare(self, setting: Setting) -> FactoredWeights:
        return FactoredWeights.of(BasisAdapters(setting.k, setting.origin, rank=self.rank), setting.initial)
