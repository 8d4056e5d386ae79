"""Training normalization parameters alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, final

from lowdim_bench.methods.drawn_mask import SomeTensors
from lowdim_bench.parametrizations.draws import normalizations


@final
class NormalizationOnly(SomeTensors):
    """Scales and shifts of normalizations: k of them at random, or all; everything else stays at its initial values."""

    summary: ClassVar[str] = "train scales and shifts of normalizations alone"
    source: ClassVar[str] = "Frankle et al. 2021 (arXiv 2003.00152), section 3; there batch normalization"
    freedom: ClassVar[str] = "k scales and shifts"
    draw: ClassVar[str] = "normalizations"
    members: ClassVar[Callable] = staticmethod(normalizations)
    what: ClassVar[str] = "scales and shifts of normalizations"
