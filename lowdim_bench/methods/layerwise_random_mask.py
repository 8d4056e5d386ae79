"""Random pruning at the same density in every tensor."""

from __future__ import annotations

from typing import ClassVar, final

from lowdim_bench.methods.drawn_mask import ScopedMask


@final
class LayerwiseRandomMask(ScopedMask):
    """Every tensor keeps the same share of its weights, chosen at random; but for rounding, so that exactly k are kept."""

    summary: ClassVar[str] = "random mask of equal density in every tensor"
    source: ClassVar[str] = "the uniform control of Evci et al. 2020 (arXiv 1911.11134), section 3"
    draw: ClassVar[str] = "uniform_per_tensor"

    def nested(self) -> bool:
        return True
