"""Sparse evolutionary training, scored as it trains."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from lowdim_bench.methods.in_loop import InLoopMask


@final
class SetInLoop(InLoopMask):
    """Sparse evolutionary training: the smallest weights make way for random ones while the scored training goes on.

    What grows looks at nothing, so the k weights are a random mask; which of them are trained follows from their sizes.
    """

    summary: ClassVar[str] = "sparse evolutionary training (SET): the mask moves in the scored training"
    source: ClassVar[str] = "Mocanu et al. 2018 (arXiv 1707.04780)"
    freedom: ClassVar[str] = "the k weights ever trained, of which a share is at a time"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"
    growth: ClassVar[Literal["random", "gradient"]] = "random"
