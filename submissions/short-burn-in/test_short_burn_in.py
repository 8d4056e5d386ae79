"""The submission's own test: `pytest submissions/short-burn-in`."""

from __future__ import annotations

from pathlib import Path

from lowdim_bench.contract import check
from lowdim_bench.testing import own_subject

HERE = Path(__file__).parent


def test_it_keeps_the_contract() -> None:
    assert [one for one in check(own_subject(HERE)) if not one.passed] == []


def test_it_spends_an_eighth_of_what_the_default_spends() -> None:
    assert [spent.gradient_evaluations for _, spent in own_subject(HERE).audits()] == [8, 8, 8]
