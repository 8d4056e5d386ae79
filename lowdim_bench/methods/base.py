"""What a method is: hyperparameters, and a preparation that ends in a parametrization by k numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lowdim_bench.parametrizations import Parametrization
from lowdim_bench.problems import Block, MeteredProblem, Origin
from lowdim_bench.specs import Recipe, Spec


@dataclass(frozen=True)
class Train:
    """A method's request: train within a subspace, by the task's full-training recipe, from step `start` to step `stop`."""

    subspace: Parametrization
    start: int
    stop: int
    snapshot_every: int | None = None
    """Keep the weights every so many steps, the first ones before any step."""
    examples: Tensor | None = None
    """(n,): the only training examples that are to be seen, by their indices; None for all."""

    def __post_init__(self) -> None:
        numbers = (self.start, self.stop, 1 if self.snapshot_every is None else self.snapshot_every)
        if not all(isinstance(number, int) for number in numbers):
            raise TypeError("start, stop and snapshot_every of Train must be whole numbers")
        if not 0 <= self.start < self.stop:
            raise ValueError(f"asked to train from step {self.start} up to step {self.stop}; start must lie below stop")
        if numbers[2] < 1:
            raise ValueError(f"snapshot_every is {self.snapshot_every}; it must be at least 1")
        if self.examples is not None and (self.examples.ndim != 1 or not self.examples.numel()):
            raise ValueError(f"examples have shape {tuple(self.examples.shape)}; a training sees (n,), n at least 1")


@dataclass(frozen=True)
class Trained:
    """The answer to `Train`."""

    weights: Tensor
    """(D,) at the end."""
    snapshots: tuple[Tensor, ...] = ()


Preparation = Generator[Train, Trained, Parametrization]


@dataclass(frozen=True)
class Setting:
    """What a method may know of its trial. `problem` is metered: each gradient is charged to the trial's preparation."""

    problem: MeteredProblem
    k: int
    seed: int
    """The only seed that regenerates a basis or mask free of side information."""
    full_training: Recipe
    """The task's recipe for full-space training; `Train` steps count along it."""

    @property
    def full_dimension(self) -> int:
        return self.problem.full_dimension

    @property
    def initial(self) -> Tensor:
        """Initial weights (D,) of the trial's replicate."""
        return self.problem.initial()

    @property
    def origin(self) -> Origin:
        """What the trial is given before it has seen any data: masks drawn from it cost no side information."""
        return Origin(self.problem.blocks, self.initial, self.seed, self.problem.synaptic_flow)


class Method(Spec, ABC):
    """A method. Its fields are its hyperparameters, validated by Pydantic and part of its digest.

    `prepare` either returns the subspace, or is a generator that yields `Train` requests and returns the subspace at its
    end. The harness runs the generators of all trials of a pack in step, so that their trainings run as one pack too.
    """

    summary: ClassVar[str]
    """One line for people: what it does."""
    source: ClassVar[str]
    """Where it is defined in the literature."""
    freedom: ClassVar[str] = "k numbers"
    """What the k numbers are."""
    side_information: ClassVar[str] = "as measured"
    """What its subspace tells beyond what a trial is given: the audit puts it in bits."""
    data_seen: ClassVar[str] = "as measured"
    """What it looks at before the k-dimensional training: the ledger puts it in examples."""

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        """The smallest and the largest k that it can prepare for a network of these blocks (D = blocks[-1].stop)."""
        return 1, blocks[-1].stop

    def nested(self) -> bool:
        """Whether, for one seed, the subspace at k lies in the one at every larger k; the bisection design needs that."""
        return False

    @abstractmethod
    def prepare(self, setting: Setting) -> Parametrization | Preparation:
        """The subspace of `setting.k` dimensions in which the harness trains and counts."""
