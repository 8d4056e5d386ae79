"""Training the weights of largest Fisher information."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

import torch
from pydantic import Field

from lowdim_bench.errors import MethodFailure
from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.methods.pruning import largest
from lowdim_bench.parametrizations import AffineSubspace


@final
class FishMask(Method):
    """The k parameters of largest empirical Fisher information, the mean of (d log p(y|x) / dw)^2 over some examples.

    All others stay at their initial values. One gradient for each example. Raises `MethodFailure` where a problem has none.
    """

    summary: ClassVar[str] = "train the k parameters of largest Fisher information, others frozen at initialization"
    source: ClassVar[str] = "Sung et al. 2021 (arXiv 2111.09839), section 3"
    freedom: ClassVar[str] = "k parameters"
    side_information: ClassVar[str] = "a mask"
    data_seen: ClassVar[str] = "`examples` examples"

    examples: Annotated[int, Field(ge=1)] = 256

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> AffineSubspace:
        initial = setting.initial
        some = setting.problem.batch_order(self.examples).examples(0)
        if some is None:  # a square of the full gradient would rank parameters by its size, which is another method
            raise MethodFailure("it squares the gradients of single examples, and this problem has none")
        fisher = torch.zeros_like(initial)
        for one in some.split(1, dim=1):
            _, gradient = setting.problem.loss_and_gradient(initial.unsqueeze(0), one)
            fisher += gradient[0] ** 2
        nowhere = torch.zeros_like(initial, dtype=torch.bool)
        return AffineSubspace(initial, largest(fisher, setting.k, ~nowhere, nowhere))
