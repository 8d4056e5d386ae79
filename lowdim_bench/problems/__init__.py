"""Problems: data, network, and a metered loss over flat parameters."""

from collections.abc import Mapping

import numpy as np
import torch

from lowdim_bench.problems.base import BatchOrder, Metrics, Problem
from lowdim_bench.problems.classification import ClassificationProblem
from lowdim_bench.problems.data import load_arrays
from lowdim_bench.problems.metering import Ledger, MeteredProblem
from lowdim_bench.problems.networks import Block, build_network
from lowdim_bench.problems.quadratic import QuadraticProblem
from lowdim_bench.specs import Task
from lowdim_bench.specs.problem import Classification

__all__ = ["BatchOrder", "Block", "Ledger", "MeteredProblem", "Metrics", "Problem", "build", "layout", "load_arrays"]


def build(task: Task, arrays: Mapping[str, np.ndarray], device: str = "cpu") -> Problem:
    """The problem of a task on a device, from the arrays that `load_arrays` gave. Raises `UserError` on a misfit."""
    if isinstance(task.problem, Classification):
        return ClassificationProblem(task, arrays, torch.device(device))
    return QuadraticProblem(task, torch.device(device))


def layout(task: Task, arrays: Mapping[str, np.ndarray]) -> tuple[Block, ...]:
    """The blocks of a task's network, without copying its data; the full dimension is `layout(...)[-1].stop`."""
    if isinstance(task.problem, Classification):
        classes = int(arrays["y_train"].max()) + 1
        return build_network(task.problem.network, arrays["x_train"].shape[1:], classes).blocks
    return QuadraticProblem(task, torch.device("cpu")).blocks
