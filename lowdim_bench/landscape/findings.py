"""Numbers that diagnostics find, over independent repeats, with intervals that hold for few of them.

The interval is that of order statistics, which covers the median of the repeats with at least 95 % whatever their distribution
is (Conover 1999, section 3.2, as SciPy has it): barriers and curvatures of a handful of networks are skewed, and nobody knows
how. It exists from six repeats on: the chance that all of n lie on one side of the median is 2 / 2 ** n. Fewer have none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lowdim_bench.futility import proportion_interval

FEWEST = 6
"""Repeats from which on there is an interval."""

Of = Literal["replicate", "pair", "group", "task", "reference"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Number:
    """What a value is of."""

    name: str
    series: str = ""
    """Of numbers that differ in `x` alone: what they have in common."""
    axis: str = ""
    """What `x` is."""
    x: float | None = None
    share: bool = False
    """Whether each repeat answers yes, which is 1, or no."""


Values = Mapping[str | Number, float | None]
"""None where there is no such number."""


@dataclass(frozen=True)
class Way:
    """The training loss at evenly spaced positions of a way between weights."""

    kind: str
    name: str
    """Of which replicates."""
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Seen:
    """What one diagnostic found in one repeat."""

    diagnostic: str
    values: Values
    ways: tuple[Way, ...] = ()


Job = Callable[[], Sequence[Seen]]
"""Finds something in one repeat."""


@dataclass(frozen=True)
class Finding:
    """One number of a diagnostic, over all its repeats."""

    diagnostic: str
    name: str
    of: Of
    """What there is one value of: each replicate, each pair or group of replicates, or the task itself, or a
    solution to compare with that nobody trained. No replicate is in two pairs, nor in two groups."""
    values: tuple[float, ...]
    repeats: int
    """How many were looked at; there are fewer values where some have no such number."""
    series: str = ""
    axis: str = ""
    x: float | None = None
    share: bool = False

    @property
    def middle(self) -> float:
        """The median; where each repeat answers yes or no, the share of yes."""
        return fmean(self.values) if self.share else median(self.values)

    @property
    def range(self) -> Interval:
        """From the lowest to the highest value."""
        return min(self.values), max(self.values)

    @property
    def interval(self) -> Interval | None:
        """Of 95 %: Clopper and Pearson's of a share, else that of `median_interval`. None of the task itself, and where a
        repeat has no such number."""
        if self.of == "task" or len(self.values) < self.repeats:
            return None
        if self.share:
            return proportion_interval(sum(self.values), len(self.values))
        return median_interval(self.values)


def median_interval(values: Sequence[float] | NDArray[np.float64]) -> Interval | None:
    """The 95 % interval of order statistics for the median behind independent values (n,); None for fewer than `FEWEST`."""
    from scipy import stats  # takes a while to import

    if len(values) < FEWEST:
        return None
    found = stats.quantile_test(np.asarray(values, dtype=float), q=0, p=0.5).confidence_interval(0.95)
    return float(found.low), float(found.high)


def findings(of: Of, seen: Sequence[Sequence[Seen]]) -> Iterator[Finding]:
    """Numbers of the same name together, in the order in which they came; `seen` has what was found in each repeat."""
    numbers = [_by_number(repeat) for repeat in seen]
    for key in dict.fromkeys(key for repeat in numbers for key in repeat):
        known = [repeat.get(key) for repeat in numbers]
        values = tuple(float(value) for value in known if value is not None and not math.isnan(value))
        if values:
            diagnostic, number = key
            yield Finding(
                diagnostic, number.name, of, values, len(seen), number.series, number.axis, number.x, number.share
            )


def _by_number(repeat: Sequence[Seen]) -> dict[tuple[str, Number], float | None]:
    """What was found in one repeat, by diagnostic and number."""
    return {
        (one.diagnostic, name if isinstance(name, Number) else Number(name)): value
        for one in repeat
        for name, value in one.values.items()
    }
