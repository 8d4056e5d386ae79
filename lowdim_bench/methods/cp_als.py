"""CP decomposition by alternating least squares."""

from __future__ import annotations

from typing import ClassVar, final

from lowdim_bench.methods.decomposition import Decomposition
from lowdim_bench.problems import RowSampling


@final
class CpByLeastSquares(Decomposition):
    """Alternating least squares (ALS): one factor at a time is solved for, from every entry of the tensor."""

    summary: ClassVar[str] = "CP decomposition of a tensor by alternating least squares"
    source: ClassVar[str] = "Carroll & Chang 1970; Harshman 1970; Kolda & Bader 2009 (doi 10.1137/07070111X)"

    def rows(self, seed: int) -> RowSampling:
        return RowSampling(seed=seed)
