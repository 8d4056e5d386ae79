"""Subspaces that know of the training: burn-in, and the directions of a training's own path (Larsen et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, final

from pydantic import Field

from lowdim_bench.claims.base import Claim, Found, Replicates
from lowdim_bench.claims.phase_transition import LARSEN
from lowdim_bench.claims.tasks import with_targets
from lowdim_bench.claims.trainings import Trainings, accuracies, hits, octaves
from lowdim_bench.claims.verdicts import Check, difference, share
from lowdim_bench.specs import load_task


@final
class BurnIn(Claim):
    """Random subspaces through w_0, and through weights that were trained in full for some steps."""

    number: ClassVar[int] = 3
    name: ClassVar[str] = "burn-in"
    statement: ClassVar[str] = (
        "Training in full before the subspace is drawn lowers the threshold training dimension; after long enough a few "
        "dimensions suffice."
    )
    source: ClassVar[str] = LARSEN
    expected: ClassVar[str] = "k* falls with every longer burn-in; after the longest, success at the smallest k"
    provenance: ClassVar[str] = "the direction is published; how long is long enough was measured here, on other seeds"
    full: ClassVar = {
        "task": "mnist-conv2",
        "burn_in_steps": (16, 64, 256),
        "ks": (8, 32, 128, 512, 1024, 2048, 4096),
        "few": 8,
    }

    task: str = "digits-mlp"
    accuracy: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Of the training set, to be reached."""
    burn_in_steps: tuple[Annotated[int, Field(ge=1)], ...] = (32, 128)
    ks: tuple[int, ...] = (4, 8, 16, 32, 45, 64, 91, 128, 181, 256, 362, 512)
    few: int = 4
    replicates: Replicates = 48

    def parts(self) -> Sequence[Trainings]:
        task = with_targets(load_task(self.task), [{"metric": "train_accuracy", "at_least": self.accuracy}])
        methods = {f"burn-in-{steps}": f"burn_in_subspace,burn_in_steps={steps}" for steps in self.burn_in_steps}
        return [
            Trainings(name=name, task=task, method=method, ks=self.ks, replicates=self.replicates)
            for name, method in {"random": "random_subspace", **methods}.items()
        ]

    def checks(self, found: Found) -> list[Check]:
        parts = self.parts()
        target = parts[0].task.ranked_target.name
        thresholds = {part.name: octaves(found[part.name], target) for part in parts}
        checks = [
            difference(
                f"octaves of k* from {shorter} to {longer}, {target}",
                thresholds[longer],
                thresholds[shorter],
                below=0.0,
            )
            for shorter, longer in pairwise(thresholds)
        ]
        last = found[parts[-1].name]
        what = f"success at k = {self.few}, {parts[-1].name}, {target}"
        return [*checks, share(what, hits(last, self.few, target), len(last), above=0.9)]


@final
class LotterySubspace(Claim):
    """Principal directions of a full training against random ones and against a pruned network, on the same seeds."""

    number: ClassVar[int] = 4
    name: ClassVar[str] = "lottery-subspace"
    statement: ClassVar[str] = (
        "With few dimensions, a lottery subspace trains better than a random subspace and than a lottery ticket of as many "
        "numbers; with more it can get worse again."
    )
    source: ClassVar[str] = f"{LARSEN}; that it gets worse again: its released code, rerun"
    expected: ClassVar[str] = "higher test accuracy than both at few k; lower at the largest k than at the k before"
    provenance: ClassVar[str] = (
        "the order is published; the fall with k was seen in runs of the authors' code (98.7 % at 128, 96.4 % at 512)"
    )
    full: ClassVar = {
        "task": "mnist-conv2",
        "lottery": "lottery_subspace,increments=512,stride=1",
        "best": 128,
        "falls_at": 512,
        "replicates": 10,
    }

    task: str = "digits-mlp"
    lottery: str = "lottery_subspace"
    few: tuple[int, ...] = (8, 32)
    best: int = 32
    falls_at: int = 128
    replicates: Replicates = 24

    def parts(self) -> Sequence[Trainings]:
        task = with_targets(load_task(self.task))
        own = tuple(sorted({*self.few, self.best, self.falls_at}))
        methods = {
            "lottery": (self.lottery, own),
            "random": ("random_subspace", self.few),
            "ticket": ("one_shot_magnitude", self.few),
        }
        return [
            Trainings(name=name, task=task, method=method, ks=ks, replicates=self.replicates)
            for name, (method, ks) in methods.items()
        ]

    def checks(self, found: Found) -> list[Check]:
        own = found["lottery"]
        checks = [
            difference(
                f"test accuracy over a {other} {'subspace' if other == 'random' else '(one-shot magnitude)'} at k = {k}",
                accuracies(own, k), accuracies(found[other], k), above=0.0,
            )
            for other in ("random", "ticket")
            for k in self.few
        ]  # fmt: skip
        what = f"test accuracy at k = {self.falls_at} less that at k = {self.best}"
        return [*checks, difference(what, accuracies(own, self.falls_at), accuracies(own, self.best), below=0.0)]
