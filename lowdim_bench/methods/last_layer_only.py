"""Training the last layer on random features."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, final

from lowdim_bench.methods.drawn_mask import SomeTensors
from lowdim_bench.parametrizations.draws import last_layer


@final
class LastLayerOnly(SomeTensors):
    """Weights and biases of the last layer: k of them at random, or all; the features before it stay random."""

    summary: ClassVar[str] = "train the last layer alone, on random features"
    source: ClassVar[str] = "random features: Rahimi & Recht 2008 (NeurIPS 21), section 1"
    freedom: ClassVar[str] = "k parameters of the last layer"
    draw: ClassVar[str] = "last_layer"
    members: ClassVar[Callable] = staticmethod(last_layer)
    what: ClassVar[str] = "the last layer"
