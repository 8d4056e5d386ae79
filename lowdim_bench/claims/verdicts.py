"""What a claim comes to: numbers with their intervals, and a verdict that follows from the interval alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from lowdim_bench.futility import proportion_interval
from lowdim_bench.specs import Spec

Verdict = Literal["reproduced", "undecided", "contradicted"]
WEAKEST_FIRST: tuple[Verdict, ...] = ("contradicted", "undecided", "reproduced")
Count = Annotated[int, Field(ge=0)]


class Check(Spec):
    """One number that a claim speaks of, with its 95 % interval, and the open region in which the claim has it."""

    what: str
    """What is measured, in words."""
    above: float | None = None
    below: float | None = None
    """Ends of the claimed region; None where it has none on that side."""
    estimate: float
    low: float | None
    high: float | None
    """Ends of the interval; None where there are too few numbers for one."""
    n: Count
    """How many independent numbers, or trials, stand behind it."""
    interval: str
    """Whose interval it is."""

    @property
    def verdict(self) -> Verdict:
        """reproduced: the whole interval lies in the claimed region. contradicted: it lies wholly outside. Else undecided."""
        if self.low is None or self.high is None:
            return "undecided"
        lowest = -math.inf if self.above is None else self.above
        highest = math.inf if self.below is None else self.below
        if lowest < self.low and self.high < highest:
            return "reproduced"
        return "contradicted" if self.high <= lowest or self.low >= highest else "undecided"

    @property
    def claimed(self) -> str:
        """The region in words."""
        ends = [
            f"> {self.above:.4g}" if self.above is not None else "",
            f"< {self.below:.4g}" if self.below is not None else "",
        ]
        return " and ".join(filter(None, ends))

    @property
    def measured(self) -> str:
        """The number with its interval and n, in words."""
        ends = "no interval" if self.low is None or self.high is None else f"{self.low:.3g} .. {self.high:.3g}"
        return f"{self.estimate:.3g} ({ends}; n = {self.n})"


def weakest(checks: Sequence[Check]) -> Check:
    """The check that decides: the first of the weakest verdict. Raises ValueError without any."""
    return min(checks, key=lambda check: WEAKEST_FIRST.index(check.verdict))


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Mean of (n,), n >= 2, with its 95 % interval by Student's t."""
    from scipy import stats  # takes a while to import

    numbers = np.asarray(values, dtype=float)
    half = float(stats.t.ppf(0.975, len(numbers) - 1)) * float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    return float(numbers.mean()), float(numbers.mean()) - half, float(numbers.mean()) + half


def mean(
    what: str,
    values: Sequence[float],
    *,
    above: float | None = None,
    below: float | None = None,
    kind: str = "Student's t",
) -> Check:
    """The mean of independent numbers (n,), one a seed. What is not finite leaves no interval, and so decides nothing."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        raise ValueError(f"{what}: none of {len(values)} numbers is finite")
    if len(finite) < max(2, len(values)):
        estimate, low, high = float(np.mean(finite)), None, None
    else:
        estimate, low, high = mean_interval(finite)
    return Check(
        what=what, above=above, below=below, estimate=estimate, low=low, high=high, n=len(finite), interval=kind
    )


def difference(
    what: str,
    one: Sequence[float],
    other: Sequence[float],
    *,
    above: float | None = None,
    below: float | None = None,
) -> Check:
    """The mean of one (n,) less other (n,), seed by seed."""
    gaps = [a - b for a, b in zip(one, other, strict=True)]
    return mean(what, gaps, above=above, below=below, kind="Student's t, paired by seed")


def median_difference(
    what: str,
    one: Sequence[float],
    other: Sequence[float],
    *,
    above: float | None = None,
    below: float | None = None,
) -> Check:
    """The median of one (n,) less other (n,), seed by seed, with the interval of order statistics that covers the median with
    at least 95 % whatever the distribution: for runs that may get stuck, whose mean is that of the stuck ones."""
    from scipy import stats

    pairs = np.asarray(one, dtype=float) - np.asarray(other, dtype=float)
    gaps = np.sort(pairs[np.isfinite(pairs)])
    if not len(gaps):
        raise ValueError(f"{what}: none of {len(pairs)} numbers is finite")
    n = len(gaps)
    place = (
        int(stats.binom.ppf(0.025, n, 0.5)) - 1
    )  # at most 2.5 % chance that no more than `place` of n lie below the median
    known = place >= 0 and n == len(pairs)
    low, high = (float(gaps[place]), float(gaps[n - 1 - place])) if known else (None, None)
    estimate = float(np.median(gaps))
    kind = "order statistics of the median, paired by seed"
    return Check(what=what, above=above, below=below, estimate=estimate, low=low, high=high, n=n, interval=kind)


def share(what: str, hits: int, n: int, *, above: float | None = None, below: float | None = None) -> Check:
    """The probability behind `hits` successes of `n` independent trials. Raises ValueError without a trial."""
    if not 0 <= hits <= n or not n:
        raise ValueError(f"{what}: {hits} successes of {n} trials are no share")
    low, high = proportion_interval(hits, n)
    return Check(
        what=what,
        above=above,
        below=below,
        estimate=hits / n,
        low=low,
        high=high,
        n=n,
        interval="Clopper and Pearson's",
    )
