"""Numbers of some repeats: each repeat, the median or share, and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import altair as alt

from lowdim_bench.figures.paths import Line, ways
from lowdim_bench.figures.style import BLUE, GREY, ORANGE, WIDTH, Figure, finished, values

_STRIP, _PANEL = 34, 180
_WITH_ENDS = "isValid(datum.low) && isValid(datum.high)"
_TOOLTIP = ["number:N", alt.Tooltip("value:Q", format=".4g")]


@dataclass(frozen=True)
class Measured:
    """One number over all repeats."""

    name: str
    values: Sequence[float]
    """Of each repeat."""
    middle: float
    low: float | None
    high: float | None
    """Ends of the 95 % interval; None where there is none."""
    repeats: str
    """What was repeated how often, in words."""
    series: str = ""
    """Of numbers that are drawn against `x` together."""
    axis: str = ""
    x: float | None = None

    @property
    def told(self) -> str:
        """The number with its interval, in words."""
        ends = "" if self.low is None or self.high is None else f"{self.low:.3g} to {self.high:.3g}; "
        return f"{self.name}: {self.middle:.3g} ({ends}{self.repeats})"


def diagnostic(lines: Sequence[Line], measured: Sequence[Measured], title: str) -> Figure:
    """Losses on ways, if there are any; below them a panel for each series, and a strip for each other number, all with axes of
    their own."""
    series = dict.fromkeys(one.series for one in measured if one.x is not None)
    panels = [
        *([ways(lines)] if lines else []),
        *(_panel([one for one in measured if one.x is not None and one.series == name]) for name in series),
        *(_strip(one) for one in measured if one.x is None),
    ]
    told = ["thin or small: each repeat; thick or blue: median, or share of yes; bars and bands: 95 % intervals"]
    return finished(
        alt.vconcat(*panels).resolve_scale(x="independent", y="independent", color="independent"), title, told
    )


def _panel(measured: Sequence[Measured]) -> Figure:
    """Numbers of one series against what they differ in."""
    first = measured[0]
    x = alt.X("x:Q", title=first.axis, scale=alt.Scale(zero=False, padding=12))
    across = alt.Scale(zero=False, padding=8)  # in every layer: a bar's own would begin at zero
    y, low = alt.Y("value:Q", title=None, scale=across), alt.Y("low:Q", title=None, scale=across)
    middles, each = _middles(measured), _each(measured)
    line = middles.mark_line(color=BLUE, strokeWidth=1.5).encode(x=x, y=y)
    bars = middles.transform_filter(_WITH_ENDS).mark_rule(color=BLUE, strokeWidth=3, opacity=0.45)
    dots = middles.mark_point(filled=True, size=60, opacity=1, color=BLUE).encode(x=x, y=y, tooltip=_TOOLTIP)
    chart = alt.layer(each.encode(x=x, y=y), bars.encode(x=x, y=low, y2="high:Q"), line, dots)
    return chart.properties(width=WIDTH, height=_PANEL, title=_small(f"{first.series} ({first.repeats})"))


def _strip(one: Measured) -> Figure:
    """One number on an axis of its own."""
    along, axis = alt.Scale(zero=False, padding=12), alt.Axis(tickCount=5, format="~g")
    x, low = (alt.X(f"{name}:Q", title=None, scale=along, axis=axis) for name in ("value", "low"))
    middles = _middles([one])
    bars = middles.transform_filter(_WITH_ENDS).mark_rule(color=BLUE, strokeWidth=3, opacity=0.45)
    dots = middles.mark_point(filled=True, size=60, opacity=1, color=BLUE).encode(x=x, tooltip=_TOOLTIP)
    chart = alt.layer(_each([one]).encode(x=x), bars.encode(x=low, x2="high:Q"), dots)
    return chart.properties(width=WIDTH, height=_STRIP, title=_small(one.told))


def _middles(measured: Sequence[Measured]) -> alt.Chart:
    rows = [
        {"number": one.name, "what": "middle", "x": one.x, "value": one.middle}
        | {
            name: end if end is not None and isfinite(end) else None
            for name, end in (("low", one.low), ("high", one.high))
        }
        for one in measured
        if isfinite(one.middle)
    ]
    return alt.Chart(values(rows))


def _each(measured: Sequence[Measured]) -> alt.Chart:
    rows = [
        {"number": one.name, "what": "repeat", "x": one.x, "value": value}
        for one in measured
        for value in one.values
        if isfinite(value)
    ]
    return alt.Chart(values(rows)).mark_point(filled=True, size=22, opacity=0.55, color=ORANGE)


def _small(text: str) -> alt.TitleParams:
    return alt.TitleParams(text=text, fontSize=11, fontWeight="normal", color=GREY, anchor="start")
