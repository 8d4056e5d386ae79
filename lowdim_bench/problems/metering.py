"""What training and preparation may ask of a problem, and the ledgers in which it is written down where it is computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lowdim_bench.errors import BudgetExceeded
from lowdim_bench.problems.base import BatchOrder, Metrics, Problem
from lowdim_bench.problems.networks import Block
from lowdim_bench.problems.row_sampling import RowSampling
from lowdim_bench.records import Spending
from lowdim_bench.specs import Recipe


class Ledger:
    """Counts what one trial spends in one phase; refuses what goes beyond a limit.

    A gradient on a batch, a pass over all examples without one, and a gradient without data each count as one evaluation
    towards `limit`. With
    `example_count` it also tells how many different examples were looked at.
    """

    def __init__(self, limit: int | None = None, example_count: int | None = None) -> None:
        self._limit = limit
        self._gradients = 0
        self._examples = 0
        self._evaluations = 0
        self._data_free = 0
        self._rows = 0
        self._seen = None if example_count is None else torch.zeros(example_count, dtype=torch.bool)

    @property
    def tells_labels(self) -> bool:
        """Whether it tells how many different examples were looked at."""
        return self._seen is not None

    def check(self, count: int) -> None:
        """Raises `BudgetExceeded` where `count` more evaluations are not allowed."""
        asked = self._gradients + self._evaluations + self._data_free + count
        if self._limit is not None and asked > self._limit:
            raise BudgetExceeded(
                f"it asked for {asked} gradient and full evaluations; the task allows {self._limit} a trial"
            )

    def charge_gradients(self, count: int, examples: int, which: Tensor | None = None) -> None:
        """Write down `count` gradients of `examples` examples each. Raises `BudgetExceeded` beforehand.

        `which` (B,) are the indices of the examples, None for all of them.
        """
        self.check(count)
        self._gradients += count
        self._examples += count * examples
        self._see(which)

    def charge_solution(self, rows: int, examples: int) -> None:
        """Write down a block solved from this many rows of a least-squares problem. Raises `BudgetExceeded` beforehand."""
        self.charge_gradients(1, examples)
        self._rows += rows

    def charge_evaluation(self, examples: int) -> None:
        """Write down a pass without gradient over all `examples` examples. Raises `BudgetExceeded` beforehand."""
        self.check(1)
        self._evaluations += 1
        self._examples += examples
        self._see(None)

    def charge_data_free(self) -> None:
        """Write down a gradient that looks at no data. Raises `BudgetExceeded` beforehand."""
        self.check(1)
        self._data_free += 1

    def _see(self, which: Tensor | None) -> None:
        if self._seen is None:
            return
        if which is None:
            self._seen.fill_(True)
            return
        if self._seen.device != which.device:
            # Not the other way round: a copy off a GPU waits for it at every step, and a recorded step may hold none.
            self._seen = self._seen.to(which.device)
        self._seen.index_fill_(0, which, True)

    @property
    def spent(self) -> Spending:
        return Spending(
            gradient_evaluations=self._gradients,
            examples=self._examples,
            evaluations=self._evaluations,
            labels=0 if self._seen is None else int(self._seen.sum()),
            data_free_gradients=self._data_free,
            rows=self._rows,
        )


class MeteredProblem:
    """A problem as P trials see it, one ledger a trial. The only way to a gradient, so none goes uncounted."""

    def __init__(
        self,
        problem: Problem,
        replicates: Sequence[int],
        ledgers: Sequence[Ledger],
        subsets: Sequence[Tensor] | None = None,
    ) -> None:
        """`subsets`: the only examples (n,) that each trial's order is to hold, equally many for all; None for all."""
        self._problem = problem
        self._subsets = subsets
        self.replicates = tuple(replicates)
        self.ledgers = tuple(ledgers)

    @property
    def full_dimension(self) -> int:
        return self._problem.full_dimension

    @property
    def example_count(self) -> int | None:
        """Training examples, or None where there are none and every gradient is the exact one."""
        return self._problem.example_count

    @property
    def chance_loss(self) -> float | None:
        """Mean loss of calling all classes equally likely; None where the loss is not one of classes."""
        return self._problem.chance_loss

    @property
    def training(self) -> Recipe:
        """The task's recipe of the scored training."""
        return self._problem.task.training

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The tensors of the network and where they lie in the flat parameter vector."""
        return self._problem.blocks

    def initial(self, row: int = 0) -> Tensor:
        """Initial parameters (D,) of a row's replicate."""
        return self._problem.initial(self.replicates[row])

    def batch_order(self, batch_size: int | None) -> BatchOrder:
        """The order of examples of these trials."""
        return BatchOrder(self._problem, self.replicates, batch_size, self._subsets)

    def loss_and_gradient(self, weights: Tensor, examples: Tensor | None) -> tuple[Tensor, Tensor]:
        """Loss (P,) and gradient (P, D) at weights (P, D); charged to every row's ledger."""
        self._check_rows(weights, examples)
        self.charge(examples)
        return self._problem.loss_and_gradient(weights, examples)

    def solve_block(
        self, weights: Tensor, step: int, movable: Tensor, samplings: Sequence[RowSampling | None]
    ) -> Tensor:
        """Weights (P, D) with one block solved for, see `Problem.solve_block`; charged to every row's ledger."""
        self._check_rows(weights)
        for ledger in self.ledgers:
            ledger.check(1)
        solution = self._problem.solve_block(weights, step, movable, samplings)
        for ledger, rows, examples in zip(self.ledgers, solution.rows, solution.examples, strict=True):
            ledger.charge_solution(rows, examples)
        return solution.weights

    def hessian_vector(self, weights: Tensor, vectors: Tensor, examples: Tensor | None) -> Tensor:
        """Products (P, D) of the Hessian at weights (P, D) with vectors (P, D); charged as the two gradients they cost."""
        self._check_rows(weights, examples)
        self._check_rows(vectors)
        for _ in range(2):
            self.charge(examples)
        return self._problem.hessian_vector(weights, vectors, examples)

    def error_norms(self, weights: Tensor) -> Tensor:
        """|softmax - one-hot label| (P, N) of every training example at weights (P, D); charged as a full evaluation."""
        self._check_rows(weights)
        self._charge_evaluation()
        return self._problem.error_norms(weights)

    def synaptic_flow(self, weights: Tensor) -> Tensor:
        """|w| dR/d|w| (D,) at weights (D,), see `Problem.synaptic_flow`; charged to the first trial as a data-free gradient."""
        if weights.shape != (self.full_dimension,):
            raise ValueError(f"weights have shape {tuple(weights.shape)}; the network takes ({self.full_dimension},)")
        self.ledgers[0].charge_data_free()
        return self._problem.synaptic_flow(weights)

    def charge(self, examples: Tensor | None) -> None:
        """Write down a gradient of the examples (P, B), or of all for None, in every row's ledger.

        For who plays a recorded step back: what is recorded is Python's work no more, and nobody else would count it.
        """
        seen = self._problem.example_count or 0 if examples is None else examples.shape[1]
        for row, ledger in enumerate(self.ledgers):
            # Taken apart only where somebody wants to know which examples: it costs more than the count.
            which = examples[row] if examples is not None and ledger.tells_labels else None
            ledger.charge_gradients(1, seen, which)

    def train_metrics(self, weights: Tensor) -> Metrics:
        """Metrics on the full training set at weights (P, D); charged to every row's ledger."""
        self._check_rows(weights)
        self._charge_evaluation()
        return self._problem.train_metrics(weights)

    def rows(self, rows: Sequence[int]) -> MeteredProblem:
        """The same problem for some of the trials."""
        return MeteredProblem(
            self._problem,
            [self.replicates[r] for r in rows],
            [self.ledgers[r] for r in rows],
            None if self._subsets is None else [self._subsets[r] for r in rows],
        )

    def _charge_evaluation(self) -> None:
        for ledger in self.ledgers:
            ledger.charge_evaluation(self._problem.example_count or 0)

    def _check_rows(self, weights: Tensor, examples: Tensor | None = None) -> None:
        """Raises ValueError where weights or examples are not one row a trial."""
        if examples is not None and (examples.ndim != 2 or len(examples) != len(weights)):
            raise ValueError(f"examples have shape {tuple(examples.shape)}; these trials take ({len(weights)}, B)")
        # One ledger a row, or a thousand gradients could be had for the price of one.
        if weights.shape != (len(self.ledgers), self.full_dimension):
            wanted = (len(self.ledgers), self.full_dimension)
            raise ValueError(f"weights have shape {tuple(weights.shape)}; these trials take {wanted}")
