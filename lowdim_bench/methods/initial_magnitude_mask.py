"""Pruning by magnitude before any training."""

from __future__ import annotations

from typing import ClassVar, final

from lowdim_bench.methods.drawn_mask import ScopedMask


@final
class InitialMagnitudeMask(ScopedMask):
    """The k largest initial weights: the weakest control that still looks at weights. Biases start at zero, and
    with scope "all" go first."""

    summary: ClassVar[str] = "keep the k largest initial weights"
    source: ClassVar[str] = "the magnitude control of Frankle et al. 2021 (arXiv 2009.08576)"
    draw: ClassVar[str] = "magnitude_at_init"

    def nested(self) -> bool:
        return True
