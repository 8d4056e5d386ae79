"""The scoreboard by its command: measured, kept, shown."""

from __future__ import annotations

import io
import json
import signal
import time

import pytest

from lowdim_bench.claims import CLAIMS, choose
from lowdim_bench.cli.claims import _show_costs
from tests.cli.conftest import Cli


@pytest.mark.slow
def test_a_claim_is_interrupted_continued_kept_and_shown(cli: Cli) -> None:
    """Claim 12: 128 trainings."""
    with cli.start("reproduce", "12") as process:
        until = time.monotonic() + 120
        while not (kept := set(cli.folder.glob("mlartifacts/**/parts/*.json"))):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until, "nothing was measured"
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode in {0, 130}, err  # a fast machine may have been done by then
    found = cli.json("reproduce", "straight-way")
    assert kept <= set(cli.folder.glob("mlartifacts/**/parts/*.json"))
    assert found["verdicts"] == {"12": "reproduced"}
    (row,) = found["rows"]
    assert [(check["n"], check["low"] is not None) for check in row["checks"]] == [(64, True), (64, True)]
    shown, _ = cli.run("reproduce")
    assert "1 reproduced" in shown
    others = [number for number in CLAIMS if number != 12]
    assert shown.count("not measured") == len(others)
    assert cli.json("reproduce") == found | {"not_measured": others}


def test_costs_are_told_before_anything_is_spent(lone_cli: Cli) -> None:
    at_cpu, at_full = (
        lone_cli.json("reproduce", "5", "9", "--estimate", "--scale", scale) for scale in ("cpu", "full")
    )
    # Claim 5: 24 seeds at three k, each once; and for the ticket once more in full: 500 steps each.
    assert at_cpu["claims"]["5"]["trainings"] == 24 * 3 * 3
    assert at_cpu["claims"]["5"]["steps"] == 24 * 3 * 3 * 500
    assert at_full["total"]["operations"] > 20 * at_cpu["total"]["operations"]
    text, _ = lone_cli.run("reproduce", "5", "--estimate")
    assert "216" in text
    assert not list(lone_cli.folder.glob("mlflow.db"))
    assert json.dumps(at_full)


@pytest.mark.slow
def test_every_claim_tells_what_it_costs_at_full_size() -> None:
    """In this process: most of it is the preparation of methods on made-up data of the papers' size."""
    out = io.StringIO()
    _show_costs(claims := choose(["all"], "full"), "full", out, as_json=False)
    lines = {line.split()[0]: line.split() for line in out.getvalue().splitlines() if line[:1].isdigit()}
    assert list(lines) == [str(number) for number in CLAIMS]
    assert [line[1] for line in lines.values()] == [one.name for one in claims]
    assert all(float(line[-1]) > 0 for line in lines.values())
    whole = next(line.split() for line in out.getvalue().splitlines() if line.split()[:1] == ["all"])
    # Each line is printed with two digits.
    assert float(whole[-1]) == pytest.approx(sum(float(line[-1]) for line in lines.values()), rel=0.06)
