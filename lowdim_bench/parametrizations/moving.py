"""A mask that moves while it is trained: some weights at a time, of a union that grows no further than k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self, final

import torch
from torch import Tensor

from lowdim_bench.parametrizations.maps import PackedMovingMap
from lowdim_bench.parametrizations.operators import Coordinates, Operator, PackedOperator
from lowdim_bench.parametrizations.operators.base import moved_by
from lowdim_bench.seeds import derive


@dataclass(frozen=True)
class Rewiring:
    """When a mask moves, how much of it, and what grows."""

    growth: Literal["random", "gradient"]
    """Weights grow at random (SET, Mocanu et al. 2018), or where the dense gradient is largest (RigL, Evci et al. 2020)."""
    share: float
    """Of the trained weights of a tensor that are exchanged at once; by the gradient it falls to zero along a cosine."""
    every: int
    """Steps between two moves."""
    until: int
    """The last step at which it may move."""

    def share_at(self, done: int) -> float:
        """The share to exchange once `done` steps are done; 0 where it stays as it is."""
        if done % self.every or done > self.until:
            return 0.0
        return self.share if self.growth == "random" else self.share / 2 * (1 + math.cos(math.pi * done / self.until))


@final
class MovingMask(Operator):
    """k numbers, each for a weight that training has opened; `active` of them are trained at a time, the others are zero.

    At each move the smallest trained weights of a tensor return to their base, and as many others are trained from there:
    weights that were opened before, or new ones while the union has room. The room grows with the moves, along a draw of k
    weights: a tensor may have opened as many as the draw has there by then. Random growth opens the very weights of the
    draw, for a random choice may as well be made beforehand; so its union is told by the seed.
    """

    kind = "moving_mask"
    moves = True

    def __init__(
        self, order: Tensor, spans: Sequence[tuple[int, int]], active: int, rule: Rewiring, seed: int, draw: str
    ) -> None:
        """`order` (k,) int64: the draw of k weights from `seed`, named as in `parametrizations.draws`; training starts with its
        first `active` ones. `spans`: where each tensor starts and stops. Raises ValueError where `active` is not in 1..k."""
        if not 1 <= active <= len(order):
            raise ValueError(f"of {len(order)} weights 1 to {len(order)} can be trained at a time, not {active}")
        super().__init__(len(order), spans[-1][1], seed)
        self.order, self.spans, self.active, self.rule, self.draw = order, tuple(spans), active, rule, draw

    def drawn(self, count: int) -> Coordinates:
        """The first `count` weights of the draw."""
        return Coordinates(self.order[:count], self.full_dimension, self.seed, self.draw)

    def tensors(self) -> dict[str, Tensor]:
        return {"order": self.order}

    @classmethod
    def pack(cls, operators: Sequence[Self]) -> PackedOperator:
        return _PackedMoving([_Mask(operator) for operator in operators], max(operator.k for operator in operators))

    def start_at(self, initial: Tensor) -> Tensor:
        start = initial[self.order]
        start[self.active :] = 0.0
        return start

    def rank(self) -> int:
        return int(torch.unique(self.order).numel())


@dataclass
class _Mask:
    """Where one trial's mask stands."""

    operator: MovingMask
    places: Tensor = field(init=False)
    """(k,): the weight that each number is for. Beyond those opened it is one of the draw, and the number is zero."""
    trained: Tensor = field(init=False)
    """(k,) bool."""
    opened: int = field(init=False)
    room: int = field(init=False)
    looks: list[int] = field(default_factory=list)
    """The steps whose dense gradient chose what grows."""

    def __post_init__(self) -> None:
        operator = self.operator
        self.places, self.opened, self.room = operator.order.clone(), operator.active, operator.active
        self.trained = torch.arange(operator.k, device=self.places.device) < operator.active

    def stands(self) -> Coordinates:
        """The weights that training has opened."""
        operator = self.operator
        if operator.rule.growth == "random":
            return operator.drawn(self.opened)
        return Coordinates(self.places[: self.opened], operator.full_dimension)

    def move(self, step: int, theta: Tensor, gradient: Tensor) -> Tensor | None:
        """Exchange what is due after a step; theta (k,) of what is exchanged becomes zero. Returns which that is, (k,) bool."""
        operator, rule = self.operator, self.operator.rule
        share = rule.share_at(step + 1)
        if not share or not bool(theta.isfinite().all()):
            return None
        if rule.growth == "gradient":
            self.looks.append(step)
            scores = gradient.abs()
        else:
            scores = self._random_scores(step).to(theta.device)
        self.room = min(operator.k, self.room + math.ceil(share * operator.active))
        sizes = theta.new_zeros(operator.full_dimension)
        sizes[self.places[: self.opened]] = theta[: self.opened].abs()
        over = _Over(
            self._over_weights(self.trained),
            self._over_weights(self._is_open()),
            torch.zeros_like(sizes, dtype=torch.bool).index_fill_(0, operator.order[: self.room], value=True),
        )
        exchanged = [
            over.span(slice(*span)).exchange(rule.growth, share, sizes[slice(*span)], scores[slice(*span)])
            for span in operator.spans
        ]
        fresh = over.opened.index_fill(0, self.places[: self.opened], value=False).nonzero().squeeze(1)
        self.places[self.opened : self.opened + len(fresh)] = fresh
        self.opened += len(fresh)
        is_open = self._is_open()
        self.trained = over.trained[self.places] & is_open
        forgotten = torch.cat(exchanged)[self.places] & is_open
        theta.masked_fill_(forgotten, 0.0)
        return forgotten

    def _is_open(self) -> Tensor:
        return torch.arange(self.operator.k, device=self.places.device) < self.opened

    def _over_weights(self, own: Tensor) -> Tensor:
        """(k,) bool as (D,)."""
        size, device = self.operator.full_dimension, own.device
        return torch.zeros(size, dtype=torch.bool, device=device).index_fill_(0, self.places[own], value=True)

    def _random_scores(self, step: int) -> Tensor:
        assert self.operator.seed is not None
        generator = torch.Generator().manual_seed(derive("growth of a mask", self.operator.seed, step))
        return torch.rand(self.operator.full_dimension, generator=generator)


@dataclass(frozen=True)
class _Over:
    """Weights (n,) of a network or of one of its tensors: those trained, those ever opened, those of the draw so far."""

    trained: Tensor
    opened: Tensor
    drawn: Tensor

    def span(self, span: slice) -> _Over:
        """Some of the weights, as views: what is written to them is written here."""
        return _Over(self.trained[span], self.opened[span], self.drawn[span])

    def exchange(self, growth: Literal["random", "gradient"], share: float, sizes: Tensor, scores: Tensor) -> Tensor:
        """Drop the smallest and grow those of highest score. Returns which weights (n,) were dropped or have grown."""
        count = round(share * int(self.trained.sum()))
        if growth == "random":
            new = self.drawn & ~self.opened
            self.opened.logical_or_(new)
            scores = scores + new  # what was never trained goes first: nearly all weights of a large network are such
        else:
            new = _best(scores, ~self.opened, int(self.drawn.sum()) - int(self.opened.sum()))
        dropped = _best(-sizes, self.trained, count)
        self.trained.logical_and_(~dropped)
        grown = _best(scores, (self.opened | new) & ~self.trained, count)
        self.trained.logical_or_(grown)
        self.opened.logical_or_(grown)
        return dropped | grown


def _best(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """(n,) bool: the `count` of highest score among some, or all of them where they are fewer; ties go to the lower index."""
    places = among.nonzero().squeeze(1)
    best = places[scores[places].sort(descending=True, stable=True).indices[:count]]
    return torch.zeros_like(among).index_fill_(0, best, value=True)


class _PackedMoving(PackedOperator, PackedMovingMap):
    constant: ClassVar[bool] = False

    def __init__(self, masks: Sequence[_Mask], width: int) -> None:
        self._masks, self._width, self._step = list(masks), width, 0
        self._gradient: Tensor | None = None
        self._lay_out()

    def _lay_out(self) -> None:
        self._places = torch.stack([_widened(mask.places, self._width) for mask in self._masks])
        self._trained = torch.stack([_widened(mask.trained, self._width) for mask in self._masks])

    def begin(self, step: int) -> None:
        self._step = step

    def forward(self, theta: Tensor, offset: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        shape = (len(theta), self._masks[0].operator.full_dimension)
        moved = theta.new_zeros(shape) if out is None else out.zero_()
        # Numbers that are for no weight yet are zero, and add nothing wherever they are put.
        return moved_by(offset, moved.scatter_add_(1, self._places, theta), out)

    def adjoint(self, weights: Tensor) -> Tensor:
        self._gradient = weights
        return weights.gather(1, self._places).masked_fill_(~self._trained, 0.0)

    def settle(self, theta: Tensor) -> Tensor | None:
        gradient, self._gradient = self._gradient, None
        assert gradient is not None
        forgotten: Tensor | None = None
        for row, mask in enumerate(self._masks):
            own = mask.move(self._step, theta[row, : mask.operator.k], gradient[row])
            if own is not None:
                forgotten = torch.zeros_like(theta, dtype=torch.bool) if forgotten is None else forgotten
                forgotten[row, : len(own)] = own
        if forgotten is not None:
            self._lay_out()
        return forgotten

    def stands(self, row: int) -> tuple[Coordinates, tuple[int, ...]]:
        mask = self._masks[row]
        return mask.stands(), tuple(mask.looks)

    def keep(self, rows: Tensor) -> Self:
        return type(self)([self._masks[int(row)] for row in rows], self._width)


def _widened(row: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(row, (0, width - len(row)))
