"""Operators are checked on request: alone, and as part of a sweep, which then shows and records what came out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from tests.cli.conftest import Cli


@pytest.mark.slow
def test_operators_are_compared_with_dense_bases(lone_cli: Cli, write_task: Callable[..., str]) -> None:
    asked = ["calibrate", "operators", write_task(), "--k", "40", "--k", "80", "--seeds", "6"]
    (row,) = lone_cli.json(*asked, "--operator", "shared_gaussian")["operators"]
    assert row["operator"] == "shared_gaussian"
    assert row["seeds"] == 6
    assert row["ks"] == [40, 80]
    assert row["low"] <= row["multiplier"] <= row["high"]
    out, err = lone_cli.run(*asked, "--operator", "chunks", code=2)
    assert out == ""
    assert "no stand-in for a random subspace" in err


@pytest.mark.slow
def test_a_sweep_shows_and_records_the_check_of_its_operator(cli: Cli, write_task: Callable[..., str]) -> None:
    report = cli.json("run", write_task(), "-m", "random_subspace", "-m", "random_mask", "--check-operator")
    (check,) = report["operators"]
    assert check["operator"] == "sparse_signs"
    k_star = report["sweeps"][0]["estimate"]["k_star"]
    assert min(check["ks"]) < k_star < max(check["ks"])
    with sqlite3.connect(cli.folder / "mlflow.db") as database:
        metrics = database.execute("select key, value from latest_metrics where key like 'operator_%'").fetchall()
        tags = database.execute("select value from tags where key = 'lowdim.operator_check'").fetchall()
    database.close()
    prefix = "operator_multiplier"
    expected = {prefix: check["multiplier"], f"{prefix}_low": check["low"], f"{prefix}_high": check["high"]}
    assert dict(metrics) == pytest.approx(expected)
    assert len(metrics) == 3  # of the random subspace alone
    assert f"{check['multiplier']:.3f} times the k of a dense Gaussian basis" in tags[0][0]


def test_a_sweep_without_an_operator_to_check_says_so(lone_cli: Cli, write_task: Callable[..., str]) -> None:
    for method in ("random_mask", "random_subspace,operator=gaussian"):
        out, err = lone_cli.run("run", write_task(), "-m", method, "--check-operator", code=2)
        assert out == ""
        assert f"there is none to compare among {method}" in err
