"""Figures of a whole board: thresholds with intervals, prices against k*, profiles over tasks, and who wins against whom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from lowdim_bench.figures.style import GREY, PALETTE, WIDTH, Figure, finished, log_x, log_y, values

_ROW = 26


@dataclass(frozen=True)
class Threshold:
    """One row of a board, as far as figures need it. What lies beyond its range has only the end that is known."""

    method: str
    k_star: int | None
    low: int | None
    high: int | None
    label: str
    """k* as the tables print it."""
    track: str
    price: float | None = None
    """What is drawn against k*, such as bits or gradient evaluations."""


@dataclass(frozen=True)
class Profile:
    """The share of tasks (n,) on which a method needs at most `tau` (n,) times the fewest k."""

    method: str
    tau: Sequence[float]
    share: Sequence[float]


def thresholds(rows: Sequence[Threshold], full_dimension: int, title: str) -> Figure:
    """k* of every method of one task with its 95 % interval, in the order given; open ends are arrows to the range's end."""
    drawn = [_as_row(row, full_dimension) for row in rows]
    order = alt.Y("method:N", sort=[row.method for row in rows], title=None, axis=alt.Axis(labelLimit=260))
    x = log_x("k", "training dimension k (fewer is better)", 1, full_dimension)
    tooltip = ["method:N", alt.Tooltip("label:N", title="k*"), "track:N"]
    base = alt.Chart(values(drawn))
    spans = base.mark_rule(strokeWidth=3, opacity=0.45).encode(x=alt.X("low:Q"), x2="high:Q", y=order, color=_track())
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=x, y=order, color=_track(), shape=alt.Shape("kind:N", title=None, legend=None), tooltip=tooltip
    )
    names = base.mark_text(dy=-9, fontSize=10, color=GREY).encode(x=x, y=order, text="label:N")
    height = max(60, _ROW * len(rows))
    return finished(
        alt.layer(spans, dots, names).properties(width=WIDTH, height=height), title, ["bars: 95 % intervals"]
    )


def pareto(rows: Sequence[Threshold], price: str, title: str) -> Figure:
    """k* against a price, both logarithmic (0 is drawn at 1); what no other row beats in both is joined by a line."""
    drawn = [
        {"method": row.method, "k": row.k_star, "price": max(1.0, row.price), "label": row.label, "track": row.track}
        for row in rows
        if row.k_star and row.price is not None
    ]
    front: list[dict[str, object]] = []
    cheapest = math.inf
    for row in sorted(drawn, key=lambda one: (one["k"], one["price"])):
        if row["price"] < cheapest:
            cheapest = row["price"]
            front.append(row)
    ks, prices = [row["k"] for row in drawn] or [1], [row["price"] for row in drawn] or [1]
    x = log_x("k", "k* (fewer is better)", min(ks), max(ks))
    y = log_y("price", price, min(prices), max(prices))
    tooltip = [
        "method:N",
        alt.Tooltip("label:N", title="k*"),
        alt.Tooltip("price:Q", title=price, format=",.0f"),
        "track:N",
    ]
    line = alt.Chart(values(front)).mark_line(color=GREY, strokeDash=[4, 3], interpolate="step-after").encode(x=x, y=y)
    base = alt.Chart(values(drawn))
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(x=x, y=y, color=_track(), tooltip=tooltip)
    # Only rows of the front are named, or with many rows no name could be read; the others say it where one points at them.
    names = alt.Chart(values(front)).mark_text(dy=-10, fontSize=10, align="left", color=GREY, limit=160)
    names = names.encode(x=x, y=y, text="method:N")
    told = ["dashed: rows that no other one beats in both; no price at all is drawn at 1"]
    return finished(alt.layer(line, dots, names).properties(width=WIDTH, height=280), title, told)


def performance_profiles(profiles: Sequence[Profile], title: str) -> Figure:
    """The share of tasks on which each method needs at most tau times the fewest k (Dolan & Moré 2002)."""
    rows = [
        {"method": one.method, "tau": tau, "share": share}
        for one in profiles
        for tau, share in zip(one.tau, one.share, strict=True)
    ]
    widest = max((row["tau"] for row in rows), default=16.0)
    colour = alt.Color("method:N", title=None, scale=alt.Scale(range=PALETTE), sort=[one.method for one in profiles])
    x = log_x("tau", "factor on the fewest k of each task", 1, widest)
    y = alt.Y("share:Q", title="share of tasks", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%"))
    line = alt.Chart(values(rows)).mark_line(interpolate="step-after", strokeWidth=2)
    chart = line.encode(x=x, y=y, color=colour, tooltip=["method:N", "tau:Q", "share:Q"])
    return finished(chart.properties(width=WIDTH, height=240), title)


def win_matrix(wins: Mapping[str, Mapping[str, tuple[float | None, int]]], title: str) -> Figure:
    """Rows against columns: the probability of needing fewer k, over so many tasks. Pairs without a common task are empty."""
    names = list(wins)
    rows = [
        {"row": a, "column": b, "probability": p, "tasks": tasks, "label": f"{100 * p:.0f}"}
        for a, others in wins.items()
        for b, (p, tasks) in others.items()
        if p is not None
    ]
    x = alt.X(
        "column:N",
        sort=names,
        title="... needs fewer k than",
        axis=alt.Axis(orient="top", labelAngle=-40, labelLimit=200),
    )
    y = alt.Y("row:N", sort=names, title=None, axis=alt.Axis(labelLimit=260))
    # Dark ends under white digits and a light middle under black ones: legible on a light page and on a dark one.
    scale = alt.Scale(domain=[0, 0.5, 1], range=["#a34700", "#cccccc", "#005a8c"])
    digits = alt.condition("abs(datum.probability - 0.5) > 0.35", alt.value("white"), alt.value("black"))
    tooltip = ["row:N", "column:N", alt.Tooltip("probability:Q", format=".2f"), "tasks:Q"]
    base = alt.Chart(values(rows)).encode(x=x, y=y, tooltip=tooltip)
    cells = base.mark_rect().encode(color=alt.Color("probability:Q", scale=scale, legend=None))
    text = base.mark_text(fontSize=11).encode(text="label:N", color=digits)
    side = max(60, 36 * len(names))
    return finished(alt.layer(cells, text).properties(width=side, height=side), title, ["in percent; paired seeds"])


def _as_row(row: Threshold, full_dimension: int) -> dict[str, object]:
    k = row.k_star or row.low or row.high
    kind = "found" if row.k_star else "beyond"
    low = row.low or (1 if row.high else None)
    high = row.high or (full_dimension if row.low else None)
    return {
        "method": row.method, "k": k, "low": low, "high": high, "kind": kind, "label": row.label, "track": row.track
    }  # fmt: skip


def _track() -> alt.Color:
    return alt.Color("track:N", title="track", scale=alt.Scale(domain=["cold", "prepared", "open"], range=PALETTE[:3]))
