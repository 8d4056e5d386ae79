"""What a trial is given before it has seen any data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lowdim_bench.problems.networks import Block


@dataclass(frozen=True)
class Origin:
    """What a trial is given before it has seen any data: a mask or basis that is a function of it is no side information."""

    blocks: tuple[Block, ...]
    initial: Tensor
    """(D,): the initial weights of the trial's replicate."""
    seed: int
    """The trial's own."""
    synaptic_flow: Callable[[Tensor], Tensor]
    """Weights (D,) to their share (D,) in what flows through the network; see `Problem.synaptic_flow`."""

    @property
    def full_dimension(self) -> int:
        return self.blocks[-1].stop

    def reinitialized(self, draw: int = 0) -> Tensor:
        """(D,) on the CPU: other initial weights, the same values in another order within each tensor. `draw` counts them."""
        generator = torch.Generator().manual_seed(self.seed)
        weights = self.initial.cpu()
        for _ in range(draw + 1):  # one after the other, so that each draw has an order of its own
            orders = [torch.randperm(block.stop - block.start, generator=generator) for block in self.blocks]
            pairs = zip(self.blocks, orders, strict=True)
            weights = weights[torch.cat([block.start + order for block, order in pairs])]
        return weights
