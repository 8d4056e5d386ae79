"""People at the page: in headless Chromium, against the real server and the report on disk."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from lowdim_bench.leaderboard.rows import plain
from tests.browser.conftest import HOSTILE, OTHER, TASK, Served
from tests.cli.conftest import COMMAND

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.slow


@pytest.fixture
def page(visit: BrowserContext, served: Served) -> Page:
    opened = visit.new_page()
    opened.goto(f"{served.url}/leaderboard", wait_until="load")
    return opened


@pytest.fixture(scope="session")
def report(stored: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lowdim-bench report` writes."""
    out = tmp_path_factory.mktemp("report") / "leaderboard.html"
    where = {
        "LOWDIM_BENCH_TRACKING_URI": stored.settings.tracking_uri,
        "LOWDIM_BENCH_STATE_DIR": str(stored.settings.state_dir),
    }
    subprocess.run([*COMMAND, "report", "--out", str(out)], check=True, env=os.environ | where, capture_output=True)
    return out


def shown_rows(page: Page) -> list[str]:
    """The methods of the rows of tasks that are to be seen, from top to bottom."""
    return [row.get_attribute("data-method") or "" for row in page.locator("tr[id^=row-]").all() if row.is_visible()]


def query(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def test_filters_and_order_are_in_an_address_that_can_be_shared(page: Page) -> None:
    everything = shown_rows(page)
    assert len(everything) == 7
    page.get_by_role("combobox", name="Task").select_option(TASK.name)
    page.get_by_role("combobox", name="Track").select_option("prepared")
    page.get_by_role("searchbox", name="Method").fill("imp")
    assert shown_rows(page) == ["imp"]
    assert page.locator("#count").inner_text() == "1 row"
    assert query(page) == {"task": [TASK.name], "track": ["prepared"], "method": ["imp"]}
    page.reload()
    assert shown_rows(page) == ["imp"]
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("!location.search")
    assert shown_rows(page) == everything

    page.locator(f"section[data-task={TASK.name}]").locator("th[data-column='k*'] button").click()
    page.locator(f"section[data-task={TASK.name}]").locator("th[data-column='k*'] button").click()
    assert query(page) == {"sort": ["-k*"]}
    turned = shown_rows(page)
    assert turned != everything
    assert sorted(turned) == sorted(everything)
    page.goto(page.url)
    assert shown_rows(page) == turned
    assert page.locator("th[aria-sort=descending]").first.inner_text().startswith("k*")


def test_the_keyboard_is_enough(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    button = page.locator(f"section[data-task={TASK.name}]").get_by_role("button", name="rank")
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator(f"section[data-task={TASK.name}] th[aria-sort=ascending]").count() == 1
    summary = page.locator("details > summary").filter(has_text="imp").first
    summary.focus()
    page.keyboard.press("Enter")
    assert summary.evaluate("element => element.parentElement.open")


def test_a_curve_tells_its_numbers(page: Page, served: Served) -> None:
    details = page.locator(f"#run-{served.runs['imp']}")
    details.locator("summary").first.click()
    chart = details.locator(".chart[data-drawn=yes]").first
    chart.wait_for()
    chart.locator("g.mark-symbol").last.locator("path").first.hover(force=True)
    told = page.locator("#vg-tooltip-element.visible")
    told.wait_for()
    assert {"hits", "trials"} <= set(re.findall(r"\w+", told.inner_text()))


def test_from_a_row_to_its_run_and_back(visit: BrowserContext, page: Page, served: Served) -> None:
    run = served.runs["imp"]
    page.locator(f"#row-{run}").get_by_role("link", name="MLflow run of imp").click()
    back = page.get_by_role("link", name="Its row on the leaderboard")
    back.wait_for()
    assert page.get_by_text("the fewest trained numbers with which imp reaches").first.is_visible()
    if back.get_attribute("target") == "_blank":
        with visit.expect_page() as opened:
            back.click()
        page = opened.value
    else:
        back.click()
    row = page.locator(f"#row-{run}")
    row.wait_for()
    assert page.url == f"{served.url}/leaderboard#row-{run}"
    assert row.evaluate("element => element.matches(':target')")


def test_mlflows_own_view_is_a_leaderboard(page: Page) -> None:
    page.get_by_role("link", name="All runs as an MLflow view").click()
    page.get_by_text("parameter_efficiency").first.wait_for()
    page.get_by_text("k_star").first.wait_for()
    page.get_by_text("compare runs of one task", exact=False).first.wait_for()
    links = [link.get_attribute("href") for link in page.get_by_role("link").all()]
    assert any((link or "").endswith("/leaderboard") for link in links), links


def test_two_methods_are_compared_on_the_same_seeds(page: Page) -> None:
    page.wait_for_function("document.querySelector('#comparison [name=a]').options.length > 2")
    page.get_by_role("combobox", name="First").select_option(label="imp")
    page.get_by_role("combobox", name="Second").select_option(label="random_subspace")
    page.locator("#compared tr").nth(1).wait_for()
    cells = page.locator("#compared tr").filter(has_text=TASK.name).locator("td").all_inner_texts()
    assert 1.5 < float(cells[3][:-1]) < 2.5
    assert float(cells[5]) > 0.99
    assert int(cells[6]) == 42
    assert page.locator("#compared tr").filter(has_text=OTHER.name).count() == 1
    page.get_by_role("combobox", name="First").select_option(label="random_subspace")
    page.get_by_role("combobox", name="Second").select_option(label="imp")
    page.wait_for_function("Number(document.querySelector('#compared td:nth-child(6)').textContent) < 0.01")
    assert set(query(page)) == {"a", "b"}


def test_what_runs_and_what_failed_is_said(page: Page, served: Served) -> None:
    under_way = page.locator("section[aria-labelledby=under-way] tbody tr")
    assert under_way.count() == 1
    assert under_way.inner_text().split("\t")[1:3] == ["burn_in_subspace", "running"]
    assert "> 2,048" in page.locator(f"#row-{served.runs['random_mask']}").inner_text()
    details = page.locator(f"#run-{served.runs['one_shot_magnitude']}")
    details.locator("summary").first.click()
    assert plain(f"2 of 42: it raised {HOSTILE}") in details.inner_text()


def test_the_report_opens_from_disk(visit: BrowserContext, report: Path) -> None:
    page = visit.new_page()
    page.goto(report.as_uri(), wait_until="load")
    page.get_by_role("searchbox", name="Method").fill("imp")
    assert shown_rows(page) == ["imp", "imp"]
    page.locator(".chart[data-drawn=yes] svg").first.wait_for()
    page.wait_for_function("document.querySelector('#comparison [name=a]').options.length > 2")
    page.get_by_role("combobox", name="First").select_option(label="imp")
    page.get_by_role("combobox", name="Second").select_option(label="random_subspace")
    page.locator("#compared tr").nth(1).wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("what", ["page", "report"])
def test_axe_finds_nothing_serious(visit: BrowserContext, served: Served, report: Path, scheme: str, what: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page = visit.new_page()
    page.emulate_media(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    page.goto(f"{served.url}/leaderboard" if what == "page" else report.as_uri(), wait_until="load")
    page.evaluate("document.querySelectorAll('section > details').forEach((element) => { element.open = true; })")
    # One after the other comes into view, and is drawn.
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator("svg[role=img]").first.wait_for()
    found = axe.run(page).response["violations"]
    serious = [
        (one["id"], one["impact"], [node["html"][:200] for node in one["nodes"][:3]])
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == []
