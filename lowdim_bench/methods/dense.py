"""Training in all dimensions: the control that low-dimensional methods are held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.problems import Block


@final
class Dense(Method):
    """All D parameters. It exists only at k = D, and so never ranks as a low-dimensional method."""

    summary: ClassVar[str] = "train all D parameters (control, not ranked)"
    source: ClassVar[str] = "ordinary training"
    freedom: ClassVar[str] = "all D parameters"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return blocks[-1].stop, blocks[-1].stop

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> AffineSubspace:
        return AffineSubspace.full_space(setting.initial)
