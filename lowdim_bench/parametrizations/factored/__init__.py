"""Parametrizations that are not affine: weight matrices built from factors, whose entries are what training changes.

Each kind is made from k, what its trial was given before any data, and a few options: so it is made again from these alone, and
costs no side information.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lowdim_bench.parametrizations.base import Parametrization
from lowdim_bench.parametrizations.factored.adapters import BasisAdapters, VectorAdapters
from lowdim_bench.parametrizations.factored.base import FactorMap, Option
from lowdim_bench.parametrizations.factored.layer_scaled import MATRIX_FREE, LayerScaledSubspace
from lowdim_bench.parametrizations.factored.low_rank import LowRank, LowRankUpdate
from lowdim_bench.parametrizations.factored.tensor_train import TensorTrain

__all__ = [
    "FACTOR_MAPS", "MATRIX_FREE", "BasisAdapters", "FactorMap", "FactoredWeights", "LayerScaledSubspace", "LowRank",
    "LowRankUpdate", "Option", "TensorTrain", "VectorAdapters",
]  # fmt: skip

FACTOR_MAPS: Mapping[str, type[FactorMap]] = {
    kind.kind: kind
    for kind in (BasisAdapters, LayerScaledSubspace, LowRank, LowRankUpdate, TensorTrain, VectorAdapters)
}
"""By the name in records."""


@dataclass(frozen=True)
class FactoredWeights(Parametrization):
    """w(theta) = offset + F(theta), where F is not linear. Raises ValueError where shapes do not fit."""

    operator: FactorMap

    @classmethod
    def of(cls, factors: FactorMap, initial: Tensor) -> Self:
        """The factors as they begin, added to the initial weights (D,) or in their place, as their kind has it."""
        return cls(initial if factors.from_initial else torch.zeros_like(initial), factors, factors.start)
