"""Training k randomly chosen weights, all others zero."""

from __future__ import annotations

from typing import ClassVar, final

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import AffineSubspace, Coordinates


@final
class RandomMask(Method):
    """A uniformly random mask over all parameters: the control for every chosen mask."""

    summary: ClassVar[str] = "uniformly random mask (control for chosen masks)"
    source: ClassVar[str] = "the random-pruning control of Frankle & Carbin 2019 (arXiv 1803.03635)"

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> AffineSubspace:
        kept = Coordinates.random(setting.k, setting.full_dimension, setting.seed, setting.initial.device)
        return AffineSubspace.masked(setting.initial, kept)
