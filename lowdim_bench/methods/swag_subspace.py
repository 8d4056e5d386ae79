"""The subspace in which the last iterates of a full training deviate from their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field

from lowdim_bench.methods.base import Method, Preparation, Setting, Train
from lowdim_bench.parametrizations import AffineSubspace, DenseBasis
from lowdim_bench.problems import Block


@final
class SwagSubspace(Method):
    """w = w_0 + U theta, where U holds the top k principal directions of late iterates about their mean: the rank-`rank`
    deviation subspace of SWAG.

    A full training by the task's recipe comes first, as long as the recipe or as the iterates take. Its last part is a phase of
    its own, as SWA's is, in which the optimizer begins anew: `rank` + 1 iterates, `stride` steps apart, have deviations of rank
    `rank`. Maddox et al. subtract the running mean, which spans the same subspace; its principal directions are those of
    Izmailov et al. 2020 (arXiv 1907.07504). `through` is where the affine subspace lies: through the initial weights, beside
    lottery and random subspaces, or through the mean of the iterates, which is trained already and priced as such.
    """

    summary: ClassVar[str] = "principal directions in which late iterates of a full training deviate from their mean"
    source: ClassVar[str] = "Maddox et al. 2019 (arXiv 1902.02476)"
    freedom: ClassVar[str] = "k coordinates of a trained subspace"
    side_information: ClassVar[str] = "a basis of D k numbers; the mean as well, with `through=mean`"
    data_seen: ClassVar[str] = "a full training, of at least `rank` times `stride` steps"

    rank: Annotated[int, Field(ge=1)] = 20
    stride: Annotated[int, Field(ge=1)] = 4
    through: Literal["initial", "mean"] = "initial"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return 1, min(self.rank, blocks[-1].stop)

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> Preparation:
        late = self.rank * self.stride
        before = max(0, setting.full_training.steps - late)
        weights = setting.initial
        if before:
            weights = (yield Train(AffineSubspace.full_space(weights), start=0, stop=before)).weights
        trained = yield Train(
            AffineSubspace.full_space(weights), start=before, stop=before + late, snapshot_every=self.stride
        )
        iterates = torch.stack(trained.snapshots)
        mean = iterates.mean(dim=0)
        directions = torch.linalg.svd(iterates - mean, full_matrices=False).Vh[: setting.k]
        start = setting.initial if self.through == "initial" else mean
        return AffineSubspace(start, DenseBasis(directions.contiguous()))
