"""Training biases alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, final

from lowdim_bench.methods.drawn_mask import SomeTensors
from lowdim_bench.parametrizations.draws import biases


@final
class BiasOnly(SomeTensors):
    """Biases, and shifts of normalizations: k of them at random, or all; weights stay at their initial values."""

    summary: ClassVar[str] = "train biases alone, weights frozen at initialization"
    source: ClassVar[str] = "BitFit: Ben Zaken et al. 2022 (arXiv 2106.10199), section 3"
    freedom: ClassVar[str] = "k biases"
    draw: ClassVar[str] = "biases"
    members: ClassVar[Callable] = staticmethod(biases)
    what: ClassVar[str] = "biases"
