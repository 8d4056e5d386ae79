"""Parametrizations: maps from the k numbers that training may change to the D parameters of the network."""

from collections.abc import Mapping

from lowdim_bench.parametrizations.affine import AffineSubspace
from lowdim_bench.parametrizations.base import Pack, Parametrization, stack_starts
from lowdim_bench.parametrizations.factored import (
    FACTOR_MAPS,
    BasisAdapters,
    FactoredWeights,
    FactorMap,
    LayerScaledSubspace,
    LowRank,
    LowRankUpdate,
    TensorTrain,
    VectorAdapters,
)
from lowdim_bench.parametrizations.maps import Map
from lowdim_bench.parametrizations.moving import MovingMask, Rewiring
from lowdim_bench.parametrizations.operators import (
    NESTED_OPERATORS,
    RANDOM_OPERATORS,
    Coordinates,
    DenseBasis,
    Fastfood,
    FullSpace,
    LayeredHash,
    Operator,
    SharedGaussian,
    SignedHash,
    SubsampledHadamard,
)  # fmt: skip
from lowdim_bench.parametrizations.redrawn import RedrawnBases
from lowdim_bench.parametrizations.scored import ScoredMask
from lowdim_bench.parametrizations.standing import Movement, Standing

__all__ = [
    "ADMITTED", "FACTOR_MAPS", "NESTED_OPERATORS", "RANDOM_OPERATORS", "AffineSubspace", "BasisAdapters", "Coordinates",
    "DenseBasis", "FactorMap", "FactoredWeights", "Fastfood", "FullSpace", "LayerScaledSubspace", "LayeredHash", "LowRank",
    "LowRankUpdate", "Map", "Movement", "MovingMask", "Operator", "Pack", "Parametrization", "RedrawnBases", "Rewiring",
    "ScoredMask", "SharedGaussian", "SignedHash", "Standing", "SubsampledHadamard", "TensorTrain", "VectorAdapters",
    "stack_starts",
]  # fmt: skip

ADMITTED: Mapping[type[Parametrization], tuple[type[Map], ...]] = {
    AffineSubspace: (
        FullSpace,
        RedrawnBases,
        MovingMask,
        Coordinates,
        DenseBasis,
        Fastfood,
        LayeredHash,
        SharedGaussian,
        SignedHash,
        SubsampledHadamard,
    ),
    FactoredWeights: tuple(FACTOR_MAPS.values()),
}
"""Every parametrization with the maps that it may have: no other is trained, priced, certified or let out of a process."""
