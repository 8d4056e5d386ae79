"""Linear maps A from R^k to R^D: the directions in which training may move.

Each operator works for one trial or, packed with others of its kind, for P trials at once. Columns have unit norm, so that a
step in theta is a step of the same length in weights. A seeded operator can be drawn from its seed again.
"""

from lowdim_bench.parametrizations.operators.base import Operator, PackedOperator, pack, stack
from lowdim_bench.parametrizations.operators.coordinates import Coordinates, FullSpace
from lowdim_bench.parametrizations.operators.dense import DenseBasis, SharedGaussian
from lowdim_bench.parametrizations.operators.fastfood import Fastfood
from lowdim_bench.parametrizations.operators.hadamard import SubsampledHadamard
from lowdim_bench.parametrizations.operators.hashing import PackedHash, SignedHash
from lowdim_bench.parametrizations.operators.layered import LayeredHash

__all__ = [
    "NESTED_OPERATORS", "RANDOM_OPERATORS", "Coordinates", "DenseBasis", "Fastfood", "FullSpace", "LayeredHash", "Operator",
    "PackedHash", "PackedOperator", "SharedGaussian", "SignedHash", "SubsampledHadamard", "pack", "stack",
]  # fmt: skip

RANDOM_OPERATORS = {
    "gaussian": DenseBasis.gaussian,
    "orthonormal": DenseBasis.orthonormal,
    "shared_gaussian": SharedGaussian,
    "signed_hash": SignedHash,
    "sparse_signs": SignedHash.sparse_signs,
    "hadamard": SubsampledHadamard,
    "fastfood": Fastfood,
}
"""What a random subspace can be drawn with: (k, D, seed, device) -> Operator."""

NESTED_OPERATORS = frozenset({"gaussian", "orthonormal", "shared_gaussian", "hadamard", "fastfood"})
"""Those whose span at k lies, for one seed, in the span at every larger k."""
