"""Weight sharing inside each tensor of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, final

import torch
from torch import Tensor
from torch.nn.functional import pad

from lowdim_bench.parametrizations.operators.base import Operator, stack
from lowdim_bench.parametrizations.operators.hashing import PackedHash

if TYPE_CHECKING:  # at run time this would load the compiler of the kernels, which listing methods does without
    from lowdim_bench.problems import Block


@final
class LayeredHash(Operator):
    """Every coordinate of a tensor goes, with a random sign, to one of the buckets that this tensor has to itself.

    Buckets are shared out to tensors in proportion to their sizes, at least one each; within a tensor their sizes differ by at
    most one. Columns have disjoint support and unit norm. HashedNets (Chen et al. 2015), with hash functions that fill their
    buckets evenly.
    """

    kind = "layered_hash"

    def __init__(self, code: Tensor, k: int, seed: int | None = None) -> None:
        """`code` (1, D) int32: 2 * bucket + (sign < 0). Give `seed` only where `drawn` made it. Raises ValueError where a code
        is no bucket's, or a bucket is empty."""
        super().__init__(k, code.shape[1], seed)
        low, high = code.aminmax()
        if not 0 <= int(low) <= int(high) < 2 * k or int(torch.bincount(code[0] >> 1, minlength=k).min()) == 0:
            raise ValueError(f"every one of {k} buckets must hold a coordinate, and every coordinate one of them")
        self.code = code

    @classmethod
    def drawn(cls, k: int, blocks: Sequence[Block], seed: int, device: torch.device) -> Self:
        """The one of a seed. Raises ValueError where k is less than the number of tensors, or more than D."""
        generator = torch.Generator().manual_seed(seed)
        code = torch.empty(1, blocks[-1].stop, dtype=torch.int32)
        first = 0
        for block, count in zip(blocks, buckets_by_tensor(k, blocks), strict=True):
            part = torch.randperm(block.stop - block.start, generator=generator, dtype=torch.int32)
            part.remainder_(count).add_(first).mul_(2)
            sign = torch.randint(0, 2, part.shape, generator=generator, dtype=torch.int32)
            code[0, block.start : block.stop] = part + sign
            first += count
        return cls(code.to(device), k, seed)

    def tensors(self) -> dict[str, Tensor]:
        return {"code": self.code}

    @classmethod
    def pack(cls, operators: Sequence[Self]) -> PackedHash:
        width = max(operator.k for operator in operators)
        scales = [pad(operator.scale(), (0, width - operator.k)) for operator in operators]
        return PackedHash(stack([operator.code for operator in operators]), stack(scales))

    def scale(self) -> Tensor:
        """(k,): the size of the entries of each column."""
        return torch.bincount(self.code[0] >> 1, minlength=self.k).float().sqrt_().reciprocal_()

    def start_at(self, initial: Tensor) -> Tensor:
        """Every bucket at the value that the first of its coordinates has initially: the mean of all would shrink with the
        size of the bucket, and the signals in the network with it."""
        buckets = (self.code[0] >> 1).long()
        places = torch.arange(self.full_dimension, device=buckets.device)
        first = places.new_full((self.k,), self.full_dimension).scatter_reduce_(0, buckets, places, "amin")
        return initial[first] * (1.0 - 2.0 * (self.code[0, first] & 1)) / self.scale()

    def rank(self) -> int:
        return int(torch.bincount(self.code[0] >> 1).count_nonzero())  # columns of disjoint support are independent


def buckets_by_tensor(k: int, blocks: Sequence[Block]) -> list[int]:
    """How many of k buckets each tensor has: one each, and of the others a share in proportion to its other coordinates.

    Raises ValueError where k is less than the number of tensors, or more than D.
    """
    size, tensors = blocks[-1].stop, len(blocks)
    if not tensors <= k <= size:
        raise ValueError(f"{tensors} tensors of {size} coordinates share {tensors} to {size} buckets, not {k}")
    more = [block.stop - block.start - 1 for block in blocks]
    parts = [divmod((k - tensors) * count, max(1, size - tensors)) for count in more]
    left = k - tensors - sum(whole for whole, _ in parts)
    lucky = sorted(range(tensors), key=lambda place: (-parts[place][1], place))[:left]
    return [1 + whole + (place in lucky) for place, (whole, _) in enumerate(parts)]
