"""Weight matrices as tensor trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, final

from pydantic import Field

from lowdim_bench.methods.base import Method, Setting
from lowdim_bench.parametrizations import FactoredWeights, TensorTrain
from lowdim_bench.parametrizations.factored.tensor_train import MOST_CORES
from lowdim_bench.problems import Block


@final
class TensorTrainTraining(Method):
    """Every weight matrix is a tensor train of `cores` cores, from random ones; k gives the rank of its bonds.

    Of the last cores as many entries are trained as k leaves. Biases and scales of normalization are always among the k
    numbers, and first.
    """

    summary: ClassVar[str] = "weight matrices as tensor trains, trained from scratch"
    source: ClassVar[str] = "Novikov et al. 2015 (arXiv 1509.06569)"
    freedom: ClassVar[str] = "entries of the cores, biases and scales"
    side_information: ClassVar[str] = "none"
    data_seen: ClassVar[str] = "none"

    cores: Annotated[int, Field(ge=2, le=MOST_CORES)] = 3

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        return 1, TensorTrain.largest_k(blocks, self.cores)

    def prepare(self, setting: Setting) -> FactoredWeights:
        return FactoredWeights.of(TensorTrain(setting.k, setting.origin, cores=self.cores), setting.initial)
