"""Pruning before training (Tanaka et al. 2020; Frankle et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, final

from pydantic import Field

from lowdim_bench.claims.base import Claim, Found, Part, Replicates
from lowdim_bench.claims.tasks import with_network, with_targets
from lowdim_bench.claims.trainings import Trainings, accuracies
from lowdim_bench.claims.verdicts import Check, difference
from lowdim_bench.specs import load_task

METHODS = ("synflow_mask", "grasp_mask", "snip_mask", "initial_magnitude_mask", "erk_mask", "layerwise_random_mask")
_CHAIN = ((METHODS[0],), METHODS[1:3], METHODS[3:5], METHODS[5:])


@final
class InitialMasks(Claim):
    """Masks drawn at initialization, biases spared as in the papers, at two densities of the weights."""

    number: ClassVar[int] = 13
    name: ClassVar[str] = "initial-masks"
    statement: ClassVar[str] = (
        "Of pruning at initialization, at extreme sparsity SynFlow is better than SNIP and GraSP, these than magnitude and "
        "ERK, and these than uniform random masks; at mild sparsity all are alike."
    )
    source: ClassVar[str] = (
        "Tanaka et al. 2020 (arXiv 2006.05467); Frankle et al. 2021 (arXiv 2009.08576); Evci et al. 2020 "
        "(arXiv 1911.11134)"
    )
    expected: ClassVar[str] = "the order in test accuracy at density 0.02; within 3 % of SynFlow at density 0.2"
    provenance: ClassVar[str] = "the links of the order are published one by one; the margin of 3 % is this project's"
    full: ClassVar = {
        "task": "mnist-lenet300",
        "hidden": (300, 100),
        "steps": 1000,
        "ks": (1_730, 53_650),
        "replicates": 10,
    }

    task: str = "digits-mlp"
    hidden: tuple[int, ...] = (64, 32)
    steps: Annotated[int, Field(ge=1)] = 400
    ks: tuple[int, int] = (235, 1399)
    """Weights kept at extreme and at mild sparsity, and all biases: densities of 0.02 and 0.2 of the 6,464 weights."""
    margin: float = 0.03
    replicates: Replicates = 48

    def parts(self) -> Sequence[Part]:
        task = with_targets(with_network(load_task(self.task), self.hidden, self.steps))
        return [
            Trainings(name=method, task=task, method=f"{method},scope=weights", ks=self.ks, replicates=self.replicates)
            for method in METHODS
        ]

    def checks(self, found: Found) -> list[Check]:
        extreme, mild = self.ks
        order = [
            difference(
                f"test accuracy, {better} over {worse}, k = {extreme}",
                accuracies(found[better], extreme), accuracies(found[worse], extreme), above=0.0,
            )
            for place, group in enumerate(_CHAIN[:-1])
            for better in group
            for worse in _CHAIN[place + 1]
        ]  # fmt: skip
        alike = [
            difference(
                f"test accuracy, {other} less {METHODS[0]}, k = {mild}",
                accuracies(found[other], mild), accuracies(found[METHODS[0]], mild), above=-self.margin, below=self.margin,
            )
            for other in METHODS[1:]
        ]  # fmt: skip
        return order + alike
