"""What pruning methods share: which coordinates may go, and which are kept by magnitude."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Literal

import torch
from torch import Tensor

from lowdim_bench.methods.base import Setting, Train, Trained
from lowdim_bench.parametrizations import AffineSubspace, Coordinates
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


def prune_iteratively(
    setting: Setting, rewound: Tensor, start: int, rate: float, scope: Scope
) -> Generator[Train, Trained, Coordinates]:
    """Train survivors from weights (D,) and step `start` to the end of the recipe, prune the smallest, rewind; until k survive.

    Rounds prune equal fractions, at most `rate` each, so that exactly k survive.
    """
    protected = always_kept(setting.problem.blocks, scope)
    kept = Coordinates(torch.arange(setting.full_dimension, device=rewound.device), setting.full_dimension)
    for count in survivors_by_round(setting.full_dimension, setting.k, rate, int(protected.sum())):
        subspace = AffineSubspace.masked(rewound, kept)
        trained = yield Train(subspace, start=start, stop=setting.full_training.steps)
        kept = largest(trained.weights.abs(), count, members(kept), protected)
    return kept


def members(kept: Coordinates) -> Tensor:
    """(D,) bool: which coordinates are kept."""
    alive = torch.zeros(kept.full_dimension, dtype=torch.bool, device=kept.indices.device)
    alive[kept.indices] = True
    return alive


def shuffled(kept: Coordinates, blocks: Sequence[Block], seed: int) -> Coordinates:
    """As many coordinates of each tensor, at random places within it."""
    generator = torch.Generator().manual_seed(seed)
    alive = members(kept).cpu()
    places = []
    for block in blocks:
        order = block.start + torch.randperm(block.stop - block.start, generator=generator)
        places.append(order[: int(alive[block.start : block.stop].sum())])
    return Coordinates(torch.cat(places).to(kept.indices.device), kept.full_dimension)


def survivors_by_round(full_dimension: int, k: int, rate: float, protected: int = 0) -> list[int]:
    """How many coordinates survive each pruning round, down to exactly k.

    Those that may be pruned, all but `protected` ones, shrink geometrically: by at most `rate` a round, but for rounding.
    """
    prunable, last = full_dimension - protected, max(1, k - protected)
    rounds = max(1, math.ceil(math.log(last / prunable) / math.log(1 - rate) - 1e-9))
    return [protected + round(prunable * (last / prunable) ** (done / rounds)) for done in range(1, rounds)] + [k]
