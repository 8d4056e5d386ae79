"""What methods share whose mask is drawn without looking at any data, so that the audit can draw it again."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from lowdim_bench.errors import UserError
from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.methods.pruning import Scope, prunable_range
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.parametrizations.draws import draw_mask
from lowdim_bench.problems import Block


class DrawnMask(Method, ABC):
    """k weights chosen by a named draw, all others zero."""

    draw: ClassVar[str]
    """One of `parametrizations.draws.MASKS`."""
    freedom: ClassVar[str] = "the k kept weights"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    def prepare(self, setting: Setting) -> AffineSubspace:
        return AffineSubspace.masked(setting.initial, draw_mask(self.draw, setting.k, setting.origin))


class ScopedMask(DrawnMask, ABC):
    """A drawn mask that can spare biases and normalization parameters."""

    scope: Scope = "all"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return prunable_range(blocks, self.scope)

    def prepare(self, setting: Setting) -> AffineSubspace:
        draw = self.draw if self.scope == "all" else f"{self.draw}_of_weights"
        return AffineSubspace.masked(setting.initial, draw_mask(draw, setting.k, setting.origin))


class SomeTensors(Method, ABC):
    """Parameters of some tensors, k of them at random, all others as they were initialized."""

    draw: ClassVar[str]
    members: ClassVar[Callable[[Iterable[Block]], list[Block]]]
    what: ClassVar[str]
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        """Raises `UserError` where the network has none of these tensors."""
        most = sum(block.stop - block.start for block in type(self).members(blocks))
        if not most:
            raise UserError(f"This method trains {self.what}, and the task's network has none. Choose another task.")
        return 1, most

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> AffineSubspace:
        return AffineSubspace(setting.initial, draw_mask(self.draw, setting.k, setting.origin))
