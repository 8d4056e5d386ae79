"""The figure of a sweep, whatever there is to draw."""

from __future__ import annotations

import json

import pytest

from lowdim_bench.figures import Fit, Point, Surface, phase_transition, render, success_surface, wilson
from lowdim_bench.records import Estimate

POINTS = (Point(8, 0, 4), Point(16, 2, 8), Point(32, 300, 300))
FIT = Fit((8, 16, 32), (0.1, 0.4, 0.9), (0.0, 0.2, 0.8), (0.3, 0.6, 1.0))


def estimate(status: str = "found", **ends: int | None) -> Estimate:
    return Estimate.model_validate({"target": "train_loss <= 0.1", "status": status} | ends)


def test_wilson_intervals_are_those_of_the_formula() -> None:
    # The first as by R's prop.test without its correction.
    assert wilson(7, 10) == pytest.approx((0.3967781, 0.8922087), abs=1e-6)
    assert wilson(0, 5) == (0.0, pytest.approx(0.4344825, abs=1e-6))
    assert wilson(5, 5) == (pytest.approx(0.5655175, abs=1e-6), 1.0)


@pytest.mark.parametrize(
    ("points", "fit", "found", "label"),
    [
        (POINTS, FIT, estimate(k_star=17, low=15, high=19), "k* = 17 (15 to 19)"),
        (POINTS, None, estimate("unfinished", k_star=1700, low=1500), "k* = 1,700"),
        (POINTS[:1], FIT, estimate("above_range", low=2048), "k* > 2,048"),
        (POINTS[2:], FIT, estimate("below_range", high=1), "k* ≤ 1"),
        (POINTS[:1], None, estimate(k_star=8, low=8, high=8), "k* = 8 (8 to 8)"),
        ((), None, estimate("unfinished"), "k* not yet found"),
    ],
)
def test_every_outcome_can_be_drawn(points: tuple[Point, ...], fit: Fit | None, found: Estimate, label: str) -> None:
    svg = render(phase_transition(points, fit, found, 0.5, "imp on digits"), "svg").decode()
    assert f">{label.replace('>', '&gt;')}<" in svg
    assert "imp on digits" in svg
    assert "P(train_loss &lt;= 0.1)" in svg
    assert ">training dimension k<" in svg


def test_equal_figures_are_equal_bytes() -> None:
    found = estimate(k_star=17, low=15, high=19)
    for kind in ("svg", "png"):
        first, second = (render(phase_transition(POINTS, FIT, found, 0.5, "t"), kind) for _ in range(2))
        assert first == second
    assert first.startswith(b"\x89PNG")


def test_a_surface_shows_each_rung_with_its_threshold() -> None:
    ladder = [
        Surface("train_loss <= 0.5", 0.5, POINTS, estimate(k_star=9, low=8, high=11)),
        Surface("train_loss <= 0.1", 0.1, POINTS, estimate("above_range", low=2048)),
    ]
    specification = json.loads(render(success_surface(ladder, "imp on digits"), "json"))
    cells, spans = (specification["datasets"][layer["data"]["name"]] for layer in specification["layer"])
    assert [(cell["target"], cell["k"], cell["fraction"]) for cell in cells[:3]] == [
        ("train_loss <= 0.5", 8, 0.0), ("train_loss <= 0.5", 16, 0.25), ("train_loss <= 0.5", 32, 1.0),
    ]  # fmt: skip
    assert [(span["low"], span["high"], span["label"]) for span in spans] == [(8, 11, "k* = 9 (8 to 11)")]
    assert ">training dimension k<" in render(success_surface([], "nothing yet"), "svg").decode()
