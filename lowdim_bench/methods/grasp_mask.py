"""Pruning that preserves the gradient's flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.methods.pruning import Scope, always_kept, largest, prunable_range
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.parametrizations.draws import last_layer
from lowdim_bench.problems import Block


@final
class GraspMask(Method):
    """Keeps the k largest w * (Hg) of one mini-batch at the initial weights: those whose removal costs most of |gradient|^2.

    Logits are divided by `temperature`, as in the authors' code. That is the loss at S w, where S divides the last layer: its
    gradient is S g(Sw) and its Hessian S H(Sw) S. It smooths a softmax, so that a loss without classes, a squared error, has
    none: S is one there. One gradient and one product with the Hessian, which costs two.
    """

    summary: ClassVar[str] = "keep the k weights that matter most to the gradient's norm at initialization (GraSP)"
    source: ClassVar[str] = "Wang et al. 2020 (arXiv 2002.07376), algorithm 1"
    freedom: ClassVar[str] = "the k kept weights"
    side_information: ClassVar[str] = "a mask"
    data_seen: ClassVar[str] = "one mini-batch"

    examples: Annotated[int, Field(ge=1)] = 100
    temperature: Annotated[float, Field(gt=0)] = 200.0
    scope: Scope = "all"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return prunable_range(blocks, self.scope)

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> AffineSubspace:
        problem, initial = setting.problem, setting.initial
        scale = torch.ones_like(initial)
        for block in last_layer(problem.blocks) if problem.chance_loss is not None else ():
            scale[block.start : block.stop] = 1 / self.temperature
        point, some = (scale * initial).unsqueeze(0), problem.batch_order(self.examples).examples(0)
        _, gradient = problem.loss_and_gradient(point, some)
        # Twice the scale: once for the gradient at temperature, once for its image under the Hessian at temperature.
        product = scale * problem.hessian_vector(point, scale**2 * gradient, some)[0]
        everywhere = torch.ones_like(initial, dtype=torch.bool)
        protected = always_kept(problem.blocks, self.scope)
        return AffineSubspace.masked(initial, largest(initial * product, setting.k, everywhere, protected))
