"""RigL, scored as it trains."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from lowdim_bench.methods.in_loop import InLoopMask


@final
class RiglInLoop(InLoopMask):
    """RigL: the smallest weights make way for those of largest gradient while the scored training goes on.

    The gradient is that of the training step; as it chooses weights, it is charged as preparation too. The share that is
    exchanged falls to zero along a cosine.
    """

    summary: ClassVar[str] = "RigL: the mask moves in the scored training, grown by dense gradients"
    source: ClassVar[str] = "Evci et al. 2020 (arXiv 1911.11134)"
    freedom: ClassVar[str] = "the k weights ever trained, of which a share is at a time"
    side_information: ClassVar[str] = "which weights they are"
    data_seen: ClassVar[str] = "none before; in training, a dense gradient at each move"
    growth: ClassVar[Literal["random", "gradient"]] = "gradient"
