"""A landscape as figures: one for each diagnostic, with the numbers of every repeat."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lowdim_bench import figures
from lowdim_bench.landscape import Diagnosis, Finding
from lowdim_bench.pages.drawn import Shown


def of_diagnosis(found: Diagnosis, task: str) -> dict[str, Shown]:
    """By its name, the figure of every diagnostic that found something, in the order in which they were made."""
    names = list(dict.fromkeys(one.diagnostic for one in found.findings))
    return {f"{task} {name}": _figure(found, task, name) for name in names}


def _figure(found: Diagnosis, task: str, name: str) -> Shown:
    lines = [figures.Line(way.kind, way.name, way.losses) for diagnostic, way in found.ways if diagnostic == name]
    numbers = [_measured(one) for one in found.findings if one.diagnostic == name]
    title = f"{task}: {name}"
    return Shown(name, f"{title}. {_told(numbers)}", partial(figures.diagnostic, lines, numbers, title))


def _measured(one: Finding) -> figures.Measured:
    low, high = one.interval or (None, None)
    alone = {"task": "in closed form", "reference": "not trained"}
    repeats = alone.get(one.of) or f"n = {len(one.values)}, of each {one.of}"
    # Of yes and no there is nothing to be seen beside their share.
    each = () if one.share else one.values
    return figures.Measured(one.name, each, one.middle, low, high, repeats, one.series, one.axis, one.x)


def _told(numbers: Sequence[figures.Measured]) -> str:
    return "; ".join(number.told for number in numbers)
