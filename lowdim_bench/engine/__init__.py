"""The one training loop: burn-in, pruning rounds and the scored training all run here, a pack of trials at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lowdim_bench.engine.optimizers import PackOptimizer, PackRelaxation, build_optimizer
from lowdim_bench.engine.playback import Player
from lowdim_bench.parametrizations import Pack, Parametrization, stack_starts
from lowdim_bench.problems import MeteredProblem
from lowdim_bench.specs import Recipe
from lowdim_bench.specs.task import Descent

__all__ = ["Observer", "Span", "train"]

_NUMBERS_AT_ONCE = 2**17
"""Parameters of the trials that a CPU trains side by side: what one step of them reads and writes should stay in its caches,
and yet the price of a step's calls be shared by several small trials."""


@dataclass(frozen=True)
class Span:
    """Steps `start` <= step < `stop` of a recipe. Batches and schedule are those of the step, so a rewound run goes on."""

    start: int
    stop: int


class Observer(Protocol):
    """Looks on at a training every so many steps."""

    every: int
    """Steps between two looks; the last step is always looked at."""

    def __call__(self, step: int, rows: Sequence[int], theta: Tensor, pack: Pack) -> Sequence[bool]:
        """After `step` steps: theta (P', K) of the rows still training. Returns for each whether to go on with it."""
        ...


class _Step:
    """One step of a pack. It reads and writes the same tensors every time, so that a GPU can play a recording of it back."""

    def __init__(
        self,
        problem: MeteredProblem,
        pack: Pack,
        optimizer: PackOptimizer,
        theta: Tensor,
        rate: Tensor,
        weight_decay: float,
    ) -> None:
        self._problem, self._pack, self._optimizer, self._decay = problem, pack, optimizer, weight_decay
        self._theta, self._full_rate, self._rate = theta, rate, rate.clone()
        self._examples: Tensor | None = None
        self._weights = theta.new_empty(len(theta), problem.full_dimension)  # lent anew each step: fresh pages are dear
        self._number = 0
        self._movable: Tensor | None = None
        """(P, D): the weights that theta moves one by one, where blocks of them are solved for; None where gradients are."""
        if isinstance(optimizer, PackRelaxation):
            self._movable = pack.operator.forward(torch.ones_like(theta)) != 0
        self._player = Player(self._run, theta.device, recorded=pack.operator.constant and self._movable is None)

    def __call__(self, step: int, examples: Tensor | None, schedule: float) -> None:
        """Train on examples (P, B), or on all for None, at a multiple of the learning rates."""
        self._number = step
        self._pack.begin(step)
        if examples is not None:
            self._examples = torch.empty_like(examples) if self._examples is None else self._examples
            self._examples.copy_(examples)
        torch.mul(self._full_rate, schedule, out=self._rate)
        if not self._player():
            self._problem.charge(self._examples)

    def _run(self) -> None:
        weights = self._pack.map(self._theta, self._weights)
        self._pack.look(weights)
        if self._movable is None:
            _, found = self._problem.loss_and_gradient(weights, self._examples)
            if self._decay:
                found = found.add(weights, alpha=self._decay)
        else:
            found = self._problem.solve_block(weights, self._number, self._movable, self._pack.rows)
        self._optimizer.step(self._theta, self._pack.pull_back(self._theta, found), self._rate)
        forgotten = self._pack.operator.settle(self._theta)
        if forgotten is not None:
            self._optimizer.forget(forgotten)


@torch.no_grad()
def train(
    problem: MeteredProblem,
    parametrizations: Sequence[Parametrization],
    recipe: Recipe,
    rates: Sequence[float],
    span: Span,
    observer: Observer | None = None,
) -> list[Tensor]:
    """Train P trials, row i within parametrizations[i] at learning rate rates[i]; returns each theta (k_i,) as it was left.

    On a CPU, trials that together are larger than its caches are trained some at a time, each to its end, and the observer is
    shown only those; trials that share one map stay together. A row whose loss or theta is no longer finite trains on
    harmlessly as NaN: whoever looks at it sees that.
    """
    thetas: list[Tensor] = []
    for rows in _groups(parametrizations, problem.full_dimension):
        some, own = [parametrizations[row] for row in rows], [rates[row] for row in rows]
        thetas += _train_together(problem.rows(rows), some, recipe, own, span, observer, rows)
    return thetas


def _groups(parametrizations: Sequence[Parametrization], full_dimension: int) -> list[range]:
    """Rows to train side by side, as equally many at a time as can be."""
    total, size = len(parametrizations), max(1, _NUMBERS_AT_ONCE // full_dimension)
    if parametrizations[0].offset.device.type != "cpu" or parametrizations[0].operator.shared:
        size = total
    count = -(-total // size)
    return [range(total * group // count, total * (group + 1) // count) for group in range(count)]


def _train_together(
    problem: MeteredProblem,
    parametrizations: Sequence[Parametrization],
    recipe: Recipe,
    rates: Sequence[float],
    span: Span,
    observer: Observer | None,
    names: Sequence[int],
) -> list[Tensor]:
    """`train` for one group; `names` (P,) is what the observer knows its rows by."""
    pack = Pack.of(parametrizations)
    theta = stack_starts(parametrizations).clone()
    optimizer = build_optimizer(recipe.optimizer, theta)
    decay = recipe.optimizer.weight_decay if isinstance(recipe.optimizer, Descent) else 0.0
    order = problem.batch_order(recipe.batch_size)
    rate = torch.tensor(list(rates), dtype=theta.dtype, device=theta.device).unsqueeze(1)
    rows = list(range(len(parametrizations)))
    finished: dict[int, Tensor] = {}
    metered = problem
    run = _Step(metered, pack, optimizer, theta, rate, decay)
    for step in range(span.start, span.stop):
        run(step, order.examples(step), _schedule(recipe, step))
        done = step + 1
        if observer is None or (done % observer.every and done != span.stop):
            continue
        going = observer(done, [names[row] for row in rows], theta, pack)
        if all(going):
            continue
        finished |= {row: theta[place] for place, row in enumerate(rows) if not going[place]}
        kept = torch.tensor([place for place, on in enumerate(going) if on], dtype=torch.int64)
        if not len(kept):
            rows = []
            break
        metered = metered.rows(kept.tolist())
        order.keep(kept)
        pack, on_device = pack.keep(kept), kept.to(theta.device)
        optimizer.keep(on_device)
        theta, rate = theta[on_device], rate[on_device]
        run = _Step(metered, pack, optimizer, theta, rate, decay)
        rows = [rows[place] for place in kept.tolist()]
    finished |= {row: theta[place] for place, row in enumerate(rows)}
    return [finished[row][: one.k].clone() for row, one in enumerate(parametrizations)]


def _schedule(recipe: Recipe, step: int) -> float:
    """What the learning rate is multiplied with at a step."""
    if recipe.learning_rate.schedule == "cosine":
        done = min(step / recipe.steps, 1.0)  # beyond the end of the recipe the cosine would rise again
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1.0
