"""An affine subspace from gradients at the initial weights alone: no step is trained before the scored training."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lowdim_bench.methods import Method, Setting
from lowdim_bench.parametrizations import AffineSubspace, DenseBasis


class GradientSpan(Method):
    """w = w_0 + A theta: principal directions of `gradients` mini-batch gradients at w_0, then random ones for larger k.

    That gradients soon live in few dimensions is known since Gur-Ari et al. 2018 (arXiv 1812.04754).
    """

    summary: ClassVar[str] = "principal directions of gradients at the initial weights, then random ones"
    source: ClassVar[str] = "this repository; gradients in few dimensions: Gur-Ari et al. 2018 (arXiv 1812.04754)"

    gradients: Annotated[int, Field(ge=1)] = 64

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> AffineSubspace:
        principal = torch.linalg.svd(self._gradients(setting), full_matrices=False).Vh
        drawn = random_directions(max(0, setting.k - len(principal)), setting)
        columns = torch.cat([principal, drawn])[: setting.k]
        return AffineSubspace(setting.initial, DenseBasis(columns.contiguous()))

    def _gradients(self, setting: Setting) -> Tensor:
        """(gradients, D): on the mini-batches that training would see first."""
        start = setting.initial.unsqueeze(0)
        batches = setting.problem.batch_order(setting.full_training.batch_size)
        found = [setting.problem.loss_and_gradient(start, batches.examples(step))[1] for step in range(self.gradients)]
        return torch.cat(found)


def random_directions(count: int, setting: Setting) -> Tensor:
    """(count, D) of unit length. Drawn one by one, so that the first do not depend on how many follow."""
    generator = torch.Generator().manual_seed(setting.seed)
    columns = torch.empty(count, setting.full_dimension)
    for row in columns:
        row.normal_(generator=generator)
    return (columns / columns.norm(dim=1, keepdim=True)).to(setting.initial.device)
