"""A store with a small board, the server of it with and without accounts, and headless Chromium. Each is started once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from benchmarks.page import cold_seconds
from benchmarks.page import served as server
from lowdim_bench.bench import conclude
from lowdim_bench.claims.scoreboard import Decided
from lowdim_bench.settings import Settings
from lowdim_bench.specs import load_task
from lowdim_bench.tracking import ClaimStore, Credit, Store, StoredSweep
from lowdim_bench.tracking.claim_log import Identity
from tests.claims.made_up import decided_claims
from tests.leaderboard.made_up import FULL, TASK, sweep

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

OTHER = load_task("mnist-conv2")
HOSTILE = "<img src=x onerror=alert(1)>\u202e../"


def board() -> list[StoredSweep]:
    """Two tasks, two tracks, a threshold above the range, a sweep under way, failures, and a hostile name."""
    hostile = Credit(HOSTILE, (HOSTILE,), HOSTILE, "cold", (TASK.name,))
    failing = sweep("one_shot_magnitude", 300)
    failed = [
        result.model_copy(update={"status": "failed", "reason": f"it raised {HOSTILE}", "outcomes": (), "audit": None})
        for result in failing.results[:2]
    ]
    return [
        sweep("random_subspace", 200),
        sweep("imp", 100, bits=700.0),
        sweep("random_mask", 10**9, ks=[2048, 1500, 1000, 500] * 5),
        replace(failing, results=(*failed, *failing.results[2:]), credit=hostile),
        replace(sweep("burn_in_subspace", 150, ks=[100, 400]), status="running"),
        sweep("random_subspace", 200, task=OTHER),
        sweep("imp", 50, task=OTHER),
    ]


def record(store: Store, one: StoredSweep) -> str:
    """Write a sweep as its driver does; returns its run."""
    log = store.open_sweep(one.task, one.method, (one.k_low, one.k_high), FULL, credit=one.credit)
    log.append(one.results)
    if one.status == "running":
        return log.run_id  # not closed: it stays under way, as long as this process lives
    log.finish(*_concluded(one))
    log.close()
    return log.run_id


def record_claim(settings: Settings, one: Decided) -> None:
    """Write a decided claim as its driver does."""
    identity = Identity(one.name, one.claim_digest, one.scale, one.statement)
    with ClaimStore(settings).open(identity) as log:
        log.append("part", {1: {"value": 1.0}})
        log.decide(one.verdict, one.model_dump_json().encode(), {"check_1": one.deciding.estimate}, one.sentence)


def _concluded(one: StoredSweep) -> tuple:
    ladder, ks, curve = conclude(one.task, one.k_low, one.k_high, one.results)
    return ladder[-1], ladder, ks, curve


@dataclass(frozen=True)
class Served:
    """A server, and the store that it serves."""

    url: str
    settings: Settings
    runs: dict[str, str] = field(default_factory=dict)
    """By method, of the first task."""


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The store alone."""
    folder = tmp_path_factory.mktemp("board")
    settings = Settings.resolve(tracking_uri=f"sqlite:///{folder}/mlflow.db", state_dir=folder / "state")
    with Store(settings) as store:
        runs = {(one.task.name, one.method.name): record(store, one) for one in board()}
        for one in decided_claims():
            record_claim(settings, one)
        yield Served("", settings, {method: run for (task, method), run in runs.items() if task == TASK.name})


@pytest.fixture(scope="session")
def served(stored: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`lowdim-bench serve --no-accounts`, with its first edition made."""
    with server(stored.settings, tmp_path_factory.mktemp("open") / "serve.log") as url:
        cold_seconds(url)
        yield replace(stored, url=url)


@pytest.fixture(scope="session")
def guarded(stored: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`lowdim-bench serve`."""
    pytest.importorskip("flask_wtf", reason="needs lowdim-bench[server]")
    with server(stored.settings, tmp_path_factory.mktemp("guarded") / "serve.log", accounts=True) as url:
        yield replace(stored, url=url)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Headless Chromium, whichever is on PATH."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (lowdim-bench[dev])")
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("needs Chromium: none on PATH (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[BrowserContext]:
    """A visit of somebody with a window of 1280 by 900. No host but one may be asked, and no script may fail."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    hosts: set[str] = set()
    errors: list[str] = []
    context.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on("dialog", lambda dialog: errors.append(dialog.message))
    yield context
    context.close()
    assert len(hosts - {""}) <= 1, hosts
    assert not errors
