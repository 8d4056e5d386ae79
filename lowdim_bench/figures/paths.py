"""The loss along straight lines between weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from lowdim_bench.figures.style import HEIGHT, PALETTE, WIDTH, Figure, finished, values

_DASHES = [[1, 0], [5, 3], [2, 2]]


@dataclass(frozen=True)
class Line:
    """Losses at evenly spaced positions from one point, 0, to another, 1."""

    kind: str
    """What the line connects: one dash pattern for each kind, of at most three."""
    name: str
    """Which of its kind it is: one colour for each name."""
    losses: Sequence[float]


def losses_on_lines(lines: Sequence[Line], title: str) -> Figure:
    """Every line's training loss against the position on it. Losses that are not finite are left out."""
    rows = [
        {"kind": line.kind, "line": line.name, "position": place / (len(line.losses) - 1), "loss": loss}
        for line in lines
        for place, loss in enumerate(line.losses)
    ]
    kinds, names = (list(dict.fromkeys(found)) for found in zip(*((one.kind, one.name) for one in lines), strict=True))
    drawn = (
        alt.Chart(values(rows))
        .mark_line()
        .encode(
            x=alt.X("position:Q", title="position on the straight line", scale=alt.Scale(domain=[0, 1], nice=False)),
            y=alt.Y("loss:Q", title="training loss"),
            color=alt.Color("line:N", title="replicates", sort=names, scale=alt.Scale(range=PALETTE)),
            strokeDash=alt.StrokeDash(
                "kind:N", title="line", sort=kinds, scale=alt.Scale(domain=kinds, range=_DASHES[: len(kinds)])
            ),
            tooltip=["kind:N", "line:N", alt.Tooltip("position:Q", format=".2f"), alt.Tooltip("loss:Q", format=".4g")],
        )
    )
    return finished(alt.layer(drawn).properties(width=WIDTH, height=HEIGHT), title)
