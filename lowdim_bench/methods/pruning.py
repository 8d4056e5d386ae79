"""What pruning methods share: which coordinates may go, and which are kept by magnitude."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lowdim_bench.parametrizations import Coordinates
from lowdim_bench.problems import Block

Scope = Literal["all", "weights"]
"""all: every parameter may be pruned. weights: biases and normalization parameters stay, and count towards k."""


def always_kept(blocks: Sequence[Block], scope: Scope) -> Tensor:
    """(D,) bool: the coordinates that pruning leaves alone."""
    kept = torch.zeros(blocks[-1].stop, dtype=torch.bool)
    if scope == "weights":
        for block in blocks:
            kept[block.start : block.stop] = block.role != "weight"
    return kept


def prunable_range(blocks: Sequence[Block], scope: Scope) -> tuple[int, int]:
    """The k that pruning can leave: at least one coordinate, and at least all that it must leave alone."""
    return max(1, int(always_kept(blocks, scope).sum())), blocks[-1].stop


def largest(scores: Tensor, count: int, among: Tensor, protected: Tensor) -> Coordinates:
    """The `count` coordinates of largest score (D,) among those where `among` (D,) holds; protected ones come first.

    Ties go to the lower index, so that the count is exact.
    """
    protected = protected.to(scores.device)
    ranked = torch.where(among, scores, torch.full_like(scores, -math.inf))
    ranked = torch.where(protected, torch.full_like(scores, math.inf), ranked)
    order = torch.sort(ranked, descending=True, stable=True).indices
    return Coordinates(order[:count], len(scores))


def survivors_by_round(full_dimension: int, k: int, rate: float, protected: int = 0) -> list[int]:
    """How many coordinates survive each pruning round, down to exactly k.

    Those that may be pruned, all but `protected` ones, shrink geometrically: by at most `rate` a round, but for rounding.
    """
    prunable, last = full_dimension - protected, max(1, k - protected)
    rounds = max(1, math.ceil(math.log(last / prunable) / math.log(1 - rate) - 1e-9))
    return [protected + round(prunable * (last / prunable) ** (done / rounds)) for done in range(1, rounds)] + [k]
