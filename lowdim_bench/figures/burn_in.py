"""The threshold over two axes: the target's level, and how long weights were trained before the subspace was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from lowdim_bench.figures.style import BLACK, Figure, finished, values
from lowdim_bench.figures.sweep import threshold_label
from lowdim_bench.records import Estimate

_WIDTH, _HEIGHT = 104, 44


@dataclass(frozen=True)
class Cell:
    """The threshold of one target with one subspace."""

    subspace: str
    target: str
    estimate: Estimate


def threshold_surface(cells: Sequence[Cell], title: str) -> Figure:
    """k* with its 95 % interval in each cell: subspaces from left to right, targets from top to bottom, in the order given."""
    rows = [_row(cell) for cell in cells]
    columns, targets = (list(dict.fromkeys(row[name] for row in rows)) for name in ("subspace", "target"))
    known = [row["k"] for row in rows if row["k"]] or [1]
    x = alt.X("subspace:N", sort=columns, title=None, axis=alt.Axis(orient="top", labelAngle=-25, labelLimit=260))
    y = alt.Y("target:N", sort=targets, title=None, axis=alt.Axis(labelLimit=220))
    # Light throughout: black digits are legible on every cell.
    scale = alt.Scale(type="log", domain=[min(known), max(2 * min(known), *known)], range=["#fdf1dc", "#e69f00"])
    tooltip = ["subspace:N", "target:N", alt.Tooltip("label:N", title="k*")]
    base = alt.Chart(values(rows))
    area = base.mark_rect(stroke="white").encode(
        x=x, y=y, color=alt.Color("k:Q", scale=scale, legend=None), tooltip=tooltip
    )
    numbers = base.mark_text(color=BLACK, dy=-6, fontSize=12, fontWeight="bold").encode(x=x, y=y, text="short:N")
    ends = base.mark_text(color=BLACK, dy=9, fontSize=10).encode(x=x, y=y, text="interval:N")
    size = {"width": _WIDTH * max(1, len(columns)), "height": _HEIGHT * max(1, len(targets))}
    chart = alt.layer(area, numbers, ends).properties(**size)
    return finished(chart, title, ["k* with its 95 % interval; darker: more dimensions are needed"])


def _row(cell: Cell) -> dict[str, Any]:
    one = cell.estimate
    short = {
        "above_range": f"> {one.low:,}" if one.low else ">",
        "below_range": f"<= {one.high:,}" if one.high else "<=",
    }
    found = f"{one.k_star:,}" if one.k_star else "-"
    ends = f"{one.low:,} .. {one.high:,}" if one.low and one.high and one.k_star else ""
    return {
        "subspace": cell.subspace,
        "target": cell.target,
        "k": one.k_star or one.low or one.high,
        "low": one.low,
        "high": one.high,
        "short": short.get(one.status, found),
        "interval": ends if one.status in {"found", "unfinished"} else "",
        "label": threshold_label(one),
    }
