"""Maps that build weight matrices from smaller factors: smooth in the k numbers, but not linear."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from lowdim_bench.parametrizations.maps import Map, PackedMap, moved_by
from lowdim_bench.parametrizations.operators.base import Operator, rank_columns, rank_of

if TYPE_CHECKING:  # at run time these would load the compiler of the kernels, which listing methods does without
    from lowdim_bench.problems import Block, Origin

Option = int | str


_OVERSAMPLED = 8


@dataclass(frozen=True)
class Matrix:
    """One weight tensor of a network as a matrix from its inputs to its outputs."""

    block: Block
    outputs: int
    inputs: int

    @classmethod
    def of(cls, block: Block) -> Self:
        """A dense layer is stored as (inputs, outputs), a convolution as (outputs, inputs, height, width)."""
        if len(block.shape) == 2:
            return cls(block, block.shape[1], block.shape[0])
        return cls(block, block.shape[0], math.prod(block.shape[1:]))

    @property
    def largest_rank(self) -> int:
        return min(self.outputs, self.inputs)

    def read(self, weights: Tensor) -> Tensor:
        """The matrix (outputs, inputs) within weights (D,)."""
        flat = weights[self.block.start : self.block.stop]
        return flat.view(self.inputs, self.outputs).T if self._transposed else flat.view(self.outputs, self.inputs)

    def flat(self, matrix: Tensor) -> Tensor:
        """A matrix (outputs, inputs) as the numbers of its block, in their order."""
        return (matrix.T if self._transposed else matrix).reshape(-1)

    @property
    def _transposed(self) -> bool:
        return len(self.block.shape) == 2


def in_order(priorities: Sequence[Tensor]) -> Tensor:
    """The places of entries by their priority, lowest first, and of equal ones the first first."""
    return torch.cat([priority.reshape(-1) for priority in priorities]).argsort(stable=True)


def matrices(blocks: Sequence[Block]) -> tuple[Matrix, ...]:
    """The weight tensors of a network, without its biases and the scales of its normalization."""
    return tuple(Matrix.of(block) for block in blocks if block.role == "weight")


def placed(phi: Tensor, blocks: Sequence[Block], updates: Sequence[Tensor]) -> Tensor:
    """(D,): an update for each weight tensor, in order, and zeros for everything else."""
    found = iter(updates)
    return torch.cat(
        [next(found) if block.role == "weight" else phi.new_zeros(block.stop - block.start) for block in blocks]
    )


@dataclass(frozen=True)
class Factors:
    """What a factorization begins as."""

    anchor: Tensor
    """(n,): every entry."""
    order: Tensor
    """(n,) int64: their places, in the order in which they are trained."""
    constants: Mapping[str, Tensor] = field(default_factory=dict)


class FactorMap(Map):
    """F(phi), where phi (n,) are all entries of the factors: k of them are trained, the others stay at the anchor.

    The anchor is what the factors begin as, made from the replicate's initial weights and the seed. So any k can be asked
    for: factors of the smallest size that has k entries are taken, and those entries trained that come first in `order`.
    """

    option_names: ClassVar[frozenset[str]] = frozenset()
    """What it takes beside k and where it comes from."""
    from_initial: ClassVar[bool] = True
    """Whether F is added to the initial weights; otherwise it gives all the weights by itself."""

    def __init__(self, k: int, origin: Origin, **options: Option) -> None:
        """Raises ValueError where the factors cannot have k entries, or an option is not valid."""
        super().__init__(k, origin.full_dimension, origin.seed)
        if options.keys() != self.option_names:
            wanted = ", ".join(sorted(self.option_names)) or "none"
            raise ValueError(
                f"factors of kind '{self.kind}' take the options {wanted}, not {', '.join(options) or 'none'}"
            )
        self.blocks, self.options = tuple(origin.blocks), options
        device = origin.initial.device
        drawn = self._draw(origin)
        anchor, order, constants = drawn.anchor, drawn.order, drawn.constants
        if not 1 <= k <= len(order):
            raise ValueError(f"factors of kind '{self.kind}' have 1 to {len(order)} numbers for this network, not {k}")
        self.anchor = anchor.float().to(device)
        """(n,): every entry of the factors as it begins."""
        self.places = order[:k].to(device)
        """(k,) int64: where the trained ones lie among them."""
        self.constants = {name: tensor.to(device) for name, tensor in constants.items()}
        """What else the map reads, such as drawn bases."""

    @abstractmethod
    def _draw(self, origin: Origin) -> Factors:
        """The factors as they begin; also what `assemble` needs to know of their shapes."""

    @abstractmethod
    def assemble(self, phi: Tensor) -> Tensor:
        """F: (n,) to (D,), differentiable, of any floating-point type."""

    @property
    def start(self) -> Tensor:
        """(k,): where the trained entries begin."""
        return self.anchor[self.places]

    def tensors(self) -> dict[str, Tensor]:
        return {"anchor": self.anchor, "places": self.places, **self.constants}

    def again(self, origin: Origin) -> Self:
        """The map that an origin gives: of the same tensors where nothing else went into this one."""
        return type(self)(self.k, origin, **self.options)

    def has_shapes_of(self, other: FactorMap) -> bool:
        """Whether another map reads its tensors in the same way."""
        return type(other) is type(self) and other.blocks == self.blocks and other._shapes() == self._shapes()

    def _shapes(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if not isinstance(value, Tensor | dict | Operator)}

    def start_at(self, initial: Tensor) -> Tensor:
        """Where its trained entries begin (k,); made from the initial weights of its own origin."""
        return self.start

    def __call__(self, theta: Tensor) -> Tensor:
        """M(theta): (k,) to (D,), of theta's type."""
        return self.assemble(self.anchor.to(theta.dtype).index_copy(0, self.places, theta))

    @classmethod
    def pack(cls, operators: Sequence[Self]) -> PackedMap:
        for operator in operators:
            if not (0 <= int(operator.places.min()) <= int(operator.places.max()) < len(operator.anchor)):
                raise ValueError("the trained entries of a factorization must lie among its entries")
            if len(operator.places) != operator.k:
                raise ValueError(
                    f"a factorization with {len(operator.places)} trained entries cannot have k = {operator.k}"
                )
        return _PackedFactors(operators, max(operator.k for operator in operators))

    def sketched_jacobian(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Signs G (n, D) and G J (n, k) with the Jacobian J at theta (k,), in float64. n is k and a few more, which keeps the
        rank of J, or as many as cost little beside the training that is audited."""
        count = min(self.k + _OVERSAMPLED, rank_columns(self.full_dimension))
        generator = torch.Generator().manual_seed(self.k)
        signs = torch.randint(0, 2, (count, self.full_dimension), generator=generator).double().mul_(2).sub_(1)
        signs = signs.to(theta.device)
        with torch.enable_grad():
            leaf = theta.detach().double().requires_grad_()
            (rows,) = torch.autograd.grad(self(leaf), leaf, signs, is_grads_batched=True)
        return signs, rows

    def rank_of_sketch(self, rows: Tensor) -> tuple[int, bool]:
        """The rank of a Jacobian by its sketch (n, k), and whether that is certain: else it is k, which bounds it."""
        rank = rank_of(rows.T)
        return (rank, True) if rank < len(rows) else (self.k, self.k <= len(rows))


class _PackedFactors(PackedMap):
    """One trial after the other: factors of a pack differ in size. Each row is copied, as the last bits of a matrix product
    depend on how its numbers lie in memory, and no trial is to feel its neighbours."""

    def __init__(self, operators: Sequence[Any], width: int) -> None:
        self._operators, self._width = list(operators), width

    def forward(self, theta: Tensor, offset: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        pairs = zip(theta, self._operators, strict=True)
        moved = torch.stack([operator(row[: operator.k].clone()) for row, operator in pairs])
        return moved_by(offset, moved, out)

    def pull_back(self, theta: Tensor, gradient: Tensor) -> Tensor:
        result = gradient.new_zeros(len(theta), self._width)
        rows = zip(theta, gradient, self._operators, strict=True)
        for place, (row, own, operator) in enumerate(rows):
            with torch.enable_grad():
                leaf = row[: operator.k].detach().clone().requires_grad_()
                (pulled,) = torch.autograd.grad(operator(leaf), leaf, own)
            result[place, : operator.k] = pulled
        return result

    def keep(self, rows: Tensor) -> Self:
        return type(self)([self._operators[int(row)] for row in rows], self._width)
