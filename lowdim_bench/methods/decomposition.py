"""What the methods share that decompose a tensor into as few outer products as k allows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from lowdim_bench.errors import UserError
from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.parametrizations.draws import draw_mask
from lowdim_bench.problems import Block, RowSampling


class Decomposition(Method, ABC):
    """As many columns of every factor as k allows: r columns take k = r * (sum of the tensor's sizes) numbers.

    What k leaves beyond whole columns lies in the next column of the first factors, where it changes nothing as long as that
    column is not complete.
    """

    freedom: ClassVar[str] = "r columns of every factor matrix: r times the sum of the tensor's sizes"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        """Raises `UserError` where the parameters are not the factors of a tensor."""
        if any(block.neurons != (None, 0) for block in blocks):
            raise UserError(
                "This method decomposes a tensor, and the task has none. Choose a task whose problem is a tensor_decomposition."
            )
        return super().k_range(blocks)

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> AffineSubspace:
        columns = draw_mask("width", setting.k, setting.origin)
        return AffineSubspace.masked(setting.initial, columns, self.rows(setting.seed))

    @abstractmethod
    def rows(self, seed: int) -> RowSampling:
        """Which rows of each least-squares problem are solved."""
