"""Canonical polyadic (CP) decomposition of a tensor: its error, and one factor at a time solved by least squares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from lowdim_bench.errors import UserError
from lowdim_bench.problems.base import Metrics, Solution
from lowdim_bench.problems.differentiated import DifferentiatedProblem, alone
from lowdim_bench.problems.files import digits_table, read_arrays
from lowdim_bench.problems.networks import Block
from lowdim_bench.problems.networks.base import Layout, split
from lowdim_bench.problems.row_sampling import RowSampling, draw_rows, row_numbers
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Task
from lowdim_bench.specs.tensors import ArrayTensor, DigitsTensor, PlantedTensor, TensorDecomposition

_ENTRIES_AT_ONCE = 2**21
"""Entries whose error is computed at once, in float64."""
_RELATIVE_TOLERANCE = 1e-12
"""Eigenvalues of a Gram matrix of unit columns below this share of the largest count as zero."""


def planted_tensor(spec: PlantedTensor) -> np.ndarray:
    """The tensor, float32."""
    generator = np.random.default_rng(derive("planted tensor", spec.digest))
    factors = [_planted_factor(spec, size, generator) for size in spec.shape]
    signal = torch.from_numpy(factors[0]) @ khatri_rao([torch.from_numpy(one) for one in factors[1:]]).T
    noise = torch.from_numpy(generator.normal(size=tuple(signal.shape)))
    return (signal + spec.noise * signal.norm() / noise.norm() * noise).view(spec.shape).float().numpy()


def _planted_factor(spec: PlantedTensor, size: int, generator: np.random.Generator) -> np.ndarray:
    if spec.factors == "uniform":
        return generator.uniform(size=(size, spec.rank))
    factor = generator.normal(size=(size, spec.rank))
    if spec.factors == "concentrated":
        factor[generator.permutation(size)[: max(1, size // 100)]] *= spec.peak
    return factor


def load_tensor(task: Task, data_root: Path) -> np.ndarray:
    """The tensor of a task, float32. Raises `UserError` where it is missing, not what its SHA-256 says, or no such tensor."""
    assert isinstance(task.problem, TensorDecomposition)
    data = task.problem.data
    if isinstance(data, PlantedTensor):
        return planted_tensor(data)
    if isinstance(data, DigitsTensor):
        return digits_table()[:, :-1].reshape(-1, 8, 8)
    assert isinstance(data, ArrayTensor)
    (tensor,), source = read_arrays(data.path, data.sha256, data_root, ("x",))
    if not 3 <= tensor.ndim <= 6 or tensor.dtype.kind not in "uif" or not tensor.size:
        raise UserError(f"{source}: x must be real numbers in three to six modes, not {tensor.dtype} {tensor.shape}.")
    if not (np.abs(tensor.astype(np.float64)) <= np.finfo(np.float32).max).all() or not tensor.any():
        raise UserError(f"{source}: x must be finite in float32 (fill in what is missing) and not zero throughout.")
    return tensor.astype(np.float32)


def factor_blocks(shape: Sequence[int], rank: int) -> tuple[Block, ...]:
    """One factor (size, rank) a mode; the columns of all factors are one layer's neurons."""
    layout = Layout()
    for mode, size in enumerate(shape):
        layout.add(f"mode{mode}.factor", "weight", (size, rank), size, (None, 0))
    return tuple(layout.blocks)


def khatri_rao(factors: Sequence[Tensor]) -> Tensor:
    """Products of one row of each factor (n_m, r), of the last factor's fastest: (prod n_m, r)."""
    product = factors[0]
    for factor in factors[1:]:
        product = (product.unsqueeze(1) * factor).flatten(0, 1)
    return product


@final
class TensorProblem(DifferentiatedProblem):
    """Entries are its examples. Gradients are of the squared relative error; metrics are the relative error, 1 - fit."""

    def __init__(self, task: Task, arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
        assert isinstance(task.problem, TensorDecomposition)
        tensor = torch.from_numpy(arrays["tensor"])
        self.shape = tuple(tensor.shape)
        self.rank = task.problem.rank
        super().__init__(task, factor_blocks(self.shape, self.rank), tensor.numel(), device)
        root_mean_square = tensor.double().square().mean().sqrt()
        self.tensor = (tensor / root_mean_square).to(device)
        """Scaled to a mean square of 1, so that initial factors and learning rates suit any tensor."""
        self._square = float(self.tensor.double().square().sum())
        self._fibres: dict[int, Tensor] = {}

    def initial(self, replicate: int) -> Tensor:
        """Factors uniform on [0, 1], as in the authors' code, times what makes the model's entries one on average."""
        factors = torch.rand(self.full_dimension, generator=self.generator("initial factors", replicate))
        return (factors * (2 / self.rank ** (1 / len(self.shape)))).to(self.device)

    def losses(self, parts: Sequence[Tensor], examples: Tensor | None) -> Tensor:
        if examples is None:
            rest = [khatri_rao([part[row] for part in parts[1:]]) for row in range(len(parts[0]))]
            modelled = torch.bmm(parts[0], torch.stack(rest).transpose(1, 2))
            return (self.tensor.flatten(1) - modelled).square().sum(dim=(1, 2)) / self._square
        places = torch.unravel_index(examples, self.shape)
        rows = [
            part.gather(1, one.unsqueeze(2).expand(-1, -1, self.rank)) for part, one in zip(parts, places, strict=True)
        ]
        modelled = math.prod(rows[1:], start=rows[0]).sum(dim=2)
        return (self.tensor.flatten()[examples] - modelled).square().mean(dim=1)

    @torch.no_grad()
    def train_metrics(self, weights: Tensor) -> Metrics:
        """The relative error on all entries, from the residual itself: differences of norms would lose its last digits."""
        return Metrics(torch.tensor([self._error(row) for row in alone(weights)], dtype=torch.float64), None)

    def test_accuracy(self, weights: Tensor) -> None:
        return None

    def _error(self, weights: Tensor) -> float:
        first, *others = (part[0].double() for part in split(self.blocks, weights))
        rest = khatri_rao(others).T
        rows = max(1, _ENTRIES_AT_ONCE // rest.shape[1])
        pieces = zip(self.tensor.flatten(1).split(rows), first.split(rows), strict=True)
        return math.sqrt(
            sum(float((some.double() - factor @ rest).square().sum()) for some, factor in pieces) / self._square
        )

    @torch.no_grad()
    def solve_block(
        self, weights: Tensor, step: int, movable: Tensor, samplings: Sequence[RowSampling | None]
    ) -> Solution:
        mode = step % len(self.shape)
        solved, rows = weights.clone(), []
        block = self.blocks[mode]
        for row in range(len(weights)):
            parts = [part[0] for part in split(self.blocks, weights[row : row + 1].clone())]
            free = movable[row, block.start : block.stop].view(block.shape)
            factor, count = self._solve(parts, mode, free, samplings[row] or RowSampling(), step)
            solved[row, block.start : block.stop] = factor.flatten()
            rows.append(count)
        return Solution(solved, rows, [count * self.shape[mode] for count in rows])

    def _solve(
        self, parts: Sequence[Tensor], mode: int, free: Tensor, sampling: RowSampling, step: int
    ) -> tuple[Tensor, int]:
        """The factor (n, r) of a mode, its free numbers solved for, and of how many rows the least-squares problem was."""
        others = [part for place, part in enumerate(parts) if place != mode]
        live = torch.stack([other.any(dim=0) for other in others]).all(dim=0)
        factor = torch.where(
            free & ~live, 0.0, parts[mode]
        )  # what nothing depends on: the shortest solution has it at zero
        others = [other[:, live] for other in others]
        gram, right, count = self._normal_equations(others, mode, sampling, step)
        factor[:, live] = _solved(gram, right, factor[:, live].double(), free[:, live]).float()
        return factor, count

    def _normal_equations(
        self, others: Sequence[Tensor], mode: int, sampling: RowSampling, step: int
    ) -> tuple[Tensor, Tensor, int]:
        """Z'Z (r, r) and X Z (n, r), float64, of the Khatri-Rao product Z of the other factors, and how many rows they have."""
        total = math.prod(len(other) for other in others)
        if sampling.samples is None or not others[0].shape[1]:
            gram = math.prod(other.double().T @ other.double() for other in others)
            assert isinstance(gram, Tensor)
            # In this order: the transposed product takes several times as long.
            return gram, (khatri_rao(others).T @ self._fibres_of(mode)).T.double(), total
        rows = draw_rows(others, sampling, sampling.generator(step))
        places, weights = rows.places.to(self.device), rows.weights.to(self.device)
        some = math.prod(other[places[:, place]].double() for place, other in enumerate(others))
        assert isinstance(some, Tensor)
        weighted = some * weights.unsqueeze(1)
        fibres = self._fibres_of(mode)[row_numbers(places, [len(other) for other in others])]
        return some.T @ weighted, (weighted.T @ fibres.double()).T, len(places)

    def _fibres_of(self, mode: int) -> Tensor:
        """All fibres of a mode (prod of other sizes, n), contiguous: a copy of the tensor for each mode but the last."""
        if mode not in self._fibres:
            self._fibres[mode] = self.tensor.movedim(mode, -1).flatten(0, -2).contiguous()
        return self._fibres[mode]


def _solved(gram: Tensor, right: Tensor, factor: Tensor, free: Tensor) -> Tensor:
    """Rows a (n, r) of a factor that minimize a G a' - 2 a b', b (n, r), over their free (n, r) numbers."""
    if bool(free.all()):
        return right @ _inverse(gram)
    patterns, which = free.unique(dim=0, return_inverse=True)
    result = factor.clone()
    for number, pattern in enumerate(patterns):
        rows = which == number
        if not bool(pattern.any()):
            continue
        wanted = right[rows][:, pattern] - factor[rows][:, ~pattern] @ gram[~pattern][:, pattern]
        result[rows.nonzero(), pattern.nonzero().T] = wanted @ _inverse(gram[pattern][:, pattern])
    return result


def _inverse(gram: Tensor) -> Tensor:
    """The pseudoinverse of a Gram matrix, its columns first scaled to unit norm: their lengths say nothing of rank."""
    size = gram.diagonal().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    scaled = gram / (size * size.unsqueeze(1))
    return torch.linalg.pinv(scaled, rtol=_RELATIVE_TOLERANCE, hermitian=True) / (size * size.unsqueeze(1))
