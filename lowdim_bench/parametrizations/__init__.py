"""Parametrizations: maps from the k numbers that training may change to the D parameters of the network."""

from lowdim_bench.parametrizations.affine import AffineSubspace, Pack, stack_starts
from lowdim_bench.parametrizations.operators import (
    NESTED_OPERATORS,
    RANDOM_OPERATORS,
    Coordinates,
    DenseBasis,
    FullSpace,
    Operator,
    SharedGaussian,
    SignedHash,
    SubsampledHadamard,
)  # fmt: skip

__all__ = [
    "NESTED_OPERATORS", "RANDOM_OPERATORS", "AffineSubspace", "Coordinates", "DenseBasis", "FullSpace", "Operator", "Pack",
    "SharedGaussian", "SignedHash", "SubsampledHadamard", "stack_starts",
]  # fmt: skip
