"""CP decomposition by least squares over rows that are sampled uniformly."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

from pydantic import Field

from lowdim_bench.methods.decomposition import Decomposition
from lowdim_bench.problems import RowSampling


@final
class CpByUniformRows(Decomposition):
    """The control of `cp_leverage`: as many rows, all of them equally likely."""

    summary: ClassVar[str] = "CP decomposition from rows sampled uniformly (control of cp_leverage)"
    source: ClassVar[str] = "Larsen & Kolda 2022 (arXiv 2006.16438); Battaglino et al. 2018 (arXiv 1701.06600)"

    samples: Annotated[int, Field(ge=1, le=2**22)] = 1024

    def rows(self, seed: int) -> RowSampling:
        return RowSampling(self.samples, "uniform", seed=seed)
