"""A problem: a loss over flat parameters, its metrics, and the reproducible order in which examples come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lowdim_bench.errors import MethodFailure
from lowdim_bench.problems.networks import Block
from lowdim_bench.problems.origin import Origin
from lowdim_bench.problems.row_sampling import RowSampling
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Target, Task


@dataclass(frozen=True)
class Metrics:
    """Metrics of P parameter vectors, each (P,), on the CPU in float64. A problem without classes has no accuracy."""

    loss: Tensor
    accuracy: Tensor | None

    def value(self, target: Target, row: int) -> float:
        """The metric that a target speaks of, of one row."""
        if target.metric == "train_loss":
            return float(self.loss[row])
        assert self.accuracy is not None
        return float(self.accuracy[row])


@dataclass(frozen=True)
class Solution:
    """One block of P parameter vectors solved for."""

    weights: Tensor
    """(P, D), with the block's free numbers at the least-squares solution."""
    rows: Sequence[int]
    """Of each least-squares problem (P,)."""
    examples: Sequence[int]
    """How many examples each looked at, (P,)."""


class Problem(ABC):
    """Loss, gradient and metrics for a pack of flat parameter vectors. It is fixed: training changes nothing in it."""

    chance_loss: float | None = None
    """Mean loss of calling all classes equally likely; None where there are no classes."""

    def __init__(self, task: Task, blocks: Sequence[Block], example_count: int | None, device: torch.device) -> None:
        self.task = task
        self.blocks = tuple(blocks)
        self.full_dimension = self.blocks[-1].stop
        self.example_count = example_count
        """Training examples, or None where there are none and every gradient is the exact one."""
        self.device = device

    @abstractmethod
    def initial(self, replicate: int) -> Tensor:
        """Initial parameters (D,) of a replicate: the same for every method."""

    @abstractmethod
    def loss_and_gradient(self, weights: Tensor, examples: Tensor | None) -> tuple[Tensor, Tensor]:
        """Loss (P,) and gradient (P, D) at weights (P, D), on the examples (P, B) of each row, or on all for None."""

    def solve_block(
        self, weights: Tensor, step: int, movable: Tensor, samplings: Sequence[RowSampling | None]
    ) -> Solution:
        """Minimize the loss over the movable (P, D) numbers of one block, all others fixed; `step` says which block is due.

        `samplings` (P,) choose the rows of each least-squares problem; None stands for all. Raises `MethodFailure` where the
        loss is not quadratic in each block.
        """
        raise MethodFailure("it asked for a block to be solved, but this problem's loss is not quadratic in its blocks")

    @abstractmethod
    def train_metrics(self, weights: Tensor) -> Metrics:
        """Metrics on the full training set at weights (P, D)."""

    @property
    def part_sizes(self) -> tuple[int, ...]:
        """Examples in each of the parts that a point can be measured in; one part, unless a pass over all takes long."""
        return (self.example_count or 1,)

    def part_metrics(self, weights: Tensor, part: int) -> Metrics:
        """Metrics at weights (P, D) on one of the parts, by number. Averaged over the parts they are those of `train_metrics`,
        up to rounding."""
        assert part == 0
        assert len(self.part_sizes) == 1
        return self.train_metrics(weights)

    @abstractmethod
    def test_accuracy(self, weights: Tensor) -> Tensor | None:
        """Accuracy (P,) on the test set, which never decides anything; None where there is no test set."""

    def hessian_vector(self, weights: Tensor, vectors: Tensor, examples: Tensor | None) -> Tensor:
        """Products (P, D) of the loss's Hessian at weights (P, D) with vectors (P, D); examples as for the gradient.

        Raises `MethodFailure` where the problem has none.
        """
        raise MethodFailure("it asked for a product with the Hessian, which this problem does not give")

    def error_norms(self, weights: Tensor) -> Tensor:
        """|softmax - one-hot label| (P, N) of every training example at weights (P, D): the score EL2N of Paul et al. 2021
        (arXiv 2107.07075), where it is averaged over short trainings. Raises `MethodFailure` where there are no classes."""
        raise MethodFailure("it asked for scores of the training examples, but this problem has no labelled examples")

    def synaptic_flow(self, weights: Tensor) -> Tensor:
        """|w| dR/d|w| (D,), float64 on the CPU, at weights (D,): R is what comes out, in sum, where every weight is as large
        as it is in magnitude, every activation is the identity and every input is one. No data is looked at.

        Tanaka et al. 2020 (arXiv 2006.05467), equation 2. Raises `MethodFailure` where the problem has none.
        """
        raise MethodFailure("it asked for the synaptic flow, which this problem does not give")

    def origin(self, replicate: int, seed: int) -> Origin:
        """What a trial of a replicate with this seed is given before it has seen any data."""
        return Origin(self.blocks, self.initial(replicate), seed, self.synaptic_flow)

    def generator(self, purpose: str, *parts: str | int) -> torch.Generator:
        """A CPU generator for one purpose of this task: results are then the same on every device."""
        return torch.Generator().manual_seed(derive(purpose, self.task.name, *parts))


class BatchOrder:
    """Which examples each row of a pack sees at each step: a fresh permutation an epoch, a function of the replicate alone.

    `step` counts from initialization; a rewound training that starts at step s goes on with the batches of step s.
    """

    def __init__(
        self,
        problem: Problem,
        replicates: Sequence[int],
        batch_size: int | None,
        subsets: Sequence[Tensor] | None = None,
    ) -> None:
        """`subsets`: the only examples (n,) that each row is to see, equally many for all; None for all there are."""
        self._problem = problem
        self._replicates = list(replicates)
        self._subsets = None if subsets is None else list(subsets)
        self._count = count = problem.example_count if subsets is None else len(subsets[0])
        self._size = None if count is None or batch_size is None else min(batch_size, count)
        self._epoch = -1
        self._permutations = torch.empty(0)

    def examples(self, step: int) -> Tensor | None:
        """Indices (P, B) of the examples of a step, or None for all of them."""
        if self._size is None:
            return None if self._subsets is None else torch.stack(self._subsets)
        assert self._count is not None
        epoch, batch = divmod(step, self._count // self._size)
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutations = torch.stack([self._permutation(row, epoch) for row in range(len(self._replicates))])
            self._permutations = self._permutations.to(self._problem.device)
        return self._permutations[:, batch * self._size : (batch + 1) * self._size]

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows only: `rows` holds their indices, on the CPU."""
        self._replicates = [self._replicates[int(row)] for row in rows]
        if self._subsets is not None:
            self._subsets = [self._subsets[int(row)] for row in rows]
        if self._epoch >= 0:
            self._permutations = self._permutations[rows.to(self._permutations.device)]

    def _permutation(self, row: int, epoch: int) -> Tensor:
        assert self._count is not None
        generator = self._problem.generator("batch order", self._replicates[row], epoch)
        permutation = torch.randperm(self._count, generator=generator)
        return permutation if self._subsets is None else self._subsets[row].cpu()[permutation]
