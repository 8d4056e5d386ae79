"""What a claim is: a statement with its source, a configuration, the parts that are measured, and what is decided from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lowdim_bench.claims.cost import Cost, total
from lowdim_bench.claims.verdicts import Check
from lowdim_bench.problems import Problem
from lowdim_bench.specs import Spec, Task, digest_of

Scale = Literal["cpu", "full"]
SCALES: tuple[Scale, ...] = ("cpu", "full")
FIRST_REPLICATE = 6_000_000
"""Replicates of claims begin here. Configurations were chosen by looking at others, but for how many quadratic networks
claim 15 has: see docs/claims.md."""

Values = Mapping[str, Any]
"""What was measured of one replicate, as plain JSON."""
Found = Mapping[str, Sequence[Values]]
"""By the name of a part: the values of its replicates, in their order."""
Replicates = Annotated[int, Field(ge=2, le=10_000)]


class Part(Spec, ABC):
    """One measurement of some replicates: a pure function of its fields and of each replicate, run on a worker.

    What it gives for a replicate does not depend on the replicates that are measured beside it.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
    task: Task
    replicates: Annotated[int, Field(ge=1, le=10_000)]

    @abstractmethod
    def measure(self, problem: Problem, replicates: Sequence[int]) -> Sequence[Values]:
        """Plain JSON for each replicate, in their order; `problem` is the one of `task`."""

    @abstractmethod
    def cost(self) -> Cost:
        """What one replicate takes at most."""

    @property
    def seeds(self) -> range:
        return range(FIRST_REPLICATE, FIRST_REPLICATE + self.replicates)

    def identity(self) -> dict[str, Any]:
        """All fields, the defaults too, and which measurement it is."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name not in {"task", "name"}}
        return {"kind": type(self).__name__, "task": self.task.digest, "task_name": self.task.name, **fields}


class Claim(Spec, ABC):
    """A published claim. Its fields are its configuration, at their defaults that of scale cpu; `full` is what differs at the
    paper's size. Its parts follow from the configuration, and its checks are a pure function of what the parts found."""

    number: ClassVar[int]
    name: ClassVar[str]
    statement: ClassVar[str]
    source: ClassVar[str]
    """Paper and section."""
    expected: ClassVar[str]
    """The direction or value that is claimed."""
    provenance: ClassVar[str]
    """Where what is expected comes from: published, the authors' code, or measured here."""
    version: ClassVar[int] = 1
    """Counts changes of code that change its numbers."""
    full: ClassVar[Mapping[str, Any]]

    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """What is measured; names are unique."""

    @abstractmethod
    def checks(self, found: Found) -> list[Check]:
        """What is decided, from the values of all parts."""

    def cost(self) -> Cost:
        """What all its parts take at most; parts that it shares with other claims are counted for each."""
        return total([part.cost().times(part.replicates) for part in self.parts()])

    @property
    def digest(self) -> str:
        """Names everything that decides its numbers: configuration, tasks, methods, and the version of its code."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        parts = {part.name: part.identity() for part in self.parts()}
        return digest_of({"claim": self.name, "version": self.version, "fields": fields, "parts": parts})


def column(found: Sequence[Values], *keys: str) -> list[float]:
    """One number of each replicate, by the keys that lead to it; NaN where it is None."""
    numbers = []
    for values in found:
        value: Any = values
        for key in keys:
            value = value[key]
        numbers.append(float("nan") if value is None else float(value))
    return numbers
