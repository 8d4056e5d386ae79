"""CP decomposition by least squares over rows that are sampled by their leverage."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

from pydantic import Field

from lowdim_bench.methods.decomposition import Decomposition
from lowdim_bench.problems import RowSampling


@final
class CpByLeverage(Decomposition):
    """As `cp_als`, but each least-squares problem is solved over `samples` rows, drawn by a product of leverage scores.

    `combine` solves a row that is drawn several times once. `deterministic` includes all rows with a probability above 1 /
    samples, and draws the others. The fit that counts is computed from the whole tensor all the same.
    """

    summary: ClassVar[str] = "CP decomposition from rows sampled by leverage (CP-ARLS-LEV)"
    source: ClassVar[str] = "Larsen & Kolda 2022 (arXiv 2006.16438)"

    samples: Annotated[int, Field(ge=1, le=2**22)] = 1024
    combine: bool = True
    deterministic: bool = False

    def rows(self, seed: int) -> RowSampling:
        return RowSampling(self.samples, "leverage", self.combine, self.deterministic, seed)
