"""The loss along ways between weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import altair as alt
import numpy as np

from lowdim_bench.figures.style import HEIGHT, PALETTE, WIDTH, Figure, values
from lowdim_bench.landscape import median_interval

_DASHES = [[1, 0], [5, 3], [2, 2]]
_POSITIONS = 51


@dataclass(frozen=True)
class Line:
    """Losses at evenly spaced positions of a way from one point, 0, to another, 1."""

    kind: str
    """What the way connects: one colour and dash pattern for each kind, of at most three."""
    name: str
    """Which of its kind it is."""
    losses: Sequence[float]


def ways(lines: Sequence[Line]) -> Figure:
    """Every way's training loss, thin, and the median of each kind with its 95 % interval, for a figure to be a part of. Losses
    that are not finite are left out."""
    rows = [
        {"kind": line.kind, "line": line.name, "way": way, "position": place / (len(line.losses) - 1), "loss": loss}
        for way, line in enumerate(lines)
        for place, loss in enumerate(line.losses)
        if isfinite(loss)
    ]
    kinds = list(dict.fromkeys(line.kind for line in lines))
    x = alt.X("position:Q", title="position on the way", scale=alt.Scale(domain=[0, 1], nice=False))
    y, legend = alt.Y("loss:Q", title="training loss"), alt.Legend(orient="bottom", columns=1, labelLimit=WIDTH)
    colour = alt.Color("kind:N", title=None, sort=kinds, scale=alt.Scale(range=PALETTE), legend=legend)
    dashes = alt.Scale(domain=kinds, range=_DASHES[: len(kinds)])
    dash = alt.StrokeDash("kind:N", title=None, sort=kinds, scale=dashes, legend=None)
    each = alt.Chart(values(rows)).mark_line(strokeWidth=1, opacity=0.45).encode(
        x=x, y=y, color=colour, strokeDash=dash, detail="way:N",
        tooltip=["kind:N", "line:N", alt.Tooltip("position:Q", format=".2f"), alt.Tooltip("loss:Q", format=".4g")],
    )  # fmt: skip
    base = alt.Chart(values([row for kind in kinds for row in _medians(kind, lines)]))
    middle = base.mark_line(strokeWidth=3).encode(x=x, y=y, color=colour, strokeDash=dash)
    band = base.transform_filter("isValid(datum.low)").mark_area(opacity=0.2)
    shaded = band.encode(x=x, y=alt.Y("low:Q", title="training loss"), y2="high:Q", color=colour)
    return alt.layer(shaded, each, middle).properties(width=WIDTH, height=HEIGHT)


def _medians(kind: str, lines: Sequence[Line]) -> list[dict[str, float | str | None]]:
    """The median of the ways of a kind, each of them read at the same positions, with its interval where there are enough."""
    positions = np.linspace(0, 1, _POSITIONS)
    of_kind = [line for line in lines if line.kind == kind]
    losses = np.stack([np.interp(positions, np.linspace(0, 1, len(one.losses)), one.losses) for one in of_kind])
    rows: list[dict[str, float | str | None]] = []
    for place, found in zip(positions.tolist(), losses.T, strict=True):
        if not np.isfinite(found).all():
            continue
        low, high = median_interval(found) or (None, None)
        rows.append({"kind": kind, "position": place, "loss": float(np.median(found)), "low": low, "high": high})
    return rows
