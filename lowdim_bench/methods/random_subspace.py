"""Training in a random affine subspace through the initial weights."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import NESTED_OPERATORS, RANDOM_OPERATORS, AffineSubspace

OperatorName = Literal["signed_hash", "gaussian", "orthonormal", "hadamard"]


def random_subspace(setting: Setting, operator: OperatorName, through: Tensor) -> AffineSubspace:
    """A random subspace of setting.k dimensions through weights (D,), drawn from the trial's seed."""
    draw = RANDOM_OPERATORS[operator]
    return AffineSubspace(through, draw(setting.k, setting.full_dimension, setting.seed, through.device))


@final
class RandomSubspace(Method):
    """w = w_0 + A theta with a random A of unit-norm columns."""

    summary: ClassVar[str] = "random affine subspace through the initial weights"
    source: ClassVar[str] = "Li et al. 2018 (arXiv 1804.08838); Larsen et al. 2022 (arXiv 2107.05802)"

    operator: OperatorName = "signed_hash"

    def nested(self) -> bool:
        return self.operator in NESTED_OPERATORS

    def prepare(self, setting: Setting) -> AffineSubspace:
        return random_subspace(setting, self.operator, setting.initial)
