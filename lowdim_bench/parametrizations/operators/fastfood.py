"""A map without a stored matrix that looks like a Gaussian one: two Walsh-Hadamard transforms, and Gaussian factors between."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import pad

from lowdim_bench.parametrizations.operators.hadamard import Transform, walsh_hadamard

EXACT = 2**23
"""Up to so many numbers k L the norm of every column is computed: half a second, before a training that takes longer."""
_CHUNK = 2**20


@final
class Fastfood(Transform):
    """Fastfood: the first k columns and D rows of H G P H B, of size L, the next power of two. O(D log D) time, O(D) memory.

    H is the Walsh-Hadamard matrix, B holds random signs, P is a random permutation, G holds independent normal numbers (Le et
    al. 2013, ICML). As where random subspaces are trained in it (Li et al. 2018; Aghajanyan et al. 2021, for SAID), the
    diagonal S that would give rows the lengths of Gaussian ones is left out: cut to k of L columns they vary in length anyway.
    Entries are nearly normal; cosines between columns have variance 2 / D, twice that of independent ones, as G varies.

    Before the cut to D rows all columns have one norm. After it they are scaled to unit norm one by one; beyond `EXACT`
    numbers k L, where that would cost more than the training, all by the factor that gives them unit norm in the mean. Each is
    then off by a standard deviation of sqrt((1 - D / L) / 2 D): at most 1.1 %, since D is above 2,048 there.
    """

    kind = "fastfood"
    nested = True

    def __init__(self, k: int, full_dimension: int, seed: int, device: torch.device) -> None:
        super().__init__(k, full_dimension, seed)
        self._size = size = 1 << max(0, full_dimension - 1).bit_length()
        generator = torch.Generator().manual_seed(seed)
        sign = torch.randint(0, 2, (size,), generator=generator, dtype=torch.float32).mul_(2).sub_(1)[:k].clone()
        self._order = torch.randperm(size, generator=generator)
        normal = torch.randn(size, generator=generator, dtype=torch.float64)
        self._normal = (normal / (normal.square().sum() * full_dimension).sqrt()).float()
        self._scale = sign / self._column_norms() if k * size <= EXACT else sign
        drawn = self._order, self._normal, self._scale
        self._order, self._normal, self._scale = (tensor.to(device) for tensor in drawn)

    def tensors(self) -> dict[str, Tensor]:
        return {"order": self._order, "normal": self._normal, "scale": self._scale}

    def apply(self, theta: Tensor) -> Tensor:
        return self._transform(pad(theta * self._scale, (0, self._size - self.k)))

    def apply_adjoint(self, weights: Tensor) -> Tensor:
        mixed = walsh_hadamard(pad(weights, (0, self._size - self.full_dimension))) * self._normal
        return walsh_hadamard(torch.zeros_like(mixed).index_copy(0, self._order, mixed))[: self.k] * self._scale

    def _transform(self, values: Tensor) -> Tensor:
        """H G P H of each row, cut: (..., L) to (..., D)."""
        return walsh_hadamard(walsh_hadamard(values)[..., self._order] * self._normal)[..., : self.full_dimension]

    def _column_norms(self) -> Tensor:
        """(k,) float32, of the columns as they are cut. In float64, so that every machine rounds to the same numbers."""
        norms = []
        for places in torch.arange(self.k).split(max(1, _CHUNK // self._size)):
            unit = torch.zeros(len(places), self._size, dtype=torch.float64)
            unit[torch.arange(len(places)), places] = 1.0
            norms.append(self._transform(unit).norm(dim=1))
        return torch.cat(norms).float()
