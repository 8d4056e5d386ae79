"""The page as a document: complete, self-contained, and harmless whatever people call their submissions."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from lowdim_bench.leaderboard import build_board
from lowdim_bench.leaderboard.formats import formatted
from lowdim_bench.leaderboard.rows import plain
from lowdim_bench.pages import Content, collect, render_page, render_report
from lowdim_bench.records import PredictedThreshold, Predictions, Spread, TrialResult
from lowdim_bench.tracking import Credit, StoredSweep
from tests.leaderboard.made_up import sweep

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "'\"><b onmouseover=alert(1)>",
    "../../etc/passwd",
    "\u202eevil\u202c",
    "{{ 7*7 }}{% raw %}",
    "=cmd|' /C calc'!A0",
    "🦄" * 20,
    "x" * 3000,
)


def credited(name: str) -> StoredSweep:
    plain = sweep("imp", 100)
    broken = TrialResult(
        trial=plain.results[0].trial.model_copy(update={"replicate": 999}), status="failed", reason=name
    )
    credit = Credit(submission=name, authors=(name,), description=name, expected_track="cold", tasks=("digits-mlp",))
    return replace(plain, results=(*plain.results, broken), credit=credit)


def content(*sweeps: StoredSweep) -> Content:
    return collect(sweeps, "A board", {"made": "now"}, lambda run: f"/#/runs/{run}")


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in {"script", "style"}:
            self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


BOARD = (sweep("random_subspace", 200), sweep("imp", 100, bits=700.0), sweep("random_mask", 10**9, ks=[2048, 1000] * 8))


def test_a_report_is_one_file_with_every_row_figure_and_rule() -> None:
    html = render_report(content(*BOARD))
    page = Elements(html)
    assert not [one for one in page.named("script") if one.get("src")]
    assert {one.get("rel") for one in page.named("link")} == {"icon"}
    text = " ".join(page.text)
    for words in ("imp", "random_subspace", "> 2,048", "performance profile", "A rank interval holds"):
        assert words in text
    drawn = {one["data-figure"] for one in page.named("div") if "data-figure" in one}
    data = unpacked(html)
    assert drawn == set(data["figure"])
    assert data["comparisons"]["pairs"]
    assert {f"run-{one.run_id}-transition" for one in BOARD} <= drawn


def unpacked(html: str) -> dict[str, Any]:
    """The data of a report."""
    data = re.search(r'<script type="text/plain" id="data">(.*?)</script>', html)
    assert data is not None
    return json.loads(gzip.decompress(base64.b64decode(data[1], validate=True)))


def test_the_page_of_a_server_takes_its_script_from_there_and_links_to_runs() -> None:
    page = Elements(render_page(content(*BOARD), "leaderboard"))
    assert [one["src"] for one in page.named("script") if "src" in one] == ["leaderboard/vega.js"]
    assert {f"/#/runs/{one.run_id}" for one in BOARD} <= {one["href"] for one in page.named("a")}


def test_a_prediction_stands_beside_the_threshold_and_is_text_whatever_it_says() -> None:
    equivalent = Spread(n=3, median=210.0, low=180.0, high=240.0)
    predicted = PredictedThreshold(target="train_loss <= 0.1", formula=None, equivalent=equivalent, simulated=None)
    told = Predictions(thresholds=(predicted,), conditions=("Heuristic: <b>bold</b>\x1b[31m.",))
    measured = replace(sweep("random_subspace", 200), predictions=told)
    shown = Elements(render_report(content(measured)))
    assert "predicted k*: deterministic equivalent 210 (180..240, n = 3). Heuristic: <b>bold</b>" in "".join(shown.text)
    assert "\x1b" not in "".join(shown.text)
    assert not shown.named("b")
    (row,) = build_board([measured]).rows
    assert row.predictions == told


def test_nothing_recorded_is_said() -> None:
    assert "Nothing is recorded yet" in render_report(content())


KINDS = ("markdown", "csv", "latex")


@pytest.fixture(scope="module")
def harmless() -> tuple[list[str], dict[str, int]]:
    """The elements of a page, and the lines of each format, when the name is an ordinary one."""
    board = build_board([credited("harmless")])
    lines = {kind: len(formatted(board, kind).splitlines()) for kind in KINDS}
    return [tag for tag, _ in Elements(render_page(content(credited("harmless")), "v")).found], lines


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name: str, harmless: tuple[list[str], dict[str, int]]) -> None:
    tags, lines = harmless
    shown = content(credited(name))
    page = Elements(render_page(shown, "v"))
    assert [tag for tag, _ in page.found] == tags  # not one element more
    assert not {key for _, some in page.found for key in some if key.startswith("on")}
    assert plain(name) in "".join(page.text)
    assert {kind: len(formatted(shown.board, kind).splitlines()) for kind in KINDS} == lines


def test_formats_escape_what_they_would_run() -> None:
    board = build_board([credited("=1+1|_x_$%&<b>")])
    assert "'=1+1" in formatted(board, "csv")
    assert r"=1+1\|\_x\_$%&\<b\>" in formatted(board, "markdown")
    assert r"=1+1|\_x\_\$\%\&\textless{}b\textgreater{}" in formatted(board, "latex")
