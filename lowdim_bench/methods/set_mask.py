"""A mask found by sparse evolutionary training."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from lowdim_bench.methods.base import Setting
from lowdim_bench.methods.dynamic_sparse import DynamicSparseMask


@final
class SetMask(DynamicSparseMask):
    """Sparse evolutionary training: the smallest weights make way for random ones; then the mask is trained from the start."""

    summary: ClassVar[str] = "mask found by sparse evolutionary training (SET)"
    source: ClassVar[str] = "Mocanu et al. 2018 (arXiv 1707.04780)"
    freedom: ClassVar[str] = "the k kept weights"
    side_information: ClassVar[str] = "the mask"
    data_seen: ClassVar[str] = "three quarters of a training of k weights"

    def growth(self, setting: Setting, weights: Tensor, step: int, generator: torch.Generator) -> Tensor:
        return torch.rand(setting.full_dimension, generator=generator).to(weights.device)
