"""Networks of quadratic units, whose best loss least squares gives (Kazemipour, Larsen & Druckmann 2020, arXiv 2001.00098).

Such a network is a homogeneous polynomial of its input, so the mean squared error is a quadratic form in its coefficients c:

    mean (y(x) - y)^2 / mean y^2  =  optimum + |R (c - c*)|^2

where c* is the least-squares solution over all such polynomials and R comes from the QR decomposition of the monomials at the
examples. What is trained is this excess over the global optimum, exactly and on all examples, at a price that does not grow
with their number; and nothing cancels near the optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from lowdim_bench.problems.base import Metrics
from lowdim_bench.problems.differentiated import DifferentiatedProblem, alone
from lowdim_bench.problems.networks import Block
from lowdim_bench.problems.networks.base import Layout, lecun_normal, split
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Task
from lowdim_bench.specs.problem import PlantedPolynomial, QuadraticNetwork


def planted_examples(spec: PlantedPolynomial) -> tuple[np.ndarray, np.ndarray]:
    """Inputs x (N, d) and values y (N,) with mean y^2 = 1, float64."""
    generator = np.random.default_rng(derive("planted polynomial", spec.digest))
    d = spec.dimension
    inputs = generator.normal(scale=d**-0.5, size=(spec.examples, d))
    inputs[:, 0] = 1.0
    if spec.planted == "random_labels":
        values = generator.normal(size=spec.examples)
    else:
        units, signs = _planted_layer(spec, d, generator)
        values = (inputs @ units.T) ** 2
        if spec.degree == 4:
            mixed = units if spec.planted in {"identity", "mixed_signs"} else _gaussian(d, values.shape[1], generator)
            units, signs = _planted_layer(spec, d, generator)
            values = (values @ mixed.T @ units.T) ** 2
        values = values @ signs
    return inputs, values / np.sqrt((values**2).mean())


def _planted_layer(spec: PlantedPolynomial, d: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Units (r, d) and their signs (r,)."""
    if spec.planted in {"identity", "mixed_signs"}:
        signs = np.where((np.arange(d) % 2 == 1) & (spec.planted == "mixed_signs"), -1.0, 1.0)
        return np.eye(d), signs
    rows = d if spec.planted == "gaussian" else min(spec.rank, d)
    return _gaussian(rows, d, generator), generator.choice([-1.0, 1.0], rows)


def _gaussian(rows: int, columns: int, generator: np.random.Generator) -> np.ndarray:
    return generator.normal(scale=columns**-0.5, size=(rows, columns))


@dataclass(frozen=True)
class _Monomials:
    """Products of pairs of n things as monomials: entry (i, j) of an n x n matrix belongs to monomial `place[i * n + j]`."""

    place: Tensor
    count: int

    @classmethod
    def of(cls, factors: Sequence[tuple[int, ...]]) -> tuple[_Monomials, list[tuple[int, ...]]]:
        """Of products of the monomials `factors`, each a sorted tuple of variables; with the products, sorted."""
        products = [tuple(sorted(one + other)) for one in factors for other in factors]
        names = sorted(set(products))
        number = {name: index for index, name in enumerate(names)}
        return cls(torch.tensor([number[product] for product in products]), len(names)), names

    def collect(self, matrices: Tensor) -> Tensor:
        """Coefficients (B, count) of the quadratic forms given by matrices (B, n, n)."""
        flat = matrices.flatten(1)
        return flat.new_zeros(len(flat), self.count).index_add(1, self.place.to(flat.device), flat)


@final
class QuadraticNetworkProblem(DifferentiatedProblem):
    """The excess of a quadratic network's normalized squared error over its least-squares optimum.

    Every gradient is the exact one, of all examples. It has the penalty of the orthogonal variant in it, the metrics have not.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        spec = task.problem
        assert isinstance(spec, QuadraticNetwork)
        self._spec = spec
        super().__init__(task, network_blocks(spec), None, device)
        self.inputs, self.values = planted_examples(spec.data)
        variables = [(index,) for index in range(spec.data.dimension)]
        second, pairs = _Monomials.of(variables)
        self._levels, monomials = [second], pairs
        if spec.quadratic_layers == 2:
            fourth, monomials = _Monomials.of(pairs)
            self._levels.append(fourth)
        features = np.stack([self.inputs[:, list(one)].prod(axis=1) for one in monomials], axis=1)
        best, *_ = np.linalg.lstsq(features, self.values, rcond=None)
        self.optimum = float(((features @ best - self.values) ** 2).mean())
        """The least-squares optimum, as a share of mean y^2: what a loss of zero stands for."""
        root = np.linalg.qr(features / np.sqrt(len(features)), mode="r")
        self._best, self._root = (torch.from_numpy(array).to(device) for array in (best, root))
        self._best32, self._root32 = self._best.float(), self._root.float()

    def initial(self, replicate: int) -> Tensor:
        return lecun_normal(self.blocks, self.generator("initial weights", replicate)).to(self.device)

    def losses(self, parts: Sequence[Tensor], examples: Tensor | None) -> Tensor:
        excess = self._excess(parts)
        if self._spec.variant != "orthogonal":
            return excess
        return excess + self._spec.penalty * _distance_from_orthogonal(parts[::2])

    @torch.no_grad()
    def train_metrics(self, weights: Tensor) -> Metrics:
        excess = [self._excess(split(self.blocks, row)) for row in alone(weights.double())]
        return Metrics(torch.cat(excess).cpu(), None)

    def test_accuracy(self, weights: Tensor) -> None:
        return None

    def _excess(self, parts: Sequence[Tensor]) -> Tensor:
        wide = parts[0].dtype == torch.float64
        best, root = (self._best, self._root) if wide else (self._best32, self._root32)
        wrong = self._coefficients(parts) - best
        return (wrong @ root.T).square().sum(dim=1)

    def _coefficients(self, parts: Sequence[Tensor]) -> Tensor:
        """Coefficients (P, monomials) of the network's polynomial."""
        pack, d = len(parts[0]), self._spec.data.dimension
        parts_a_layer = len(parts) // self._spec.quadratic_layers
        features = torch.eye(d, dtype=parts[0].dtype, device=parts[0].device).expand(pack, -1, -1)
        for layer, level in enumerate(self._levels):
            features = self._layer(parts[layer * parts_a_layer :][:parts_a_layer], features, level)
        return features.squeeze(1)

    def _layer(self, parts: Sequence[Tensor], features: Tensor, monomials: _Monomials) -> Tensor:
        """Polynomials (P, outputs, monomials) of one quadratic layer, from those of its inputs, (P, inputs, monomials)."""
        units, outputs = (part.transpose(1, 2) for part in parts[-2:])
        directions = torch.bmm(units, features)
        weighted = outputs.unsqueeze(3) * directions.unsqueeze(1)  # (P, outputs, units, monomials)
        rows, factors = weighted.flatten(0, 1), directions.unsqueeze(1).expand_as(weighted).flatten(0, 1)
        forms = torch.bmm(rows.transpose(1, 2), factors)
        found = monomials.collect(forms).view(len(outputs), outputs.shape[1], -1)
        if self._spec.variant != "norm":
            return found
        norm = monomials.collect(
            torch.bmm(features.transpose(1, 2), features)
        )  # of the squared norm of the layer's input
        return found + parts[0].unsqueeze(2) * norm.unsqueeze(1)


def _distance_from_orthogonal(units: Sequence[Tensor]) -> Tensor:
    """Sum (P,) of |QQ' - I|^2 over the units Q (P, inputs, units) of all layers."""
    total = units[0].new_zeros(len(units[0]))
    for layer in units:
        gram = torch.bmm(layer, layer.transpose(1, 2))
        total = total + (gram - torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)).square().sum((1, 2))
    return total


def network_blocks(spec: QuadraticNetwork) -> tuple[Block, ...]:
    """Of each quadratic layer: multiples of the norm (outputs,) if any, units (inputs, units), outputs (units, outputs)."""
    hidden, d = spec.hidden, spec.data.dimension
    # Inputs, units, outputs of each layer; and which hidden layer's neurons these are.
    sizes, neurons = [(d, hidden, 1)], [(None, 0, None)]
    if spec.quadratic_layers == 2:
        sizes, neurons = [(d, hidden * d, hidden), (hidden, hidden, 1)], [(None, 0, 1), (1, 2, None)]
    layout = Layout()
    for layer, ((inputs, units, outputs), (before, within, after)) in enumerate(zip(sizes, neurons, strict=True)):
        if spec.variant == "norm":
            layout.add(f"layer{layer}.norm", "bias", (outputs,), inputs, (after,))
        layout.add(f"layer{layer}.units", "weight", (inputs, units), inputs, (before, within))
        layout.add(f"layer{layer}.outputs", "weight", (units, outputs), units, (within, after))
    return tuple(layout.blocks)
