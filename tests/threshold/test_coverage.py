"""A small run of the coverage simulation; the full one is `lowdim-bench calibrate coverage`."""

from __future__ import annotations

import json

import pytest

from lowdim_bench.calibration.coverage import CASES, coverage_table, holds, main
from lowdim_bench.records import Estimate


def test_intervals_hold_known_thresholds_at_slope_12() -> None:
    steps: list[tuple[int, int]] = []
    (row,) = coverage_table(30, 0, lambda done, total: steps.append((done, total)), cases=[CASES[1]])
    assert row.sweeps == 30
    assert row.coverage >= 0.8
    assert row.coverage_low <= row.coverage <= row.coverage_high
    assert row.found == 1
    assert row.flagged <= 0.1
    assert row.median_trainings <= 60
    assert row.median_width is not None
    assert row.median_width <= 1.2
    assert steps == [(i + 1, 30) for i in range(30)]


def test_intervals_hold_known_thresholds_of_nested_replicates() -> None:
    (row,) = coverage_table(15, 0, cases=[CASES[-1]])
    assert row.coverage >= 0.8
    assert row.found >= 0.9


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_level_is_reached_at_k_star(case) -> None:  # noqa: ANN001
    if case.shape != "nested":
        assert case.success(0.0) == pytest.approx(0.5)
        assert case.success(-9.0) < 0.01
        assert case.success(9.0) == pytest.approx(1 - case.lapse, abs=1e-6)


def test_what_an_interval_holds() -> None:
    assert holds(Estimate(target="t", status="above_range", low=4096), 4097)
    assert not holds(Estimate(target="t", status="above_range", low=4096), 4096)
    assert holds(Estimate(target="t", status="below_range", high=16), 16)
    assert not holds(Estimate(target="t", status="found", k_star=5, low=4, high=6), 7)
    assert holds(Estimate(target="t", status="unfinished", low=4), 7)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--sweeps", "1", "--json"])
    rows = json.loads(capsys.readouterr().out)["coverage"]
    assert [row["case"] for row in rows] == [case.name for case in CASES]
    main(["--sweeps", "1"])
    assert "cloglog" in capsys.readouterr().out
