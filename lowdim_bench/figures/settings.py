"""The threshold as a method's own number changes: burn-in or rewind step, say, where sweeps differ in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from lowdim_bench.figures.style import HEIGHT, PALETTE, WIDTH, Figure, finished, log_y, values


@dataclass(frozen=True)
class Setting:
    """One sweep of a series that differs in one number."""

    series: str
    """The method with all its other parameters."""
    value: float
    k_star: int | None
    low: int | None
    high: int | None
    label: str
    """k* as the tables print it."""


def parameter(settings: Sequence[Setting], name: str, title: str) -> Figure:
    """k* with its 95 % interval against a parameter, one line a series; what was not found is a triangle at its known end."""
    drawn = [
        {
            "series": one.series, "value": one.value, "k": end, "low": one.low or end, "high": one.high or end,
            "label": one.label, "found": one.k_star is not None,
        }
        for one in settings
        if (end := one.k_star or one.low or one.high)
    ]  # fmt: skip
    ends = [float(end) for row in drawn for end in (row["low"], row["high"])] or [1.0]
    x = alt.X("value:Q", title=name, axis=alt.Axis(format=",~r"), scale=alt.Scale(zero=False, nice=True))
    y = log_y("k", "k* (fewer is better)", min(ends), max(ends))
    series = list(dict.fromkeys(one.series for one in settings))
    legend = alt.Legend(orient="bottom", columns=1, labelLimit=WIDTH)
    colour = alt.Color("series:N", title=None, sort=series, scale=alt.Scale(range=PALETTE), legend=legend)
    tooltip = ["series:N", alt.Tooltip("value:Q", title=name), alt.Tooltip("label:N", title="k*")]
    base = alt.Chart(values(drawn))
    bars = base.mark_rule(strokeWidth=3, opacity=0.4).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour)
    line = base.transform_filter("datum.found").mark_line(strokeWidth=1.5).encode(x=x, y=y, color=colour)
    shape = alt.Shape("found:N", scale=alt.Scale(domain=[True, False], range=["circle", "triangle-up"]), legend=None)
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip)
    chart = alt.layer(bars, line, dots).properties(width=WIDTH, height=HEIGHT)
    return finished(chart, title, ["bars: 95 % intervals"])
