"""A mask found by RigL."""

from __future__ import annotations

import math
from typing import ClassVar, final

import torch
from torch import Tensor

from lowdim_bench.methods.base import Setting
from lowdim_bench.methods.dynamic_sparse import DynamicSparseMask


@final
class RiglMask(DynamicSparseMask):
    """RigL: the smallest weights make way for those of largest gradient; then the mask is trained from the start.

    The share that is exchanged falls to zero along a cosine. Each update takes one dense gradient on a mini-batch.
    """

    summary: ClassVar[str] = "mask found by RigL (grown by dense gradients)"
    source: ClassVar[str] = "Evci et al. 2020 (arXiv 1911.11134)"
    freedom: ClassVar[str] = "the k kept weights"
    side_information: ClassVar[str] = "the mask"
    data_seen: ClassVar[str] = "three quarters of a training of k weights, and a dense gradient at each update"

    def share_at(self, done: float) -> float:
        return self.share / 2 * (1 + math.cos(math.pi * done))

    def growth(self, setting: Setting, weights: Tensor, step: int, generator: torch.Generator) -> Tensor:
        order = setting.problem.batch_order(setting.full_training.batch_size)
        return setting.problem.loss_and_gradient(weights.unsqueeze(0), order.examples(step))[1][0].abs()
