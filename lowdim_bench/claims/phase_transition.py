"""Success of random subspaces against their dimension: how sharp, and for which loss (Larsen et al. 2022)."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, final

from pydantic import Field

from lowdim_bench.claims.base import Claim, Found, Replicates, Values
from lowdim_bench.claims.tasks import with_targets
from lowdim_bench.claims.trainings import Trainings, hits, octaves
from lowdim_bench.claims.verdicts import Check, difference, share
from lowdim_bench.specs import load_task

Level = Annotated[float, Field(gt=0)]
LARSEN = "Larsen, Fort, Becker & Ganguli 2022 (arXiv 2107.05802)"
_HALF_OCTAVES = (16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512)
_FULL = {
    "task": "mnist-conv2",
    "levels": (0.8, 0.6, 0.4),
    "ks": (64, 91, 128, 181, 256, 362, 512, 724, 1024, 1448, 2048),
}


class _RandomSubspaces(Claim, ABC):
    """Random subspaces at many k, trained to a ladder of losses. Claims of these runs share them."""

    task: str = "digits-mlp"
    levels: tuple[Level, ...] = (1.0, 0.5, 0.2, 0.1)
    """Training losses, from easy to hard."""
    ks: tuple[int, ...] = _HALF_OCTAVES
    replicates: Replicates = 128

    def parts(self) -> Sequence[Trainings]:
        task = with_targets(load_task(self.task), [{"metric": "train_loss", "at_most": level} for level in self.levels])
        return [Trainings(name="random", task=task, method="random_subspace", ks=self.ks, replicates=self.replicates)]

    def targets(self) -> list[str]:
        return [target.name for target in self.parts()[0].task.targets]


@final
class PhaseTransition(_RandomSubspaces):
    """One half of the seeds says in which octave success rises, the other half whether it does."""

    number: ClassVar[int] = 1
    name: ClassVar[str] = "phase-transition"
    statement: ClassVar[str] = (
        "The success probability of training in a random subspace rises from 0 to 1 within one octave of k."
    )
    source: ClassVar[str] = LARSEN
    expected: ClassVar[str] = "at most 0.1 at some k, at least 0.9 at no more than 2k"
    provenance: ClassVar[str] = "a sharp transition is published; the factor of two is a bound of this project's"
    full: ClassVar = _FULL

    rare: Annotated[float, Field(gt=0, lt=0.5)] = 0.1

    def checks(self, found: Found) -> list[Check]:
        seeds = found["random"]
        first, second = seeds[: len(seeds) // 2], seeds[len(seeds) // 2 :]
        checks = []
        for target in self.targets():
            low, high = self._octave(first, target)
            for k, claimed in ((low, {"below": self.rare}), (high, {"above": 1 - self.rare})):
                checks.append(share(f"success at k = {k}, {target}", hits(second, k, target), len(second), **claimed))
        return checks

    def _octave(self, seeds: Sequence[Values], target: str) -> tuple[int, int]:
        """The two k, at most an octave apart, between which success rises most."""
        pairs = [(low, high) for low in self.ks for high in self.ks if low < high <= 2 * low]
        return max(pairs, key=lambda pair: hits(seeds, pair[1], target) - hits(seeds, pair[0], target))


@final
class HarderTargets(_RandomSubspaces):
    """Each seed's threshold is the smallest k of the grid at which it succeeds."""

    number: ClassVar[int] = 2
    name: ClassVar[str] = "harder-targets"
    statement: ClassVar[str] = "The threshold training dimension rises as the loss to be reached falls."
    source: ClassVar[str] = LARSEN
    expected: ClassVar[str] = "from each loss to the next lower one, more octaves of k"
    provenance: ClassVar[str] = "the direction is published"
    full: ClassVar = _FULL

    def checks(self, found: Found) -> list[Check]:
        thresholds = {target: octaves(found["random"], target) for target in self.targets()}
        return [
            difference(f"octaves of k* from {easy} to {hard}", thresholds[hard], thresholds[easy], above=0.0)
            for easy, hard in pairwise(thresholds)
        ]
