"""New random directions at every step beside as many that stay (Gressmann et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, final

from pydantic import Field

from lowdim_bench.claims.base import Claim, Found, Part, Replicates
from lowdim_bench.claims.cost import full_dimension
from lowdim_bench.claims.tasks import with_targets
from lowdim_bench.claims.trainings import Trainings, accuracies
from lowdim_bench.claims.verdicts import Check, difference
from lowdim_bench.specs import load_task

Rate = Annotated[float, Field(gt=0)]


@final
class RandomBases(Claim):
    """Both by plain gradient descent, at the best of a few learning rates by the last train loss.

    The two have not the same degrees of freedom: with new directions at every step all D numbers are free to change.
    """

    number: ClassVar[int] = 14
    name: ClassVar[str] = "random-bases"
    statement: ClassVar[str] = (
        "Descent in d new random directions at every step trains much better than in d directions that stay the same. (These "
        "have d degrees of freedom, those all D.)"
    )
    source: ClassVar[str] = "Gressmann, Eaton-Rosen & Luschi 2020 (arXiv 2011.04720), table 1"
    expected: ClassVar[str] = "higher test accuracy at every d"
    provenance: ClassVar[str] = (
        "the authors' code: 93.9 % against 80.0 % at d = 250 with a fully connected network on MNIST"
    )
    full: ClassVar = {"task": "mnist-mlp", "directions": (250,), "steps": 300_000, "replicates": 10}

    task: str = "digits-mlp"
    directions: tuple[Annotated[int, Field(ge=1)], ...] = (16, 64, 250)
    learning_rates: tuple[Rate, ...] = (3.0, 10.0, 30.0)
    steps: Annotated[int, Field(ge=1)] = 500
    replicates: Replicates = 24

    def parts(self) -> Sequence[Part]:
        first, *_ = self.learning_rates
        multipliers = [rate / first for rate in self.learning_rates]
        task = with_targets(
            load_task(self.task),
            optimizer={"kind": "sgd"},
            learning_rate={"value": first, "multipliers": multipliers},
            steps=self.steps,
        )
        dense = full_dimension(task)
        redrawn = [
            Trainings(
                name=f"redrawn-{d}",
                task=task,
                method=f"random_bases,directions={d}",
                ks=(dense,),
                replicates=self.replicates,
            )
            for d in self.directions
        ]
        fixed = Trainings(
            name="fixed", task=task, method="random_subspace", ks=self.directions, replicates=self.replicates
        )
        return [*redrawn, fixed]

    def checks(self, found: Found) -> list[Check]:
        return [
            difference(
                f"test accuracy, new over fixed directions, d = {d}",
                accuracies(found[f"redrawn-{d}"], int(next(iter(found[f"redrawn-{d}"][0])))),
                accuracies(found["fixed"], d),
                above=0.0,
            )
            for d in self.directions
        ]
