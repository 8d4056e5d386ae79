"""Figures of one sweep: the phase transition of success in k, and success over k and the target's level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from lowdim_bench.figures.style import BLACK, BLUE, GREY, HEIGHT, ORANGE, WIDTH, Figure, finished, log_x, values
from lowdim_bench.records import Estimate

Z95 = 1.959963984540054


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


@dataclass(frozen=True)
class Surface:
    """What was seen of one target of the ladder: its level, in the target's own metric, and the fractions at each k."""

    target: str
    level: float
    points: Sequence[Point]
    estimate: Estimate


def wilson(hits: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a fraction (Wilson 1927, J. Am. Stat. Assoc. 22:209): never empty, never outside [0, 1]."""
    p, scale = hits / trials, 1 + z**2 / trials
    centre = (p + z**2 / (2 * trials)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def phase_transition(points: Sequence[Point], fit: Fit | None, estimate: Estimate, level: float, title: str) -> Figure:
    """Success fraction against k with intervals, the fitted curve with its band, and the interval of k*."""
    x = _k_axis([*[point.k for point in points], *(fit.k if fit else ())], estimate)
    y = alt.Y("probability:Q", title=f"P({estimate.target})", scale=alt.Scale(domain=[0, 1], nice=False))
    asked = alt.Chart(values([{"probability": level}])).mark_rule(color=GREY, strokeDash=[2, 3])
    nothing = alt.Chart(values([{"k": 1, "probability": 0}])).mark_point(
        opacity=0
    )  # an axis, whatever there is to draw
    layers: list[alt.Chart] = [asked.encode(y=y), nothing.encode(x=x, y=y)]
    layers += _threshold(estimate, x)
    if fit is not None:
        layers += _fit(fit, x, y)
    if points:
        layers += _points(points, x, y)
    trials = sum(point.trials for point in points)
    told = [threshold_label(estimate)]
    if points:
        told.append(f"{trials} trainings, bars: 95 % (Wilson)" + ("; curve: fit with its 95 % band" if fit else ""))
    return finished(alt.layer(*layers).properties(width=WIDTH, height=HEIGHT), title, told)


def success_surface(ladder: Sequence[Surface], title: str) -> Figure:
    """Success over k and the target's level: one cell for each k that was trained, and k* of each target with its interval."""
    cells = [
        {"k": point.k, "target": one.target, "fraction": point.fraction, "hits": point.hits, "trials": point.trials}
        for one in ladder
        for point in one.points
    ]
    ends = [
        {"target": one.target, "k_star": e.k_star, "low": e.low, "high": e.high, "label": threshold_label(e)}
        for one in ladder
        if (e := one.estimate).k_star and e.low and e.high
    ]
    x = _k_axis([cell["k"] for cell in cells], None)
    rows = alt.Y("target:N", sort=[one.target for one in ladder], title="target", axis=alt.Axis(labelLimit=220))
    colour = alt.Color(
        "fraction:Q", scale=alt.Scale(domain=[0, 1], scheme="blues"), title="successes", legend=alt.Legend(format=".0%")
    )
    tooltip = [alt.Tooltip("k:Q", format=","), "target:N", "hits:Q", "trials:Q"]
    base = alt.Chart(values(cells)).mark_circle(opacity=0.9, stroke=GREY, strokeWidth=0.6)
    seen = base.encode(x=x, y=rows, color=colour, size=_size("trials"), tooltip=tooltip)
    bars = alt.Chart(values(ends)).mark_rule(color=ORANGE, strokeWidth=3, opacity=0.7)
    spans = bars.encode(x=alt.X("low:Q"), x2="high:Q", y=rows, tooltip=["label:N"])
    height = max(90, 44 * len(ladder))
    return finished(
        alt.layer(seen, spans).properties(width=WIDTH, height=height), title, ["bars: k* and its 95 % interval"]
    )


def threshold_label(estimate: Estimate) -> str:
    """k* in words, with its interval."""
    if estimate.status == "above_range":
        return f"k* > {estimate.low:,}" if estimate.low else "k* above the range"
    if estimate.status == "below_range":
        return f"k* ≤ {estimate.high:,}" if estimate.high else "k* below the range"
    if estimate.k_star is None:
        return "k* not yet found"
    ends = f" ({estimate.low:,} to {estimate.high:,})" if estimate.low and estimate.high else ""
    return f"k* = {estimate.k_star:,}{ends}"


def _k_axis(ks: Sequence[float], estimate: Estimate | None) -> Any:
    ends = [] if estimate is None else [end for end in (estimate.low, estimate.k_star, estimate.high) if end]
    drawn = [float(k) for k in [*ks, *ends]]
    # Where nothing is drawn, nothing says what the range is.
    low, high = (min(drawn), max(drawn)) if drawn else (1.0, 1000.0)
    return log_x("k", "training dimension k", low, high)


def _threshold(estimate: Estimate, x: Any) -> list[alt.Chart]:
    layers: list[alt.Chart] = []
    if estimate.low and estimate.high and estimate.status in {"found", "unfinished"}:
        span = alt.Chart(values([{"k": estimate.low, "high": estimate.high}])).mark_rect(color=ORANGE, opacity=0.2)
        layers.append(span.encode(x=x, x2="high:Q"))
    where = estimate.k_star or estimate.low or estimate.high
    if where:
        rule = alt.Chart(values([{"k": where, "label": threshold_label(estimate)}])).mark_rule(
            color=ORANGE, strokeWidth=1.5
        )
        layers.append(rule.encode(x=x, tooltip=["label:N"]))
    return layers


def _fit(fit: Fit, x: Any, y: Any) -> list[alt.Chart]:
    rows = [
        {"k": k, "probability": p, "low": low, "high": high}
        for k, p, low, high in zip(fit.k, fit.probability, fit.low, fit.high, strict=True)
    ]
    base = alt.Chart(values(rows))
    return [
        base.mark_area(color=BLUE, opacity=0.18).encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q"),
        base.mark_line(color=BLUE, strokeWidth=1.8).encode(x=x, y=y),
    ]


def _points(points: Sequence[Point], x: Any, y: Any) -> list[alt.Chart]:
    rows = [
        {
            "k": point.k,
            "probability": point.fraction,
            "hits": point.hits,
            "trials": point.trials,
            "low": low,
            "high": high,
        }
        for point in points
        for low, high in [wilson(point.hits, point.trials)]
    ]
    base = alt.Chart(values(rows))
    tooltip = [alt.Tooltip("k:Q", format=","), "hits:Q", "trials:Q"]
    tooltip += [alt.Tooltip(f"{end}:Q", title=f"95 % {end}", format=".2f") for end in ("low", "high")]
    return [
        base.mark_rule(color=GREY, opacity=0.55).encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q"),
        base.mark_circle(color=BLACK, opacity=0.9).encode(x=x, y=y, size=_size("trials"), tooltip=tooltip),
    ]


def _size(field: str) -> alt.Size:
    """Larger where more trials stand behind a fraction; beyond twenty they look the same."""
    return alt.Size(f"{field}:Q", scale=alt.Scale(domain=[1, 20], range=[18, 130], clamp=True), legend=None)
