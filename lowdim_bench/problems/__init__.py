"""Problems: data, network, and a metered loss over flat parameters."""

import math
from collections.abc import Mapping

import numpy as np
import torch

from lowdim_bench.problems.base import BatchOrder, Metrics, Problem
from lowdim_bench.problems.classification import ClassificationProblem
from lowdim_bench.problems.data import load_arrays
from lowdim_bench.problems.metering import Ledger, MeteredProblem
from lowdim_bench.problems.networks import Block, build_network, neuron_counts
from lowdim_bench.problems.networks.pixels import build_pixel_network
from lowdim_bench.problems.networks.transformer import Transformer
from lowdim_bench.problems.next_character import TextProblem
from lowdim_bench.problems.origin import Origin
from lowdim_bench.problems.parts import PartMetrics, measure_parts, together
from lowdim_bench.problems.pixel_labelling import PixelProblem
from lowdim_bench.problems.quadratic import QuadraticProblem
from lowdim_bench.problems.quadratic_networks import QuadraticNetworkProblem, network_blocks
from lowdim_bench.problems.row_sampling import RowSampling
from lowdim_bench.problems.tensors import TensorProblem, factor_blocks
from lowdim_bench.problems.text_data import characters
from lowdim_bench.specs import Task
from lowdim_bench.specs.pixels import PixelLabelling
from lowdim_bench.specs.problem import Classification, NextCharacter, QuadraticNetwork, QuadraticWell
from lowdim_bench.specs.tensors import PlantedTensor, TensorDecomposition

__all__ = [
    "BatchOrder",
    "Block",
    "Ledger",
    "MeteredProblem",
    "Metrics",
    "Origin",
    "PartMetrics",
    "Problem",
    "RowSampling",
    "build",
    "forward_operations",
    "layout",
    "load_arrays",
    "measure_parts",
    "neuron_counts",
    "together",
]

_COUNTED = 2
"""Examples of which operations are counted: one alone cannot be normalized by its batch."""


def build(task: Task, arrays: Mapping[str, np.ndarray], device: str = "cpu") -> Problem:
    """The problem of a task on a device, from the arrays that `load_arrays` gave. Raises `UserError` on a misfit."""
    match task.problem:
        case Classification():
            return ClassificationProblem(task, arrays, torch.device(device))
        case PixelLabelling():
            return PixelProblem(task, arrays, torch.device(device))
        case NextCharacter():
            return TextProblem(task, arrays, torch.device(device))
        case TensorDecomposition():
            return TensorProblem(task, arrays, torch.device(device))
        case QuadraticNetwork():
            return QuadraticNetworkProblem(task, torch.device(device))
        case QuadraticWell():
            return QuadraticProblem(task, torch.device(device))


def layout(task: Task, arrays: Mapping[str, np.ndarray]) -> tuple[Block, ...]:
    """The blocks of a task's network, without copying its data; the full dimension is `layout(...)[-1].stop`."""
    match task.problem:
        case Classification():
            classes = int(arrays["y_train"].max()) + 1
            return build_network(task.problem.network, arrays["x_train"].shape[1:], classes).blocks
        case PixelLabelling():
            return build_pixel_network(task.problem).blocks
        case NextCharacter():
            return Transformer(task.problem.network, characters(task.problem.data)).blocks
        case TensorDecomposition():
            data = task.problem.data
            shape = data.shape if isinstance(data, PlantedTensor) else arrays["tensor"].shape
            return factor_blocks(shape, task.problem.rank)
        case QuadraticNetwork():
            return network_blocks(task.problem)
        case QuadraticWell():
            return QuadraticProblem(task, torch.device("cpu")).blocks


def forward_operations(task: Task, arrays: Mapping[str, np.ndarray]) -> int:
    """Floating-point operations of the loss at one example, or of a whole problem without examples: products and
    convolutions, as torch counts them (a multiplication and an addition are two)."""
    if isinstance(task.problem, PixelLabelling):
        return 2 * task.problem.multiply_accumulates
    if isinstance(task.problem, NextCharacter):
        return 2 * Transformer(task.problem.network, characters(task.problem.data)).multiplications
    if isinstance(task.problem, TensorDecomposition):  # of one entry: a product of as many numbers as modes, added up
        return arrays["tensor"].ndim * task.problem.rank
    if isinstance(task.problem, QuadraticNetwork):
        return 2 * task.problem.loss_multiplications
    if isinstance(task.problem, QuadraticWell):
        return 2 * task.problem.dimension**2
    shape = arrays["x_train"].shape[1:]
    network = build_network(task.problem.network, shape, int(arrays["y_train"].max()) + 1)
    if all(len(block.shape) == 2 for block in network.blocks if block.role == "weight"):
        return 2 * sum(math.prod(block.shape) for block in network.blocks if block.role == "weight")
    from torch.utils.flop_counter import FlopCounterMode  # takes a second to import

    weights = torch.zeros(1, network.full_dimension)
    with FlopCounterMode(display=False) as counter:
        network.forward(network.split(weights), torch.zeros(1, _COUNTED, *shape))
    return counter.get_total_flops() // _COUNTED
