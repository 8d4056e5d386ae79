"""What a published claim came to: every number with its interval, on the region in which the claim has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from lowdim_bench.figures.style import BLACK, BLUE, GREY, ORANGE, Figure, finished, values

_WIDTH, _ROW, _MARGIN = 520, 34, 0.06
_VERDICTS = {"reproduced": BLUE, "undecided": GREY, "contradicted": ORANGE}


@dataclass(frozen=True)
class Decided:
    """One number that was decided."""

    text: str
    """What it is, with the number and its interval in words."""
    estimate: float
    low: float | None
    high: float | None
    """Ends of its interval; None where there is none."""
    above: float | None
    below: float | None
    """Ends of the claimed region; None where it has none on that side."""
    claimed: str
    """The region in words."""
    unit: str
    """Only numbers of the same unit and region share an axis."""
    verdict: str


def claim(checks: Sequence[Decided], title: str) -> Figure:
    """A panel for each region that is claimed, shaded, with the numbers that should lie in it."""
    groups: dict[tuple[object, ...], list[Decided]] = {}
    for check in checks:
        groups.setdefault((check.above, check.below, check.unit), []).append(check)
    chart = alt.vconcat(*map(_panel, groups.values()), spacing=14).resolve_scale(x="independent", y="independent")
    return finished(chart, title, ["shaded: the claimed region; bars: 95 % intervals"])


def _panel(checks: Sequence[Decided]) -> Figure:
    domain, first = _domain(checks), checks[0]
    shaded = {
        "from": domain[0] if first.above is None else first.above,
        "to": domain[1] if first.below is None else first.below,
    }
    rows = [
        {
            "check": check.text, "place": place, "estimate": check.estimate, "low": check.low, "high": check.high,
            "above": check.above, "below": check.below, "verdict": check.verdict,
        }
        for place, check in enumerate(checks)
    ]  # fmt: skip
    title = f"claimed: {first.claimed}"
    along = alt.Scale(domain=domain, nice=False, zero=False)  # in every layer: the widest of them would win
    x = alt.X("estimate:Q", title=title, scale=along, axis=alt.Axis(tickCount=6))
    y = alt.Y("place:O", title=None, axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0))
    scale = alt.Scale(domain=list(_VERDICTS), range=list(_VERDICTS.values()))
    colour = alt.Color("verdict:N", title=None, scale=scale, legend=None)
    region = (
        alt.Chart(values([shaded]))
        .mark_rect(color="#e69f00", opacity=0.18)
        .encode(x=alt.X("from:Q", title=title, scale=along), x2="to:Q")
    )
    base = alt.Chart(values(rows))
    known = base.transform_filter("isValid(datum.low)")
    bars = known.mark_rule(strokeWidth=4, opacity=0.55, yOffset=7).encode(
        x=alt.X("low:Q", title=title, scale=along), x2="high:Q", y=y, color=colour
    )
    dots = base.mark_point(filled=True, size=55, opacity=1, yOffset=7).encode(
        x=x, y=y, color=colour, tooltip=["check:N", "verdict:N"]
    )
    names = base.mark_text(align="left", fontSize=10, color=BLACK, dy=-6, limit=_WIDTH)
    told = names.encode(x=alt.value(3), y=y, text="check:N")
    return alt.layer(region, bars, dots, told).properties(width=_WIDTH, height=_ROW * len(checks))


def _domain(checks: Sequence[Decided]) -> list[float]:
    """From the lowest to the highest of all numbers, intervals and regions, and a little more."""
    ends = [
        end
        for check in checks
        for end in (check.estimate, check.low, check.high, check.above, check.below)
        if end is not None
    ]
    margin = _MARGIN * (max(ends) - min(ends)) or 1.0
    return [min(ends) - margin, max(ends) + margin]
