"""Training k randomly chosen weights, all others zero."""

from __future__ import annotations

from typing import ClassVar, final

from lowdim_bench.methods.drawn_mask import ScopedMask


@final
class RandomMask(ScopedMask):
    """A uniformly random mask over all parameters, or all weights: the control for every chosen mask."""

    summary: ClassVar[str] = "uniformly random mask (control for chosen masks)"
    source: ClassVar[str] = "the random-pruning control of Frankle & Carbin 2019 (arXiv 1803.03635)"
    draw: ClassVar[str] = "uniform"

    def nested(self) -> bool:
        return True
