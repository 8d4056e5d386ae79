"""A small tensor to decompose, its factors, and products of them written anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lowdim_bench.problems.networks.base import split
from lowdim_bench.problems.tensors import TensorProblem
from lowdim_bench.specs import Task
from lowdim_bench.specs.tensors import PlantedTensor
from tests.problems.small import TENSOR, make_task, small_problem

TASK = make_task(TENSOR)
SHAPE, RANK = (7, 6, 5), 3
D = RANK * sum(SHAPE)


def problem(task: Task = TASK) -> TensorProblem:
    made = small_problem(task)
    assert isinstance(made, TensorProblem)
    return made


PROBLEM = problem()


def planted(**changes: Any) -> PlantedTensor:
    plain = {"kind": "planted_tensor", "shape": [9, 8, 7, 6], "rank": 3, **changes}
    return PlantedTensor.from_data(plain, "a tensor of the tests")


def factors_of(weights: Tensor, made: TensorProblem = PROBLEM) -> list[Tensor]:
    return [part[0].double() for part in split(made.blocks, weights.unsqueeze(0))]


def outer(factors: Sequence[Tensor]) -> Tensor:
    """The sum of outer products, written anew."""
    letters = "abcdef"[: len(factors)]
    return torch.einsum(",".join(f"{one}r" for one in letters) + "->" + letters, *factors)


def unfolded(tensor: Tensor, mode: int) -> Tensor:
    return tensor.movedim(mode, 0).flatten(1)


def without(factors: Sequence[Tensor], mode: int) -> list[Tensor]:
    return [factor for place, factor in enumerate(factors) if place != mode]
