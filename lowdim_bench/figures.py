"""Drawing: the phase transition of one sweep. Knows matplotlib and the records, and touches no file."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from lowdim_bench.records import Estimate

Z95 = 1.959963984540054
BLUE, ORANGE, GREY = "#1f5fa8", "#c8641a", "#6b6b6b"


@dataclass(frozen=True)
class Point:
    """What was seen at one training dimension."""

    k: int
    hits: int
    trials: int

    @property
    def fraction(self) -> float:
        return self.hits / self.trials


@dataclass(frozen=True)
class Fit:
    """The fitted success probability with its 95 % band at each k; all of one length."""

    k: Sequence[float]
    probability: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def wilson(hits: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a fraction (Wilson 1927, J. Am. Stat. Assoc. 22:209): never empty, never outside [0, 1]."""
    p, scale = hits / trials, 1 + z**2 / trials
    centre = (p + z**2 / (2 * trials)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def phase_transition(points: Sequence[Point], fit: Fit | None, estimate: Estimate, level: float, title: str) -> Figure:
    """Success fraction against k with intervals, the fitted curve with its band, and the interval of k*."""
    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if fit is not None:
        axes.fill_between(fit.k, fit.low, fit.high, color=BLUE, alpha=0.15, linewidth=0, label="fit, 95 % band")
        axes.plot(fit.k, fit.probability, color=BLUE, linewidth=1.6)
    _draw_points(axes, points)
    _draw_threshold(axes, estimate)
    axes.axhline(level, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlabel="training dimension k", ylabel=f"P({estimate.target})", ylim=(-0.04, 1.04), title=title)
    axes.set_xscale("log")
    if not (points or fit or estimate.low or estimate.k_star or estimate.high):
        axes.set_xlim(1, 1000)  # nothing is drawn that would say what the range is
    _plain_ticks(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", frameon=False, fontsize="small")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def render(figure: Figure, kind: str) -> bytes:
    """The figure as 'svg' or 'png'; equal figures give equal bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "lowdim-bench", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _draw_points(axes: Axes, points: Sequence[Point]) -> None:
    """Larger where more trials stand behind a fraction."""
    if not points:
        return
    ks = [point.k for point in points]
    fractions = [point.fraction for point in points]
    intervals = [wilson(point.hits, point.trials) for point in points]
    below = [max(0.0, fraction - low) for fraction, (low, _) in zip(fractions, intervals, strict=True)]
    above = [max(0.0, high - fraction) for fraction, (_, high) in zip(fractions, intervals, strict=True)]
    axes.errorbar(ks, fractions, yerr=[below, above], fmt="none", ecolor=GREY, elinewidth=0.7, alpha=0.6)
    sizes = [12 + min(6 * point.trials, 120) for point in points]
    trials = sum(point.trials for point in points)
    axes.scatter(
        ks, fractions, s=sizes, color="black", zorder=3, linewidth=0, label=f"{trials} trainings, 95 % (Wilson)"
    )


def _draw_threshold(axes: Axes, estimate: Estimate) -> None:
    if estimate.status == "above_range":
        label = f"k* > {estimate.low:,}" if estimate.low else "k* above the range"
    elif estimate.status == "below_range":
        label = f"k* ≤ {estimate.high:,}" if estimate.high else "k* below the range"
    elif estimate.k_star is not None:
        label = f"k* = {estimate.k_star:,}"
    else:
        label = "k* not yet found"
    ends = [end for end in (estimate.low, estimate.high) if end]
    if estimate.low and estimate.high and estimate.status in {"found", "unfinished"}:
        label += f" ({estimate.low:,} to {estimate.high:,})"
        axes.axvspan(estimate.low, estimate.high, color=ORANGE, alpha=0.2, linewidth=0)
    where = estimate.k_star or (ends[0] if ends else None)
    if where is None:
        axes.plot([], [], color=ORANGE, label=label)
    else:
        axes.axvline(where, color=ORANGE, linewidth=1.4, label=label)


def _plain_ticks(axes: Axes) -> None:
    """1,000 rather than 10^3; and where the range is less than a decade, more than one number to read."""
    low, high = axes.get_xlim()
    form = FuncFormatter(lambda value, _: f"{value:,.0f}")
    if 0 < low < high < 12 * low:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.xaxis.set_major_formatter(form)
    axes.xaxis.set_minor_formatter(NullFormatter())
