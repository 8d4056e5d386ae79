"""Training the last layer on random features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, final

from lowdim_bench.errors import UserError
from lowdim_bench.methods.drawn_mask import SomeTensors
from lowdim_bench.parametrizations.draws import last_layer
from lowdim_bench.problems import Block


@final
class LastLayerOnly(SomeTensors):
    """Weights and biases of the last layer: k of them at random, or all; the features before it stay random."""

    summary: ClassVar[str] = "train the last layer alone, on random features"
    source: ClassVar[str] = "random features: Rahimi & Recht 2008 (NeurIPS 21), section 1"
    freedom: ClassVar[str] = "k parameters of the last layer"
    draw: ClassVar[str] = "last_layer"
    members: ClassVar[Callable] = staticmethod(last_layer)
    what: ClassVar[str] = "the last layer"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        """Raises `UserError` where the last layer is the whole network."""
        low, high = super().k_range(blocks)
        if high == blocks[-1].stop:
            raise UserError(
                "This method trains the last layer on the features of those before it, and the task's network has one layer: "
                f"all its {high} parameters would be trained. Choose another task, or -m random_mask."
            )
        return low, high
