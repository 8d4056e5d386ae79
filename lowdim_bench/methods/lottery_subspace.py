"""The subspace of the principal directions of a full training trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field

from lowdim_bench.methods.base import Method, Preparation, Setting, Train
from lowdim_bench.parametrizations import AffineSubspace, DenseBasis
from lowdim_bench.problems import Block


@final
class LotterySubspace(Method):
    """w = w_0 + U theta, where U holds the top k left singular vectors of the increments of a full training trajectory.

    The increments are taken every `stride` steps and not centred, as in the authors' code. Unlike there, the length of the
    trajectory does not depend on k, so that the bases of one replicate are nested and none depends on a sweep's largest k.
    """

    summary: ClassVar[str] = "top principal directions of a full training trajectory, from the initial weights"
    source: ClassVar[str] = "Larsen et al. 2022 (arXiv 2107.05802)"
    freedom: ClassVar[str] = "k coordinates of a trained subspace"
    side_information: ClassVar[str] = "a basis of D k numbers"
    data_seen: ClassVar[str] = "a full-space training of `increments` times `stride` steps"

    increments: Annotated[int, Field(ge=1)] = 128
    stride: Annotated[int, Field(ge=1)] = 4

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return 1, min(self.increments, blocks[-1].stop)

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> Preparation:
        full_space = AffineSubspace.full_space(setting.initial)
        trained = yield Train(full_space, start=0, stop=self.increments * self.stride, snapshot_every=self.stride)
        increments = torch.stack(trained.snapshots).diff(dim=0)
        directions = torch.linalg.svd(increments, full_matrices=False).Vh[: setting.k]
        return AffineSubspace(setting.initial, DenseBasis(directions.contiguous()))
