"""A mask from one gradient: connection sensitivity (SNIP)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from lowdim_bench.methods import Method, Setting
from lowdim_bench.parametrizations import AffineSubspace, Coordinates


class Snip(Method):
    """Keeps the k largest |gradient * weight| on one mini-batch at the initial weights. Biases start at zero, so all of them
    are pruned before any weight."""

    summary: ClassVar[str] = "keep the k weights of largest |gradient * weight| at initialization"
    source: ClassVar[str] = "Lee et al. 2019 (arXiv 1810.02340)"

    batch_size: Annotated[int, Field(ge=1)] = 256

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> AffineSubspace:
        examples = setting.problem.batch_order(self.batch_size).examples(0)
        _, gradient = setting.problem.loss_and_gradient(setting.initial.unsqueeze(0), examples)
        sensitivity = (gradient[0] * setting.initial).abs()
        # A stable order: many are zero, and at every k the same of these are kept.
        kept = sensitivity.sort(descending=True, stable=True).indices[: setting.k]
        return AffineSubspace.masked(setting.initial, Coordinates(kept, setting.full_dimension))
