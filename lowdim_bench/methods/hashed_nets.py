"""Weight sharing by hashing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import AffineSubspace, LayeredHash
from lowdim_bench.problems import Block


@final
class HashedNets(Method):
    """w_i = sign_i theta_h(i) / sqrt(n_h(i)): the n weights of a tensor in one bucket are one number, but for their signs.

    Each tensor has buckets of its own, in proportion to its size and at least one. A bucket starts where its weights have the
    initial value of its first one, so that weights start as large as ever. Two things differ from the source. Columns of the
    map have unit norm, as everywhere here, so that theta is sqrt(n) times the weights it stands for: plain gradient descent
    moves weights 1 / n times as far as in the source at the same rate, and Adam, whose steps in theta are of the size of the
    rate, 1 / sqrt(n) times, where n is about D / k. And the hash is balanced: the sizes of a tensor's buckets differ by one at
    most, where those of a random hash scatter and some may be empty.
    """

    summary: ClassVar[str] = "share weights within each tensor by a signed, balanced hash; columns of unit norm"
    source: ClassVar[str] = "Chen et al. 2015 (arXiv 1504.04788), section 4"
    freedom: ClassVar[str] = "k shared weights"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return len(blocks), blocks[-1].stop

    def prepare(self, setting: Setting) -> AffineSubspace:
        initial = setting.initial
        shared = LayeredHash.drawn(setting.k, setting.problem.blocks, setting.seed, initial.device)
        return AffineSubspace(torch.zeros_like(initial), shared, shared.start_at(initial))
