"""Maps with a few entries of +-1 a row: O(D) time and memory whatever k is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from lowdim_bench.parametrizations.operators.base import Operator, PackedOperator, moved_by, stack

SPARSE_SIGNS = 4
"""Entries a row: a column then has dozens where k is a tenth of D, and training hardly tells it from a dense one."""


@final
class SignedHash(Operator):
    """Every coordinate goes to one of k buckets, or to one in each of several blocks of them, with random signs.

    Buckets are cut from a random permutation, so that their sizes differ by at most one and none is empty at any k <= D. With
    one entry a row columns are exactly orthonormal: a count sketch (Charikar et al. 2002) balanced over its buckets; as a
    subspace also HashedNets without its layers. With several, columns of different blocks overlap at random: the block
    construction of a sparse oblivious embedding (Kane & Nelson 2014). Entries have one size in a column, which has unit norm.

    It stores four bytes for each entry a row, and nothing that grows with k.
    """

    def __init__(self, k: int, full_dimension: int, seed: int, device: torch.device, entries: int = 1) -> None:
        """`entries` a row, or k where that is less. Raises ValueError where k does not lie in 1..D."""
        if not 1 <= k <= full_dimension:
            raise ValueError(f"a signed hash has 1 to {full_dimension} buckets, not {k}")
        super().__init__(k, full_dimension, seed)
        self.kind = "signed_hash" if entries == 1 else "sparse_signs"
        generator = torch.Generator().manual_seed(seed)
        self.code = stack([self._draw(block, min(entries, k), generator) for block in range(min(entries, k))]).to(
            device
        )
        """(entries, D) int32: 2 * bucket + (sign < 0)."""

    @classmethod
    def sparse_signs(cls, k: int, full_dimension: int, seed: int, device: torch.device) -> SignedHash:
        """Four entries a row."""
        return cls(k, full_dimension, seed, device, SPARSE_SIGNS)

    def _draw(self, block: int, blocks: int, generator: torch.Generator) -> Tensor:
        """Codes (D,) of the buckets block, block + blocks, block + 2 blocks, ..."""
        count = len(range(block, self.k, blocks))
        # In place and in the smallest types: at ten million coordinates every int64 copy would be 88 MB.
        code = torch.randperm(self.full_dimension, generator=generator, dtype=torch.int32)
        code.remainder_(count).mul_(2 * blocks).add_(2 * block)
        return code.add_(torch.randint(0, 2, code.shape, generator=generator, dtype=torch.uint8).bitwise_xor_(1))

    def tensors(self) -> dict[str, Tensor]:
        return {"code": self.code}

    @classmethod
    def pack(cls, operators: Sequence[Self]) -> PackedHash:
        """Raises ValueError where a code is no bucket's."""
        for operator in operators:  # the compiled kernels would read beyond the end of theta
            low, high = operator.code.aminmax()
            if int(low) < 0 or int(high) >= 2 * operator.k:
                raise ValueError("the buckets of a signed hash must lie below its k")
        entries = max(len(operator.code) for operator in operators)
        width = max(operator.k for operator in operators)
        codes = [_filled(operator.code, entries, nothing=2 * width) for operator in operators]
        return PackedHash(stack(codes), torch.stack([operator.scale(width) for operator in operators]))

    def scale(self, width: int) -> Tensor:
        """(width,): the size of the entries of each column, 0 beyond the last."""
        blocks = len(self.code)
        scale = torch.zeros(width, device=self.code.device)
        for block in range(blocks):
            count = len(range(block, self.k, blocks))
            sizes = torch.full((count,), float(self.full_dimension // count), device=scale.device)
            sizes[: self.full_dimension % count] += 1
            scale[block : self.k : blocks] = sizes.sqrt_().reciprocal_()
        return scale

    def columns_at(self, places: Tensor) -> Tensor:
        distinct, again = torch.unique(places.to(self.code.device), return_inverse=True)
        row_of = torch.full((self.k,), -1, device=distinct.device)
        row_of[distinct] = torch.arange(len(distinct), device=distinct.device)
        columns = torch.zeros(len(distinct), self.full_dimension, device=distinct.device)
        scale = self.scale(self.k)
        for code in self.code:
            column = (code >> 1).long()
            at = (row_of[column] >= 0).nonzero().squeeze(1)
            sign = 1.0 - 2.0 * (code[at] & 1)
            columns[row_of[column[at]], at] += sign * scale[column[at]]
        return columns[again]

    def rank(self) -> int | None:
        if len(self.code) > 1:
            return super().rank()
        return int(torch.bincount(self.code[0] >> 1).count_nonzero())  # columns of disjoint support are independent


def _filled(code: Tensor, entries: int, nothing: int) -> Tensor:
    """Codes (entries, D), where operators of very few columns have fewer: `nothing` stands for no column."""
    return code if len(code) == entries else pad(code, (0, 0, 0, entries - len(code)), value=nothing)


@final
class PackedHash(PackedOperator):
    """Several signed hashes. Every row is worked out alone, so that its bits do not depend on who else is in the pack."""

    def __init__(self, code: Tensor, scale: Tensor) -> None:
        """`code` (P, entries, D) int32, 2K where a row has no such entry; `scale` (P, K) float32."""
        self.code, self.scale = code, scale
        self._full = torch.Size([code.shape[0], code.shape[2]])

    def forward(self, theta: Tensor, offset: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        _check(theta, self.scale.shape)
        for full in (offset, out):
            _check(full, self._full)
        if not _is_native(theta, offset):
            values = theta * self.scale
            table = pad(torch.stack([values, -values], dim=2).flatten(1), (0, 1))
            return moved_by(offset, table.gather(1, self.code.flatten(1)).view(self.code.shape).sum(dim=1), out)
        # Numba takes half a second to import: commands that only list do without it.
        from lowdim_bench.kernels import hashing

        out = theta.new_empty(len(theta), self.code.shape[2]) if out is None else out
        fixed = None if offset is None else offset.detach().numpy()
        theta = theta.detach().contiguous()
        hashing.forward(theta.numpy(), self.scale.numpy(), self.code.numpy().view(np.uint32), fixed, out.numpy())
        return out

    def adjoint(self, weights: Tensor) -> Tensor:
        _check(weights, self._full)
        if not _is_native(weights):
            repeated = weights.unsqueeze(1).expand(self.code.shape).flatten(1)
            sums = weights.new_zeros(len(weights), 2 * self.scale.shape[1] + 1)
            sums = sums.scatter_add_(1, self.code.flatten(1), repeated)[:, :-1]
            return (sums[:, ::2] - sums[:, 1::2]) * self.scale
        from lowdim_bench.kernels import hashing

        result = torch.empty_like(self.scale)
        weights = weights.detach().contiguous()
        hashing.adjoint(weights.numpy(), self.scale.numpy(), self.code.numpy().view(np.uint32), result.numpy())
        return result

    def keep(self, rows: Tensor) -> Self:
        rows = rows.to(self.code.device)
        return type(self)(self.code[rows], self.scale[rows])


def _check(values: Tensor | None, shape: torch.Size) -> None:
    """Raises ValueError for another shape: the kernels would read and write beyond the end."""
    if values is not None and values.shape != shape:
        raise ValueError(f"got numbers of shape {tuple(values.shape)}; these maps take {tuple(shape)}")


def _is_native(*tensors: Tensor | None) -> bool:
    """Whether the compiled kernels can work on these: they know neither other devices and precisions nor gradients."""
    tracking = torch.is_grad_enabled()
    return not any(
        values.device.type != "cpu" or values.dtype != torch.float32 or (values.requires_grad and tracking)
        for values in tensors
        if values is not None
    )
