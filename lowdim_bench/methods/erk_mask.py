"""Random pruning with densities of the Erdos-Renyi kernel."""

from __future__ import annotations

from typing import ClassVar, final

from lowdim_bench.methods.drawn_mask import ScopedMask


@final
class ErkMask(ScopedMask):
    """A tensor's density is in proportion to sum(shape) / prod(shape). What a full tensor cannot take, the others share.

    With scope "all" the formula is applied to every tensor alike: biases, where it is 1, fill up first.
    """

    summary: ClassVar[str] = "random mask with the densities of the Erdos-Renyi kernel (ERK)"
    source: ClassVar[str] = "Mocanu et al. 2018 (arXiv 1707.04780); Evci et al. 2020 (arXiv 1911.11134), section 3"
    draw: ClassVar[str] = "erdos_renyi_kernel"

    def nested(self) -> bool:
        return True
