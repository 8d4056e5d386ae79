"""Updates of the weight matrices that combine frozen random matrices: VeRA and NOLA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, final

import torch
from torch import Tensor

from lowdim_bench.parametrizations.factored.base import FactorMap, Factors, Matrix, in_order, matrices, placed

if TYPE_CHECKING:  # at run time these would load the compiler of the kernels, which listing methods does without
    from lowdim_bench.problems import Block, Origin

MOST_NUMBERS = 2**24
"""That the drawn bases of one trial may have: 64 MiB."""


@final
class VectorAdapters(FactorMap):
    """VeRA: diag(b) B diag(d) A added to every weight matrix, vectors b and d of its own, B and A frozen and shared by all.

    A has independent normal entries of variance 1 / inputs of the matrix, B of variance 1 / rank; matrices of different
    shapes use their first rows and columns. b begins at zero, d at 0.1. All of b come first among the trained numbers,
    since d has no gradient while b is zero; then d, one entry of every matrix after the other.
    """

    kind = "vector_adapters"

    @classmethod
    def largest_k(cls, blocks: Sequence[Block]) -> int:
        """The most numbers that it is asked for: no more than there are weights, nor than a rank of all entries gives."""
        layers = matrices(blocks)
        rank = max(layer.outputs * layer.inputs for layer in layers)
        return min(sum(b.stop - b.start for b in blocks if b.role == "weight"), sum(x.outputs + rank for x in layers))

    def _draw(self, origin: Origin) -> Factors:
        generator = torch.Generator().manual_seed(origin.seed)
        self._layers = layers = matrices(self.blocks)
        scales = sum(layer.outputs for layer in layers)
        self._rank = rank = max(1, math.ceil((self.k - scales) / len(layers)))
        tall = torch.randn(max(layer.outputs for layer in layers), rank, generator=generator) / rank**0.5
        wide = torch.randn(rank, max(layer.inputs for layer in layers), generator=generator)
        anchor = torch.cat([torch.zeros(scales), torch.full((rank * len(layers),), 0.1)])
        priorities = [torch.zeros(scales, dtype=torch.int64), *([torch.arange(1, rank + 1)] * len(layers))]
        return Factors(anchor, in_order(priorities), {"tall": tall, "wide": wide})

    def assemble(self, phi: Tensor) -> Tensor:
        tall, wide = (self.constants[name].to(phi.dtype) for name in ("tall", "wide"))
        updates: list[Tensor] = []
        start, inner = 0, sum(layer.outputs for layer in self._layers)
        for layer in self._layers:
            outer = phi[start : start + layer.outputs].unsqueeze(1)
            scaled = (phi[inner : inner + self._rank] / layer.inputs**0.5).unsqueeze(1)
            updates.append(layer.flat((outer * tall[: layer.outputs]) @ (scaled * wide[:, : layer.inputs])))
            start, inner = start + layer.outputs, inner + self._rank
        return placed(phi, self.blocks, updates)


@final
class BasisAdapters(FactorMap):
    """NOLA: (sum_j b_j B_j) (sum_i a_i A_i) added to every weight matrix, coefficients of its own, bases frozen and drawn.

    Every matrix has as many coefficients a as b, but no more than its factor has entries. Entries of the A_i are normal of
    variance 1 / inputs, those of the B_j of variance 1 / (outputs * rank), so that a unit step in b is one of about unit length
    in weights. b begins at zero, a at normal numbers of variance 1 / their count. Trained first are the first b and a of all
    matrices, then the second.
    """

    kind = "basis_adapters"
    option_names: ClassVar[frozenset[str]] = frozenset({"rank"})

    @classmethod
    def largest_k(cls, blocks: Sequence[Block], rank: int) -> int:
        """The most numbers that it is asked for: never more than factors of this rank have entries, nor than D, nor than
        bases of `MOST_NUMBERS` have coefficients."""
        most = _entries(matrices(blocks), rank)
        fit = max(
            m for m in range(1, max(most) + 1) if m == 1 or sum(min(m, own) * own for own in most) <= MOST_NUMBERS
        )
        return min(blocks[-1].stop, sum(min(fit, own) for own in most))

    def _draw(self, origin: Origin) -> Factors:
        generator = torch.Generator().manual_seed(origin.seed)
        self._layers = matrices(self.blocks)
        rank = self.options["rank"]
        if not isinstance(rank, int) or rank < 1:
            raise ValueError(f"the rank of adapters is a whole number of at least 1, not {rank}")
        most = _entries(self._layers, rank)
        self._counts = _counts(most, self.k)
        entries: list[Tensor] = []
        priorities: list[Tensor] = []
        constants: dict[str, Tensor] = {}
        for place, (count, size) in enumerate(zip(self._counts, most, strict=True)):
            layer, narrow = self._layers[place // 2], place % 2 == 1
            variance = layer.inputs if narrow else size
            constants[f"bases{place}"] = torch.randn(count, size, generator=generator) / variance**0.5
            entries.append(torch.randn(count, generator=generator) / count**0.5 if narrow else torch.zeros(count))
            priorities.append(2 * torch.arange(count) + int(narrow))
        return Factors(torch.cat(entries), in_order(priorities), constants)

    def assemble(self, phi: Tensor) -> Tensor:
        factors = [
            coefficients @ self.constants[f"bases{place}"].to(phi.dtype)
            for place, coefficients in enumerate(phi.split(self._counts))
        ]
        pairs = zip(self._layers, factors[::2], factors[1::2], strict=True)
        updates = [
            layer.flat(tall.view(layer.outputs, -1) @ wide.view(-1, layer.inputs)) for layer, tall, wide in pairs
        ]
        return placed(phi, self.blocks, updates)


def _counts(most: Sequence[int], k: int) -> list[int]:
    """How many coefficients each factor has: equally many, but no more than it has entries. Raises ValueError where the bases
    would not fit in memory."""
    each = next((m for m in range(1, max(most)) if sum(min(m, own) for own in most) >= k), max(most))
    counts = [min(each, own) for own in most]
    size = sum(count * own for count, own in zip(counts, most, strict=True))
    if each > 1 and size > MOST_NUMBERS:
        raise ValueError(f"the bases of {k} coefficients have {size} numbers; at most {MOST_NUMBERS} are drawn")
    return counts


def _entries(layers: Sequence[Matrix], rank: int) -> list[int]:
    """How many entries the two factors of each matrix have: that of its outputs, then that of its inputs."""
    ranks = [min(rank, layer.largest_rank) for layer in layers]
    return [own * side for layer, own in zip(layers, ranks, strict=True) for side in (layer.outputs, layer.inputs)]
