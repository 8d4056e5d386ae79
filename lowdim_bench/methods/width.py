"""A narrower network: the first neurons of every hidden layer, all others absent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from lowdim_bench.errors import UserError
from lowdim_bench.methods.drawn_mask import DrawnMask
from lowdim_bench.problems import Block


@final
class Width(DrawnMask):
    """Whole neurons, as many of every hidden layer in proportion as k allows; of the next ones, as many parameters as are left.

    The initial weights of the neurons that stay are those of the full width.
    """

    summary: ClassVar[str] = "a narrower network: the first neurons of every hidden layer"
    source: ClassVar[str] = "width as the number of parameters: Kazemipour et al. 2020 (arXiv 2001.00098)"
    freedom: ClassVar[str] = "the parameters of the first neurons of every hidden layer"
    draw: ClassVar[str] = "width"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        """Raises `UserError` where the network does not say where its neurons are."""
        if any(len(block.neurons) != len(block.shape) for block in blocks):
            raise UserError(
                "This method makes a network narrower, and the task's network does not say which parameters belong to which "
                "neuron. Choose a task with an mlp, a convnet, a quadratic network or a pixel_feed_forward network."
            )
        return super().k_range(blocks)

    def nested(self) -> bool:
        return True
