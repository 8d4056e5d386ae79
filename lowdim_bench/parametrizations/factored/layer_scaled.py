"""A random subspace with a trained scale for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, final

import torch
from torch import Tensor

from lowdim_bench.parametrizations.factored.base import FactorMap, Factors
from lowdim_bench.parametrizations.operators import RANDOM_OPERATORS

if TYPE_CHECKING:  # at run time these would load the compiler of the kernels, which listing methods does without
    from lowdim_bench.problems import Block, Origin

MATRIX_FREE = ("hadamard", "signed_hash", "sparse_signs", "fastfood")
"""Operators that work in any precision, as the audit of a map that is not linear asks for."""


def layers_of(blocks: Sequence[Block]) -> list[str]:
    """The layer of each block: what its name says before the last dot."""
    return [block.name.rpartition(".")[0] or block.name for block in blocks]


@final
class LayerScaledSubspace(FactorMap):
    """SAID: lambda_l P theta' added to the weights of layer l, with k - m numbers theta' and m scales (Aghajanyan et al. 2020).

    P is drawn from the seed: a subsampled randomized Hadamard transform by default; `fastfood` is the transform of the source,
    and any other operator without a stored matrix can stand there. Scales begin at one, theta' at zero.
    """

    kind = "layer_scaled_subspace"
    option_names: ClassVar[frozenset[str]] = frozenset({"operator"})

    @classmethod
    def smallest_k(cls, blocks: Sequence[Block]) -> int:
        """One direction beside the scales."""
        return len(set(layers_of(blocks))) + 1

    def _draw(self, origin: Origin) -> Factors:
        operator = str(self.options["operator"])
        if operator not in MATRIX_FREE:
            raise ValueError(f"no operator '{operator}' stands under layer scales; valid are {', '.join(MATRIX_FREE)}")
        names = layers_of(self.blocks)
        distinct = list(dict.fromkeys(names))
        self._layers = len(distinct)
        if self.k <= self._layers:
            raise ValueError(f"{self._layers} scales leave no direction for k = {self.k}")
        draw, device = RANDOM_OPERATORS[operator], origin.initial.device
        self._directions = draw(self.k - self._layers, self.full_dimension, origin.seed, device)
        sizes = torch.tensor([block.stop - block.start for block in self.blocks])
        layer_of = torch.tensor([distinct.index(name) for name in names]).repeat_interleave(sizes)
        anchor = torch.cat([torch.ones(self._layers), torch.zeros(self.k - self._layers)])
        drawn = {f"directions.{name}": tensor for name, tensor in self._directions.tensors().items()}
        return Factors(anchor, torch.arange(self.k), {"layer": layer_of, **drawn})

    def assemble(self, phi: Tensor) -> Tensor:
        scales, theta = phi[: self._layers], phi[self._layers :]
        moved = self._directions.pack([self._directions]).forward(theta.unsqueeze(0))[0]
        return scales[self.constants["layer"]] * moved
