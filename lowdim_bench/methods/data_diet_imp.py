"""Iterative magnitude pruning from weights that were pre-trained on few examples."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from lowdim_bench.errors import MethodFailure
from lowdim_bench.methods.base import Method, Preparation, Setting, Train, Trained
from lowdim_bench.methods.pruning import Scope, prunable_range, prune_iteratively
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.problems import Block


@final
class DataDietImp(Method):
    """Pre-train to the rewind point on `size` examples alone, then prune iteratively with all data.

    Easy examples are those of smallest error norm |softmax - one-hot label| (EL2N), hard ones those of largest, on average over
    `score_runs` trainings of `score_steps` steps from other initial weights. Random ones are drawn from all examples alike, not
    from each class equally as in the source. Total steps of a round are those of the recipe.
    """

    summary: ClassVar[str] = "lottery tickets rewound to weights pre-trained on few easy, random or hard examples"
    source: ClassVar[str] = "Paul et al. 2022 (arXiv 2206.01278); EL2N: Paul et al. 2021 (arXiv 2107.07075)"
    freedom: ClassVar[str] = "the k kept weights"
    side_information: ClassVar[str] = "a mask, and the pre-trained weights"
    data_seen: ClassVar[str] = (
        "a pre-training; full trainings, one a round; for easy or hard examples, short trainings and scores of all as well"
    )

    pretrain_steps: Annotated[int, Field(ge=1)] = 50
    subset: Literal["all", "easy", "random", "hard"] = "easy"
    size: Annotated[int, Field(ge=1)] = 256
    score_runs: Annotated[int, Field(ge=1)] = 3
    score_steps: Annotated[int, Field(ge=1)] = 50
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.2
    scope: Scope = "all"

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return prunable_range(blocks, self.scope)

    def prepare(self, setting: Setting) -> Preparation:
        diet = yield from self._diet(setting)
        start = AffineSubspace.full_space(setting.initial)
        rewound = (yield Train(start, start=0, stop=self.pretrain_steps, examples=diet)).weights
        kept = yield from prune_iteratively(setting, rewound, self.pretrain_steps, self.rate, self.scope)
        return AffineSubspace.masked(rewound, kept)

    def _diet(self, setting: Setting) -> Generator[Train, Trained, Tensor | None]:
        """The indices (n,) of the examples to pre-train on; None for all."""
        count = setting.problem.example_count
        if self.subset == "all":
            return None
        if count is None:
            raise MethodFailure("it pre-trains on some examples, and this problem has none to choose from")
        if self.subset == "random":
            generator = torch.Generator().manual_seed(setting.seed)
            order = torch.randperm(count, generator=generator)
        else:
            scores = yield from self._error_norms(setting)
            order = scores.sort(descending=self.subset == "hard", stable=True).indices
        return order[: self.size].sort().values

    def _error_norms(self, setting: Setting) -> Generator[Train, Trained, Tensor]:
        """EL2N (N,), on the CPU."""
        total = 0.0
        for run in range(self.score_runs):
            initial = setting.origin.reinitialized(run).to(setting.initial.device)
            trained = yield Train(AffineSubspace.full_space(initial), start=0, stop=self.score_steps)
            total = total + setting.problem.error_norms(trained.weights.unsqueeze(0))[0].double().cpu()
        assert isinstance(total, Tensor)
        return total / self.score_runs
