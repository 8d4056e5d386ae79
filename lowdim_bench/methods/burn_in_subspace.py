"""A random affine subspace through weights that were first trained in full."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from lowdim_bench.methods.base import Method, Preparation, Setting, Train
from lowdim_bench.methods.random_subspace import OperatorName, operator_identity, random_subspace
from lowdim_bench.parametrizations import NESTED_OPERATORS, AffineSubspace


@final
class BurnInSubspace(Method):
    """w = w_t + A theta, where w_t comes from `burn_in_steps` steps of full-space training."""

    summary: ClassVar[str] = "random affine subspace through briefly trained weights"
    source: ClassVar[str] = "Larsen et al. 2022 (arXiv 2107.05802)"
    freedom: ClassVar[str] = "k coordinates of a random subspace"
    side_information: ClassVar[str] = "the weights after burn-in"
    data_seen: ClassVar[str] = "`burn_in_steps` mini-batches"

    burn_in_steps: Annotated[int, Field(ge=1)] = 64
    operator: OperatorName = "auto"

    def identity(self) -> dict[str, Any]:
        return operator_identity(super().identity(), self.operator)

    def nested(self) -> bool:
        return self.operator in NESTED_OPERATORS

    def prepare(self, setting: Setting) -> Preparation:
        burnt_in = yield Train(AffineSubspace.full_space(setting.initial), start=0, stop=self.burn_in_steps)
        return random_subspace(setting, self.operator, burnt_in.weights)
