"""Lottery tickets beside random masks and reinitialized tickets (Frankle & Carbin 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, final

from lowdim_bench.claims.base import Claim, Found, Replicates
from lowdim_bench.claims.tasks import with_targets
from lowdim_bench.claims.trainings import Trainings, accuracies
from lowdim_bench.claims.verdicts import Check, difference
from lowdim_bench.specs import load_task

FRANKLE = "Frankle & Carbin 2019 (arXiv 1803.03635)"
_LENET = {"task": "mnist-lenet300", "ks": (2_700, 9_400), "replicates": 10}


@final
class TicketMask(Claim):
    """The weights that are largest after training, rewound, against as many at random."""

    number: ClassVar[int] = 5
    name: ClassVar[str] = "ticket-mask"
    statement: ClassVar[str] = "The mask of a lottery ticket trains better than a random mask of as many weights."
    source: ClassVar[str] = f"{FRANKLE}, section 2; in one shot as in the code of Larsen et al. 2022 (arXiv 2107.05802)"
    expected: ClassVar[str] = "higher test accuracy at every k"
    provenance: ClassVar[str] = "the direction is published"
    full: ClassVar = _LENET

    task: str = "digits-mlp"
    ks: tuple[int, ...] = (48, 96, 241)
    replicates: Replicates = 24

    def parts(self) -> Sequence[Trainings]:
        task = with_targets(load_task(self.task))
        return [
            Trainings(name=name, task=task, method=method, ks=self.ks, replicates=self.replicates)
            for name, method in (("ticket", "one_shot_magnitude"), ("random", "random_mask"))
        ]

    def checks(self, found: Found) -> list[Check]:
        return [
            difference(
                f"test accuracy of the ticket over a random mask at k = {k}",
                accuracies(found["ticket"], k), accuracies(found["random"], k), above=0.0,
            )
            for k in self.ks
        ]  # fmt: skip


@final
class WinningTickets(Claim):
    """Iterative pruning with rewinding, its mask with other initial weights, and a random mask."""

    number: ClassVar[int] = 8
    name: ClassVar[str] = "winning-tickets"
    statement: ClassVar[str] = (
        "At high sparsity a ticket of iterative magnitude pruning trains much better than the same mask with new initial "
        "weights, and that much better than a random mask."
    )
    source: ClassVar[str] = f"{FRANKLE}, section 2"
    expected: ClassVar[str] = "ticket over reinitialized ticket over random mask, in test accuracy"
    provenance: ClassVar[str] = "the direction is published"
    full: ClassVar = _LENET

    task: str = "digits-mlp"
    ks: tuple[int, ...] = (48, 96)
    replicates: Replicates = 24
    rate: float = 0.2
    """Share of the survivors that a round prunes."""

    def parts(self) -> Sequence[Trainings]:
        task = with_targets(load_task(self.task))
        methods = {
            "ticket": f"imp,rate={self.rate:g}",
            "reinitialized": f"imp,rate={self.rate:g},control=reinitialized",
            "random": "random_mask",
        }
        return [
            Trainings(name=name, task=task, method=method, ks=self.ks, replicates=self.replicates)
            for name, method in methods.items()
        ]

    def checks(self, found: Found) -> list[Check]:
        return [
            difference(
                f"test accuracy, {better} over {worse}, at k = {k}",
                accuracies(found[better], k), accuracies(found[worse], k), above=0.0,
            )
            for k in self.ks
            for better, worse in pairwise(("ticket", "reinitialized", "random"))
        ]  # fmt: skip
