"""What all figures share: sizes, colours, logarithmic axes, and how a figure becomes SVG, PNG or CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
from altair.typing import ChartType as Figure

Rows = Sequence[Mapping[str, Any]]

WIDTH, HEIGHT = 420, 260
"""Pixels at 96 to the inch: 4.4 by 2.7 inches, which a column of a paper takes at its full width."""
BLUE, ORANGE, GREY, BLACK = "#0072b2", "#d55e00", "#6b6b6b", "#222222"
PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222", "#8c6d31"]
"""Okabe and Ito's colours, told apart by people with any colour vision (https://jfly.uni-koeln.de/color/)."""
_PNG_SCALE = 2.5
_FEWEST_TICKS, _MOST_TICKS = 3, 9


def finished(figure: Figure, title: str, subtitle: Sequence[str] = ()) -> Figure:
    """A figure with its title and the style of all."""
    text = alt.TitleParams(text=title, subtitle=list(subtitle))
    return (
        figure.properties(title=text)
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
            gridColor="#e6e6e6",
            domainColor=GREY,
            tickColor=GREY,
        )
        .configure_legend(labelFontSize=11, titleFontSize=11, titleFontWeight="normal", labelLimit=260)
        .configure_title(fontSize=13, subtitleFontSize=11, subtitleColor=GREY, anchor="start", offset=10)
    )


def render(figure: Figure | str, kind: str) -> bytes:
    """The figure as 'svg', 'png', or 'json' (a Vega-Lite specification with its data); equal figures give equal bytes.

    `figure` may be such a specification, as text.
    """
    specification = figure if isinstance(figure, str) else figure.to_json(indent=None)
    if kind == "json":
        return specification.encode()
    import vl_convert

    if kind == "svg":
        return vl_convert.vegalite_to_svg(specification).encode()
    if kind == "png":
        return vl_convert.vegalite_to_png(specification, scale=_PNG_SCALE)
    raise ValueError(f"a figure can be rendered as svg, png or json, not as {kind!r}")


def data(rows: Rows) -> bytes:
    """The numbers behind a figure as CSV, with the columns of the first row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def values(rows: Rows) -> alt.InlineData:
    """Rows as the data of a chart."""
    return alt.InlineData(values=[dict(row) for row in rows])


def log_x(field: str, title: str, low: float, high: float) -> alt.X:
    """A logarithmic axis from `low` to `high`, both above 0, a little wider than them, with plain numbers at its ticks."""
    return alt.X(f"{field}:Q", **_logarithmic(title, low, high))


def log_y(field: str, title: str, low: float, high: float) -> alt.Y:
    """The same, upright."""
    return alt.Y(f"{field}:Q", **_logarithmic(title, low, high))


def _logarithmic(title: str, low: float, high: float) -> dict[str, Any]:
    margin = (high / low) ** 0.04 if high > low else 1.5
    bounds = [low / margin, high * margin]
    axis = alt.Axis(title=title, values=ticks(*bounds), format=",~r")
    return {"scale": alt.Scale(type="log", domain=bounds, nice=False), "axis": axis}


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two ends on a logarithmic axis: powers of ten, or with 2 and 5, or all single digits."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10)), tuple(d / 10 for d in range(10, 100))):
        found = [digit * 10.0**decade for decade in decades for digit in digits]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) >= _FEWEST_TICKS:
            break
    found = found[:: math.ceil(len(found) / _MOST_TICKS)] if found else found
    return [round(tick, 12) for tick in found]
