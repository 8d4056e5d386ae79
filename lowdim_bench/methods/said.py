"""A random subspace with a trained scale for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, final

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import FactoredWeights, LayerScaledSubspace
from lowdim_bench.problems import Block


@final
class StructureAwareSubspace(Method):
    """w_l = w_0l + lambda_l (P theta')_l for every layer l: the scales of m layers are trained beside k - m directions."""

    summary: ClassVar[str] = "SAID: a random subspace with a trained scale for each layer"
    source: ClassVar[str] = "Aghajanyan et al. 2021 (arXiv 2012.13255)"
    freedom: ClassVar[str] = "k - m coordinates in a random subspace, and the scales of m layers"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    operator: Literal["hadamard", "signed_hash", "sparse_signs", "fastfood"] = "hadamard"

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"operator": self.operator}

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return LayerScaledSubspace.smallest_k(blocks), blocks[-1].stop

    def prepare(self, setting: Setting) -> FactoredWeights:
        factors = LayerScaledSubspace(setting.k, setting.origin, operator=self.operator)
        return FactoredWeights.of(factors, setting.initial)
