"""Weight matrices as tensor trains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import torch
from torch import Tensor

from lowdim_bench.parametrizations.factored.base import FactorMap, Factors, Matrix, in_order, matrices

if TYPE_CHECKING:  # at run time these would load the compiler of the kernels, which listing methods does without
    from lowdim_bench.problems import Block, Origin

MOST_CORES = 8


def balanced_factors(number: int, count: int) -> list[int]:
    """`count` factors of a number, as even as its primes allow, the largest first: 64 in three is 4, 4, 4; 10 is 5, 2, 1."""
    factors = [1] * count
    for prime in sorted(_primes(number), reverse=True):
        factors[factors.index(min(factors))] *= prime
    return sorted(factors, reverse=True)


def _primes(number: int) -> Iterator[int]:
    divisor = 2
    while number > 1:
        if number % divisor == 0:
            yield divisor
            number //= divisor
        else:
            divisor = divisor + 1 if divisor * divisor <= number else number


@dataclass(frozen=True)
class Train:
    """The shape of one matrix's tensor train: core i is (r_i, m_i, n_i, r_{i+1}) with r_0 = r_last = 1."""

    layer: Matrix
    outputs: tuple[int, ...]
    """m_i, whose product are the matrix's outputs."""
    inputs: tuple[int, ...]
    """n_i."""
    ranks: tuple[int, ...]
    """r_0 .. r_last."""

    @classmethod
    def of(cls, layer: Matrix, cores: int, rank: int) -> Train:
        """With bond ranks of `rank`, or as many as a train of that shape can use."""
        outputs, inputs = balanced_factors(layer.outputs, cores), balanced_factors(layer.inputs, cores)[::-1]
        sizes = [m * n for m, n in zip(outputs, inputs, strict=True)]
        ranks = [min(rank, math.prod(sizes[:bond]), math.prod(sizes[bond:])) for bond in range(cores + 1)]
        return cls(layer, tuple(outputs), tuple(inputs), tuple(ranks))

    def shapes(self) -> list[tuple[int, int, int, int]]:
        """Of the cores."""
        return list(zip(self.ranks, self.outputs, self.inputs, self.ranks[1:], strict=False))

    @property
    def numbers(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes())

    def matrix(self, entries: Tensor) -> Tensor:
        """The matrix (outputs, inputs) of the cores' entries (numbers,)."""
        whole = entries.new_ones(1, 1, 1)  # (m_1 .. m_i, n_1 .. n_i, r)
        sizes = [math.prod(shape) for shape in self.shapes()]
        for core, shape in zip(entries.split(sizes), self.shapes(), strict=True):
            rows, columns, rank = whole.shape
            grown = (whole.reshape(-1, rank) @ core.view(rank, -1)).view(rows, columns, *shape[1:])
            whole = grown.permute(0, 2, 1, 3, 4).reshape(rows * shape[1], columns * shape[2], shape[3])
        return whole.squeeze(2)


@final
class TensorTrain(FactorMap):
    """Every weight matrix as a tensor train of a few cores (Novikov et al. 2015); biases and scales of normalization are
    trained as they are, and come first among the trained numbers.

    Outputs and inputs are cut into factors as even as their primes allow. Cores begin at independent normal entries such that
    those of the matrix have variance 1 / fan-in. Where all bonds of a common rank hold more than k numbers, the last entries
    of the last cores stay as they begin.
    """

    kind = "tensor_train"
    from_initial: ClassVar[bool] = False
    option_names: ClassVar[frozenset[str]] = frozenset({"cores"})

    @classmethod
    def largest_k(cls, blocks: Sequence[Block], cores: int) -> int:
        """The most numbers that it is asked for: never more than trains of full rank have, nor than D."""
        layers = matrices(blocks)
        full = max(layer.outputs * layer.inputs for layer in layers)
        others = blocks[-1].stop - sum(layer.outputs * layer.inputs for layer in layers)
        return min(blocks[-1].stop, others + sum(Train.of(layer, cores, full).numbers for layer in layers))

    def _draw(self, origin: Origin) -> Factors:
        generator, initial = torch.Generator().manual_seed(origin.seed), origin.initial.detach().cpu()
        others = [block for block in self.blocks if block.role != "weight"]
        self._others = sum(block.stop - block.start for block in others)
        self._trains = self._shaped()
        entries: list[Tensor] = []
        priorities: list[Tensor] = []
        for train in self._trains:
            paths = math.prod(train.ranks)  # products of independent entries that add up to one entry of the matrix
            deviation = (1 / (train.layer.block.fan_in * paths)) ** (0.5 / len(train.outputs))
            entries.append(torch.randn(train.numbers, generator=generator) * deviation)
            sizes = torch.tensor([math.prod(shape) for shape in train.shapes()])
            priorities.append(1 + torch.arange(len(sizes)).repeat_interleave(sizes))
        entries += [initial[block.start : block.stop] for block in others]
        priorities.append(torch.zeros(self._others, dtype=torch.int64))
        return Factors(torch.cat(entries), in_order(priorities))

    def _shaped(self) -> list[Train]:
        """Trains of the least common rank that have k numbers, or of full rank."""
        layers, cores = matrices(self.blocks), self.options["cores"]
        if not isinstance(cores, int) or not 2 <= cores <= MOST_CORES:
            raise ValueError(f"a tensor train has 2 to {MOST_CORES} cores, not {cores}")
        full = max(layer.outputs * layer.inputs for layer in layers)
        rank = 1
        while True:
            trains = [Train.of(layer, cores, rank) for layer in layers]
            if self._others + sum(train.numbers for train in trains) >= self.k or rank >= full:
                return trains
            rank += 1

    def assemble(self, phi: Tensor) -> Tensor:
        *cores, others = phi.split([*(train.numbers for train in self._trains), self._others])
        found = iter(train.layer.flat(train.matrix(own)) for train, own in zip(self._trains, cores, strict=True))
        rest = iter(others.split([b.stop - b.start for b in self.blocks if b.role != "weight"]))
        return torch.cat([next(found) if block.role == "weight" else next(rest) for block in self.blocks])
