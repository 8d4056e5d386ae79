"""What is no classifier: pixels labelled by a recurrent grid, networks of quadratic units, and tensor decompositions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from lowdim_bench.claims.base import Claim, Found, Part, Replicates, column
from lowdim_bench.claims.cost import full_dimension
from lowdim_bench.claims.geometry import EngineeredGrid
from lowdim_bench.claims.tasks import with_problem, with_targets
from lowdim_bench.claims.trainings import Trainings, hits
from lowdim_bench.claims.verdicts import Check, median_difference, share
from lowdim_bench.specs import Task, load_task

_NEARLY_ALL = 0.98
_MOST = 0.8
_QUADRATIC = ("norm", "plain")
_FACTORS = ("gaussian", "concentrated")
_SAME_FIT = 0.005


@final
class OtherFamilies(Claim):
    """Three statements about three families, each with checks of its own."""

    number: ClassVar[int] = 15
    name: ClassVar[str] = "other-families"
    statement: ClassVar[str] = (
        "T steps of a recurrent grid label exactly the images with paths of at most T pixels; quadratic networks as wide as "
        "their input reach the global optimum with the norm of the input as a regressor, and without it do not; alternating "
        "least squares over rows sampled by leverage ends within half a percent of the fit of all rows, in the median start."
    )
    source: ClassVar[str] = (
        "Larsen & Druckmann 2022 (doi 10.1371/journal.pcbi.1010227), task 1; Kazemipour, Larsen & Druckmann 2020 (arXiv "
        "2001.00098); Larsen & Kolda 2022 (arXiv 2006.16438)"
    )
    expected: ClassVar[str] = (
        "all images with paths up to T, none beyond; most trainings with the norm, few without; median fits within 0.005"
    )
    provenance: ClassVar[str] = "published; how many are most and few are bounds of this project's"
    full: ClassVar = {
        "images": 100_000,
        "hidden": 10,
        "steps": 30_000,
        "learning_rate": 0.001,
        "tensor": (200, 200, 200),
        "rank": 25,
        "samples": 2**17,
    }

    grid_steps: tuple[Annotated[int, Field(ge=1)], ...] = (5, 10, 15, 20, 25)
    longest_path: Annotated[int, Field(ge=2, le=255)] = 25
    side: Annotated[int, Field(ge=3)] = 15
    images: Annotated[int, Field(ge=1)] = 5000
    hidden: Annotated[int, Field(ge=1)] = 10
    """Units of the quadratic networks, as many as inputs."""
    steps: Annotated[int, Field(ge=1)] = 2500
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    """Of Adam, for the quadratic networks."""
    replicates: Replicates = 160
    """Of the quadratic networks."""
    tensor: tuple[Annotated[int, Field(ge=2)], ...] = (60, 60, 60, 20)
    """Its shape."""
    rank: Annotated[int, Field(ge=1)] = 5
    """How many outer products are planted, and fitted."""
    samples: Annotated[int, Field(ge=1)] = 1024
    """Rows of each least-squares problem, out of as many as the product of the other sizes."""
    decompositions: Replicates = 24

    def parts(self) -> Sequence[Part]:
        grids = [EngineeredGrid(name=f"grid-{steps}", task=self._grid(steps)) for steps in self.grid_steps]
        return [*grids, *(self._quadratic(variant) for variant in _QUADRATIC), *self._decompositions()]

    def checks(self, found: Found) -> list[Check]:
        return self._grid_checks(found) + self._quadratic_checks(found) + self._decomposition_checks(found)

    def _grid(self, steps: int) -> Task:
        task = load_task("pixels7-grid")
        images = {
            "side": self.side, "longest_path": self.longest_path, "train_examples": 1, "test_examples": self.images,
        }  # fmt: skip
        network: dict[str, Any] = {"kind": "pixel_recurrent", "connections": "grid", "steps": steps}
        return with_problem(task, {"data": {"kind": "edge_connected_pixels", **images}, "network": network})

    def _quadratic(self, variant: str) -> Trainings:
        changes = {"optimizer": {"kind": "adam"}, "learning_rate": {"value": self.learning_rate}, "steps": self.steps}
        task = with_problem(load_task(f"quadratic-mixed-{variant}"), {"hidden": self.hidden}, **changes)
        return Trainings(
            name=variant, task=task, method="dense", ks=(full_dimension(task),), replicates=self.replicates
        )

    def _decompositions(self) -> list[Trainings]:
        """Of tensors that were not looked at when the median was chosen: from some starts either method gets stuck, which
        decides a mean."""
        numbers = self.rank * sum(self.tensor)
        parts = []
        for factors in _FACTORS:
            data = {
                "kind": "planted_tensor",
                "shape": self.tensor,
                "rank": self.rank,
                "noise": 0.1,
                "factors": factors,
                "draw": 1,
            }
            task = with_targets(with_problem(load_task("tensor-planted"), {"data": data, "rank": self.rank}))
            parts += [
                Trainings(
                    name=f"{name}-{factors}", task=task, method=method, ks=(numbers,), replicates=self.decompositions
                )
                for name, method in (("all-rows", "cp_als"), ("sampled", f"cp_leverage,samples={self.samples}"))
            ]
        return parts

    def _decomposition_checks(self, found: Found) -> list[Check]:
        k = str(self.rank * sum(self.tensor))
        return [
            median_difference(
                f"median fit from all rows less that from {self.samples:,}, {factors} factors",
                column(found[f"sampled-{factors}"], k, "loss"),
                column(found[f"all-rows-{factors}"], k, "loss"),
                above=-_SAME_FIT,
                below=_SAME_FIT,
            )
            for factors in _FACTORS
        ]

    def _grid_checks(self, found: Found) -> list[Check]:
        checks = []
        for steps in self.grid_steps:
            (values,) = found[f"grid-{steps}"]
            images = {int(length): counts for length, counts in values["images"].items()}
            for what, lengths, claimed in (
                ("up to", [one for one in images if one <= steps], {"above": _NEARLY_ALL}),
                ("beyond", [one for one in images if one > steps], {"below": 1 - _NEARLY_ALL}),
            ):
                if lengths:
                    solved, count = (sum(images[one][place] for one in lengths) for place in (0, 1))
                    words = f"images solved in T = {steps} steps, paths {what} T"
                    checks.append(share(words, solved, count, **claimed))
        return checks

    def _quadratic_checks(self, found: Found) -> list[Check]:
        claimed = {"norm": {"above": _MOST}, "plain": {"below": 1 - _MOST}}
        checks = []
        for variant in _QUADRATIC:
            part = self._quadratic(variant)
            reached = hits(found[variant], part.ks[0], part.task.ranked_target.name)
            words = f"quadratic networks, {variant}, that end within {part.task.ranked_target.level:g} of the optimum"
            checks.append(share(words, reached, len(found[variant]), **claimed[variant]))
        return checks
