"""The scoreboard of published claims on the server's page."""

from __future__ import annotations

import time
import urllib.request

import pytest

from tests.browser.conftest import Served, record_claim
from tests.claims.made_up import decided

pytestmark = pytest.mark.slow


def page(served: Served) -> str:
    with urllib.request.urlopen(f"{served.url}/leaderboard", timeout=60) as response:
        return response.read().decode()


def test_the_page_shows_what_is_on_record_and_what_is_added(served: Served) -> None:
    shown = page(served)
    assert 'id="claims"' in shown
    assert [f'id="claim-{one}"' in shown for one in ("cpu-1", "cpu-2", "cpu-3", "full-1")] == [True] * 4
    record_claim(served.settings, decided(7, 2.0, "a later effect"))
    until = time.monotonic() + 200
    while 'id="claim-cpu-7"' not in (shown := page(served)):  # the first visitor may be shown the last edition
        assert time.monotonic() < until, "the claim does not appear"
        time.sleep(0.5)
    assert "There is a later effect." in shown
