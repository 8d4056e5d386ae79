"""The loss on straight lines: what is drawn is what was given."""

from __future__ import annotations

import json

from lowdim_bench.figures import Line, losses_on_lines, render


def test_every_line_is_drawn_at_its_positions() -> None:
    figure = losses_on_lines(
        [Line("from w_0 to w_T", "0", (2.0, 1.0, 0.5)), Line("w_T to w_T", "0, 1", (0.5, 0.7))], "t"
    )
    specification = json.loads(render(figure, "json"))
    (rows,) = specification["datasets"].values()
    assert [(row["kind"], row["line"], row["position"], row["loss"]) for row in rows] == [
        ("from w_0 to w_T", "0", 0.0, 2.0),
        ("from w_0 to w_T", "0", 0.5, 1.0),
        ("from w_0 to w_T", "0", 1.0, 0.5),
        ("w_T to w_T", "0, 1", 0.0, 0.5),
        ("w_T to w_T", "0, 1", 1.0, 0.7),
    ]
    assert render(figure, "svg") == render(figure, "svg")
    assert b"training loss" in render(figure, "svg")
