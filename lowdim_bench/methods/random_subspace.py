"""Training in a random affine subspace through the initial weights."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import BeforeValidator
from torch import Tensor

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import NESTED_OPERATORS, RANDOM_OPERATORS, AffineSubspace

BIASED = {"chunks": "1.36 (1.33..1.39)", "kronecker": "1.21 (1.19..1.24)"}
"""How many times the k of a dense Gaussian basis these need for the same loss near k* of digits-mlp (95 % intervals, 40 seeds):
contiguous chunks of the parameters moved by one number each, and Kronecker products of small Gaussian matrices."""
_OTHER_NAMES = {"chunk": "chunks", "contiguous_chunks": "chunks", "block_diagonal": "chunks", "kron": "kronecker"}


def _refuse_biased(name: Any) -> Any:
    """Raises ValueError, with the reason, for a map whose structure would be measured along with the network."""
    known = _OTHER_NAMES.get(name, name) if isinstance(name, str) else ""
    if known in BIASED:
        raise ValueError(
            f"'{known}' is no stand-in for a random subspace, since it needs {BIASED[known]} times the k for the same loss; "
            f"valid are auto, {', '.join(RANDOM_OPERATORS)}"
        )
    return name


OperatorName = Annotated[
    Literal[
        "auto", "signed_hash", "sparse_signs", "gaussian", "orthonormal", "shared_gaussian", "hadamard", "fastfood"
    ],
    BeforeValidator(_refuse_biased),
]
_SMALL = 100_000


def default_operator(full_dimension: int) -> OperatorName:
    """What "auto" is for D parameters: the fastest operator that trains like a dense Gaussian basis. Of D alone, never of k,
    so that a sweep has one law.

    A threshold of several per cent of D is met in small networks only. There a bucket of the signed hash holds so few
    coordinates that Adam works almost along the axes of the weights: near k* of digits-mlp, k / D = 0.09, it needs 0.94
    (0.93..0.95) times the k of the dense basis, and four entries a row need 0.98 (0.97..1.00), 60 seeds each. Where k / D is
    0.02, the signed hash needs 1.00 (0.98..1.03) times the k, 40 seeds. Fastfood, which Li et al. train in where a dense basis
    does not fit, needs 1.00 (0.98..1.02) times the k near k* of digits-mlp, 40 seeds. `lowdim-bench calibrate operators`
    measures this, and `python -m benchmarks.operators` the times.
    """
    return "sparse_signs" if full_dimension <= _SMALL else "signed_hash"


def operator_identity(identity: dict[str, Any], operator: OperatorName) -> dict[str, Any]:
    """The identity of a method with an operator, which is always said, and for "auto" by what it stands for: a later default
    must not pass for this one."""
    chosen = f"sparse_signs up to {_SMALL}, else signed_hash" if operator == "auto" else operator
    return identity | {"operator": chosen}


def random_subspace(setting: Setting, operator: OperatorName, through: Tensor) -> AffineSubspace:
    """A random subspace of setting.k dimensions through weights (D,), drawn from the trial's seed."""
    draw = RANDOM_OPERATORS[default_operator(setting.full_dimension) if operator == "auto" else operator]
    return AffineSubspace(through, draw(setting.k, setting.full_dimension, setting.seed, through.device))


@final
class RandomSubspace(Method):
    """w = w_0 + A theta with a random A of unit-norm columns."""

    summary: ClassVar[str] = "random affine subspace through the initial weights"
    source: ClassVar[str] = "Li et al. 2018 (arXiv 1804.08838); Larsen et al. 2022 (arXiv 2107.05802)"
    freedom: ClassVar[str] = "k coordinates of a random subspace"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    operator: OperatorName = "auto"

    def identity(self) -> dict[str, Any]:
        return operator_identity(super().identity(), self.operator)

    def nested(self) -> bool:
        return self.operator in NESTED_OPERATORS

    def prepare(self, setting: Setting) -> AffineSubspace:
        return random_subspace(setting, self.operator, setting.initial)
