"""Low-rank decompositions of tensors, planted ones and measured ones."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lowdim_bench.specs.base import Spec

_Size = Annotated[int, Field(ge=1, le=100_000)]
_MOST_ENTRIES = 2**28
"""Entries that a worker can be asked to hold: a gibibyte in float32."""


class PlantedTensor(Spec):
    """A sum of `rank` outer products, plus normal noise of `noise` times its norm; drawn from its own digest.

    gaussian: factors N(0, 1). uniform: on [0, 1], so that all components share a direction, which is what makes alternating
    least squares slow. concentrated: gaussian, but with a hundredth of the rows of each factor, at least one, `peak` times as
    large, so that few rows of a least-squares problem tell most of it.
    """

    kind: Literal["planted_tensor"]
    shape: Annotated[tuple[_Size, ...], Field(min_length=3, max_length=6)]
    rank: Annotated[int, Field(ge=1, le=1000)]
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    factors: Literal["gaussian", "uniform", "concentrated"] = "gaussian"
    peak: Annotated[float, Field(ge=1, le=1000)] = 10.0
    draw: Annotated[int, Field(ge=0)] = 0
    """Another number draws another tensor of the same kind."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if math.prod(self.shape) > _MOST_ENTRIES:
            raise ValueError(f"the tensor has {math.prod(self.shape):,} entries; at most {_MOST_ENTRIES:,} are held")
        return self


class DigitsTensor(Spec):
    """scikit-learn's digits, all 1,797 images of 8 x 8 pixels stacked: 1,797 x 8 x 8, pixels from 0 to 16."""

    kind: Literal["digits_tensor"]


class ArrayTensor(Spec):
    """Your own tensor: an .npz with `x`, of real numbers, all of them finite, in three to six modes.

    `path` is absolute or relative to the data root; `sha256` of the file is what identifies the data.
    """

    not_identity: ClassVar[frozenset[str]] = frozenset({"path"})

    kind: Literal["array_tensor"]
    path: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TensorDecomposition(Spec):
    """The relative error |X - M| / |X| of a canonical polyadic (CP) decomposition M of a tensor X: 1 less its fit.

    M is a sum of outer products of the columns of one factor matrix a mode. The factors have `rank` columns each, so that
    D = rank * (sum of X's sizes); with r columns in use, k = r * (sum of sizes). What is trained goes down on the square of
    the error; the error itself counts, and is computed from all entries, never from a sample of them.
    """

    kind: Literal["tensor_decomposition"]
    data: Annotated[PlantedTensor | DigitsTensor | ArrayTensor, Field(discriminator="kind")]
    rank: Annotated[int, Field(ge=1, le=1000)]
