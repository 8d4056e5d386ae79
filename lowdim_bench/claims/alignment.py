"""Barriers between independent trainings before and after their neurons are aligned (Ainsworth et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, final

from pydantic import Field

from lowdim_bench.claims.base import Claim, Found, Part, Replicates, column
from lowdim_bench.claims.geometry import AlignedPairs
from lowdim_bench.claims.tasks import with_network
from lowdim_bench.claims.verdicts import Check, difference
from lowdim_bench.specs import load_task

Hidden = Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)]


@final
class AlignedNeurons(Claim):
    """Pairs of networks of several widths."""

    number: ClassVar[int] = 11
    name: ClassVar[str] = "aligned-neurons"
    statement: ClassVar[str] = (
        "Permuting hidden neurons removes most of the loss barrier between independently trained networks, and barriers are "
        "lower between wider ones."
    )
    source: ClassVar[str] = "Entezari et al. 2022 (arXiv 2110.06296); Ainsworth et al. 2023 (arXiv 2209.04836)"
    expected: ClassVar[str] = (
        "aligned barrier less than half of the raw one at every width; both lower at the largest width"
    )
    provenance: ClassVar[str] = "both directions are published; less than half is how this project reads 'most'"
    full: ClassVar = {"task": "mnist-lenet300", "widths": ((75, 25), (300, 100), (1200, 400)), "replicates": 10}

    task: str = "digits-mlp"
    widths: tuple[Hidden, ...] = ((8,), (32,), (128,))
    replicates: Replicates = 24

    def parts(self) -> Sequence[Part]:
        task = load_task(self.task)
        return [
            AlignedPairs(name=_name(hidden), task=with_network(task, hidden), replicates=self.replicates)
            for hidden in self.widths
        ]

    def checks(self, found: Found) -> list[Check]:
        barriers = {
            kind: {hidden: column(found[_name(hidden)], kind) for hidden in self.widths} for kind in ("raw", "aligned")
        }
        narrow, wide = self.widths[0], self.widths[-1]
        most = [
            difference(
                f"aligned barrier less half of the raw one, {_name(hidden)}",
                barriers["aligned"][hidden], [raw / 2 for raw in barriers["raw"][hidden]], below=0.0,
            )
            for hidden in self.widths
        ]  # fmt: skip
        return most + [
            difference(
                f"{kind} barrier, {_name(wide)} less {_name(narrow)}",
                barriers[kind][wide],
                barriers[kind][narrow],
                below=0.0,
            )
            for kind in ("raw", "aligned")
        ]


def _name(hidden: Sequence[int]) -> str:
    return f"width-{'-'.join(map(str, hidden))}"
