"""The scoreboard: read from what is on record, shown on the page and in documents."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from docs.hooks import tables
from lowdim_bench import figures
from lowdim_bench.claims import CLAIMS, claim
from lowdim_bench.claims.scoreboard import Scoreboard, newest, read, tally
from lowdim_bench.pages import collect, named_figures, render_page, render_report
from lowdim_bench.tracking import StoredVerdict
from tests.claims.made_up import decided, decided_claims

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "claims.json"


def stored(*rows: object) -> list[StoredVerdict]:
    return [
        StoredVerdict(f"run{place}", row.claim_digest, row.model_dump_json().encode())  # type: ignore[attr-defined]
        for place, row in enumerate(rows)
    ]


def test_a_claim_has_the_verdict_of_its_weakest_check_and_says_which() -> None:
    rows = decided_claims()
    assert [row.verdict for row in rows] == ["reproduced", "undecided", "contradicted", "reproduced"]
    assert [row.deciding.what for row in rows[:3]] == [
        "an effect at k = 8",
        "an effect at k = 32",
        "an effect at k = 32",
    ]
    assert rows[2].sentence == "Claim 3, claim-3: contradicted. an effect at k = 32: -2 (-3 .. -1; n = 7)."
    assert tally(rows) == {"reproduced": 2, "undecided": 1, "contradicted": 1}


def test_a_verdict_is_retold_in_the_words_of_today_and_its_numbers_stay() -> None:
    known = decided(1, 1.0)
    told = known.retold(claim(1, "cpu"))
    assert (told.statement, told.source) == (claim(1, "cpu").statement, claim(1, "cpu").source)
    assert (told.checks, told.claim_digest, told.made_by) == (known.checks, known.claim_digest, known.made_by)


def test_what_is_on_record_is_read_back_and_the_newest_of_each_claim_is_shown() -> None:
    old, new = decided(1, -1.0), decided(1, 1.0)
    rows = newest(stored(decided(2, 1.0), old, decided(1, 3.0, scale="full"), new))
    assert [(row.scale, row.number, row.verdict) for row in rows] == [
        ("cpu", 1, "reproduced"), ("cpu", 2, "reproduced"), ("full", 1, "reproduced"),
    ]  # fmt: skip
    assert rows[0] == new


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"number": 1}', b"\xff", decided(9, 1.0).model_dump_json().encode()]
)
def test_what_was_altered_is_left_out_with_its_run(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    rows = read([StoredVerdict("run7", "cpu-1-1", content), *stored(decided(2, 1.0))])
    assert [row.number for row in rows.values()] == [2]
    assert "run7 is left out" in caplog.text


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "'\"><b onmouseover=alert(1)>", "{{ 7*7 }}"])
def test_the_page_shows_every_check_and_runs_nothing_that_a_record_holds(hostile: str) -> None:
    rows = [*decided_claims(), decided(4, -1.0, hostile)]
    page = collect([], "A board", {}, claims=rows)
    for html in (render_page(page, "leaderboard"), render_report(page)):
        body = html.split("<main", 1)[1].split("</main>", 1)[0]
        assert hostile not in body or hostile == "{{ 7*7 }}"
        assert "49 et al." not in body
        section = body.split('id="claims"', 1)[1]
        assert len(re.findall(r'<details id="claim-', section)) == 5
        assert section.count("an effect at k = 32") >= 4
        assert section.count("contradicted") >= 2


def test_a_page_without_claims_has_no_section_of_them() -> None:
    assert 'id="claims"' not in render_report(collect([], "A board", {}))


def test_the_documented_results_are_of_every_claim() -> None:
    kept = json.loads(RESULTS.read_text())
    rows = Scoreboard.from_data({"rows": kept["rows"]}, "results").rows
    assert [row.number for row in rows] == list(CLAIMS)
    assert kept["verdicts"] == {str(row.number): row.verdict for row in rows}
    assert all(check.low is not None for row in rows for check in row.checks), "no verdict without its interval"
    assert tables.claims().count("\n") == 2 + len(rows)
    assert tables.checks().count("\n") == 2 + sum(len(row.checks) for row in rows)
    assert re.findall(r"!\[Claim (\d+), [^]]{40,}\]\(results/claim-cpu-(\d+)\.svg\)", tables.pictures()) == [
        (str(number), str(number)) for number in CLAIMS
    ]


def test_every_claim_has_a_picture_of_its_numbers_on_the_regions_that_it_names() -> None:
    page = collect([], "A board", {}, claims=decided_claims())
    assert [shown.name for shown in page.shown] == ["claim-cpu-1", "claim-cpu-2", "claim-cpu-3", "claim-full-1"]
    shown = page.claims[2].shown
    assert shown.caption.startswith(
        "Claim 3, claim-3, at scale cpu: contradicted. 2 checks, each with its 95 % interval"
    )
    tables_of = list(shown.specification["datasets"].values())
    (region,) = [table for table in tables_of if "from" in table[0]]
    (numbers,) = [table for table in tables_of if "estimate" in table[0]]
    assert [(row["low"], row["estimate"], row["high"], row["verdict"]) for row in numbers] == [
        (5.0, 6.0, 7.0, "reproduced"), (-3.0, -2.0, -1.0, "contradicted"),
    ]  # fmt: skip
    assert region[0]["from"] == 0.0, "claimed: above 0"
    assert region[0]["to"] > 7.0
    for html in (render_page(page, "leaderboard"), render_report(page)):
        details = html.split('<details id="claim-cpu-3"', 1)[1].split("</details>", 1)[0]
        assert 'data-figure="claim-cpu-3"' in details
        assert f"<figcaption>{shown.caption}</figcaption>" in details
    names = named_figures(page)
    assert "claim-cpu-3 claim-3" in names


def test_a_number_without_an_interval_is_drawn_without_one_and_regions_apart_have_axes_apart() -> None:
    def check(what: str, unit: str = "t", **others: float | None) -> figures.Decided:
        ends = {"low": 0.1, "high": 0.3, "above": None, "below": None} | others
        return figures.Decided(
            what, 0.2, ends["low"], ends["high"], ends["above"], ends["below"], "-", unit, "undecided"
        )

    drawn = figures.claim(
        [check("a", above=0.0), check("b", below=1.0), check("c", above=0.0), check("d", "p", above=0.0)], "t"
    )
    panels = json.loads(figures.render(drawn, "json"))["vconcat"]
    assert len(panels) == 3
    bare = figures.claim([check("a", low=None, high=None, above=0.0, below=0.0)], "t")
    assert b"<svg" in figures.render(bare, "svg")


def test_code_within_words_is_shown_as_code_and_still_escaped() -> None:
    row = decided(1, 1.0).model_copy(update={"source": "its glossary and `predict`; <b>`<i>`"})
    html = render_report(collect([], "A board", {}, claims=[row]))
    assert "its glossary and <code>predict</code>; &lt;b&gt;<code>&lt;i&gt;</code>" in html
