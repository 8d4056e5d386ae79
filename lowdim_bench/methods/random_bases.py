"""Random bases descent: a new random subspace for every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.methods.random_subspace import OperatorName, default_operator, operator_identity
from lowdim_bench.parametrizations import AffineSubspace, RedrawnBases
from lowdim_bench.problems import Block


@final
class RandomBasesDescent(Method):
    """Of each gradient, training sees the projection onto `directions` new random directions, or onto D where these are fewer.

    Its fixed counterpart is `random_subspace`, whose basis stays the same. Here each step moves elsewhere: after T steps min(D,
    T * directions) numbers have been free to change, all D in any training worth the name. So it exists only at k = D, as
    `dense` does, and never ranks as a low-dimensional method; the `directions` a step are what it saves on communication.
    """

    summary: ClassVar[str] = "descent in new random directions at every step (touches all D, not ranked)"
    source: ClassVar[str] = "Gressmann et al. 2020 (arXiv 2011.04720)"
    freedom: ClassVar[str] = "all D parameters, of which a step moves `directions` random combinations"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    directions: Annotated[int, Field(ge=1)] = 250
    operator: OperatorName = "auto"

    def identity(self) -> dict[str, Any]:
        return operator_identity(super().identity(), self.operator)

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return blocks[-1].stop, blocks[-1].stop

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> AffineSubspace:
        size = setting.full_dimension
        kind = default_operator(size) if self.operator == "auto" else self.operator
        bases = RedrawnBases(size, min(self.directions, size), kind, setting.seed)
        return AffineSubspace(setting.initial.new_zeros(size), bases, setting.initial)
