"""Weight matrices as products of two thin ones: in place of the weights, or added to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, final

import torch
from torch import Tensor

from lowdim_bench.parametrizations.factored.base import FactorMap, Factors, Matrix, in_order, matrices, placed

if TYPE_CHECKING:  # at run time these would load the compiler of the kernels, which listing methods does without
    from lowdim_bench.problems import Block, Origin


def ranks_for(k: int, layers: Sequence[Matrix], others: int = 0) -> list[int]:
    """The rank of each matrix: the least r such that `others` numbers and factors of rank r have k numbers together. No
    matrix has more than its full rank. Where k numbers cannot be had, all have their full rank."""
    rank = 1
    while True:
        ranks = [min(rank, layer.largest_rank) for layer in layers]
        count = others + _numbers(layers, ranks)
        if count >= k or all(own == layer.largest_rank for own, layer in zip(ranks, layers, strict=True)):
            return ranks
        rank += 1


def most_numbers(layers: Sequence[Matrix], others: int = 0) -> int:
    """How many numbers factors of full rank have, and `others` with them."""
    return others + _numbers(layers, [layer.largest_rank for layer in layers])


def _numbers(layers: Sequence[Matrix], ranks: Sequence[int]) -> int:
    return sum(rank * (layer.outputs + layer.inputs) for rank, layer in zip(ranks, layers, strict=True))


def _by_component(layers: Sequence[Matrix], ranks: Sequence[int]) -> list[Tensor]:
    """Priorities of the entries of B (outputs, r) and A (r, inputs) of each matrix: component by component, in every matrix
    at once, and in a component first those of B."""
    priorities: list[Tensor] = []
    for layer, rank in zip(layers, ranks, strict=True):
        component = torch.arange(rank)
        priorities.append((2 * component + 1).expand(layer.outputs, rank).reshape(-1))
        priorities.append((2 * component + 2).repeat_interleave(layer.inputs))
    return priorities


def _products(phi: Tensor, layers: Sequence[Matrix], ranks: Sequence[int]) -> list[Tensor]:
    """B A of each matrix, as the numbers of its block, from the entries phi of all of them."""
    found: list[Tensor] = []
    start = 0
    for layer, rank in zip(layers, ranks, strict=True):
        middle, stop = start + layer.outputs * rank, start + (layer.outputs + layer.inputs) * rank
        tall, wide = phi[start:middle].view(layer.outputs, rank), phi[middle:stop].view(rank, layer.inputs)
        found.append(layer.flat(tall @ wide))
        start = stop
    return found


@final
class LowRank(FactorMap):
    """W = B A in place of every weight matrix; biases and the scales of normalization are trained as they are.

    Factors begin at the truncated singular value decomposition of the initial weights, its singular values shared evenly
    between them (spectral initialization, Khodak et al. 2021). Biases and scales come first among the trained numbers, then
    one component of all matrices after the other.
    """

    kind = "low_rank"
    from_initial: ClassVar[bool] = False

    @classmethod
    def largest_k(cls, blocks: Sequence[Block]) -> int:
        """The most numbers that it is asked for: never more than D."""
        layers = matrices(blocks)
        return min(blocks[-1].stop, most_numbers(layers, _count_others(blocks)))

    def _draw(self, origin: Origin) -> Factors:
        initial = origin.initial.detach().cpu()
        self._layers = matrices(self.blocks)
        self._others = [block for block in self.blocks if block.role != "weight"]
        others = _count_others(self.blocks)
        self._ranks = ranks_for(self.k, self._layers, others)
        entries: list[Tensor] = []
        for layer, rank in zip(self._layers, self._ranks, strict=True):
            # In float64, so that rounding leaves the same float32 however LAPACK adds up.
            left, values, right = torch.linalg.svd(layer.read(initial).double(), full_matrices=False)
            root = values[:rank].sqrt()
            entries += [(left[:, :rank] * root).reshape(-1), (root.unsqueeze(1) * right[:rank]).reshape(-1)]
        entries += [initial[block.start : block.stop] for block in self._others]
        priorities = [*_by_component(self._layers, self._ranks), torch.zeros(others, dtype=torch.int64)]
        return Factors(torch.cat([entry.double() for entry in entries]), in_order(priorities))

    def assemble(self, phi: Tensor) -> Tensor:
        products = iter(_products(phi, self._layers, self._ranks))
        parts: list[Tensor] = []
        start = len(phi) - _count_others(self.blocks)
        for block in self.blocks:
            if block.role == "weight":
                parts.append(next(products))
            else:
                size = block.stop - block.start
                parts.append(phi[start : start + size])
                start += size
        return torch.cat(parts)


def _count_others(blocks: Sequence[Block]) -> int:
    return sum(block.stop - block.start for block in blocks if block.role != "weight")


@final
class LowRankUpdate(FactorMap):
    """LoRA: B A added to every weight matrix; biases stay as they are (Hu et al. 2021).

    A begins with independent normal entries of variance 1 / inputs, B with zeros, and their product is not scaled further: a
    step in B is then a step of about the same length in weights. Within a component B comes first among the trained numbers,
    since A has no gradient while B is zero.
    """

    kind = "low_rank_update"

    @classmethod
    def largest_k(cls, blocks: Sequence[Block]) -> int:
        """The most numbers that it is asked for: never more than D."""
        return min(blocks[-1].stop, most_numbers(matrices(blocks)))

    def _draw(self, origin: Origin) -> Factors:
        self._layers = matrices(self.blocks)
        self._ranks = ranks_for(self.k, self._layers)
        generator = torch.Generator().manual_seed(origin.seed)
        entries: list[Tensor] = []
        for layer, rank in zip(self._layers, self._ranks, strict=True):
            normal = torch.randn(rank * layer.inputs, generator=generator)
            entries += [torch.zeros(layer.outputs * rank), normal / layer.inputs**0.5]
        return Factors(torch.cat(entries), in_order(_by_component(self._layers, self._ranks)))

    def assemble(self, phi: Tensor) -> Tensor:
        return placed(phi, self.blocks, _products(phi, self._layers, self._ranks))
