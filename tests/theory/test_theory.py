"""Theory of quadratic wells against the table of the literature study, exact simulation and direct least squares."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import optimize, stats

from lowdim_bench.theory import deterministic_equivalent, exact_minimum, gaussian_width_formula

D = 200
INDEX = np.arange(1, D + 1)
SPECTRA = {
    "isotropic": np.ones(D),
    "power1": 1 / INDEX,
    "power2": 1 / INDEX**2,
    "two-level": np.where(INDEX <= 20, 1.0, 1e-3),
    "lognormal": stats.lognorm.ppf((INDEX - 0.5) / D, s=2.0),
}
FRACTIONS = (0.5, 0.1, 0.01)
# Thresholds at these fractions of the starting loss, as an independent program found them for w_0 at radius 1 in one random
# direction a spectrum: by the width formula, and by the deterministic equivalent with that direction's coordinates.
WIDTH = {
    "isotropic": (133.3, 181.8, 198.0),
    "power1": (105.7, 165.8, 195.7),
    "power2": (29.9, 61.7, 137.1),
    "two-level": (23.4, 39.1, 118.2),
    "lognormal": (73.4, 121.6, 174.5),
}
EQUIVALENT = {
    "isotropic": (100.0, 180.0, 198.0),
    "power1": (51.7, 159.3, 195.6),
    "power2": (2.3, 20.1, 117.1),
    "two-level": (10.3, 20.0, 74.0),
    "lognormal": (28.7, 101.8, 172.2),
}
EVEN = np.full(D, 1 / np.sqrt(D))


def level(values: np.ndarray, fraction: float, coordinates: np.ndarray = EVEN) -> float:
    return fraction * float((values * coordinates**2).sum())


def starting_loss(name: str) -> float:
    """The starting loss of the table's w_0, which it does not give: it follows from the first entry of the width formula."""

    def excess(start: float) -> float:
        return gaussian_width_formula(SPECTRA[name], 1.0, 0.5 * start) - WIDTH[name][0]

    return float(optimize.root_scalar(excess, bracket=(1e-6, 1e3)).root)


@pytest.mark.parametrize("name", SPECTRA)
def test_formulas_give_the_table_of_the_literature_study(name: str) -> None:
    values, start = SPECTRA[name], starting_loss(name)
    assert 0.5 < start / level(values, 1.0) < 1.1
    for place, fraction in enumerate(FRACTIONS):
        width = gaussian_width_formula(values, 1.0, fraction * start)
        assert width == pytest.approx(WIDTH[name][place], abs=0.35)
        # Even coordinates stand for those of the table's direction.
        equivalent = deterministic_equivalent(values, EVEN, fraction * start)
        assert equivalent == pytest.approx(EQUIVALENT[name][place], abs=3)


def test_formulas_are_exact_on_the_isotropic_well() -> None:
    assert starting_loss("isotropic") == pytest.approx(1.0, rel=2e-3)
    for place, fraction in enumerate(FRACTIONS):
        epsilon = level(SPECTRA["isotropic"], fraction)
        width = gaussian_width_formula(SPECTRA["isotropic"], 1.0, epsilon)
        assert width == pytest.approx(D / (1 + fraction)) == pytest.approx(WIDTH["isotropic"][place], abs=0.05)
        equivalent = deterministic_equivalent(SPECTRA["isotropic"], EVEN, epsilon)
        assert (
            equivalent == pytest.approx(D * (1 - fraction)) == pytest.approx(EQUIVALENT["isotropic"][place], abs=0.05)
        )


@pytest.mark.parametrize("name", SPECTRA)
def test_random_subspaces_reach_the_level_just_above_the_equivalent_and_not_just_below(name: str) -> None:
    generator = np.random.default_rng(0)
    values = SPECTRA[name]
    for fraction in FRACTIONS:
        coordinates = generator.normal(size=D)
        coordinates /= np.linalg.norm(coordinates)
        epsilon = level(values, fraction, coordinates)
        k = deterministic_equivalent(values, coordinates, epsilon)
        for size, reached in ((round(0.85 * k - 3), False), (round(1.15 * k + 3), True)):
            if 1 <= size < D:
                bases = generator.normal(size=(9, D, size))
                lowest = [exact_minimum(np.diag(values), coordinates, basis) for basis in bases]
                assert (np.median(lowest) <= epsilon) == reached


@pytest.mark.parametrize("k", [1, 7, 29, 30])
@pytest.mark.parametrize("name", ["isotropic", "power2", "two-level"])
def test_the_exact_minimum_is_that_of_least_squares(name: str, k: int) -> None:
    generator = np.random.default_rng(k)
    rotation, _ = np.linalg.qr(generator.normal(size=(30, 30)))
    values = SPECTRA[name][:30]
    hessian = rotation * values @ rotation.T
    offset, basis = generator.normal(size=30), generator.normal(size=(30, k))
    root = np.sqrt(values)[:, None] * rotation.T
    theta, *_ = np.linalg.lstsq(root @ basis, -root @ offset, rcond=None)
    point = offset + basis @ theta
    assert exact_minimum(hessian, offset, basis) == pytest.approx(float(point @ hessian @ point), abs=1e-10)
    for _ in range(20):  # and nothing nearby lies lower
        other = point + 1e-2 * basis @ generator.normal(size=k)
        assert other @ hessian @ other >= exact_minimum(hessian, offset, basis) - 1e-10


@pytest.mark.parametrize("name", SPECTRA)
def test_only_the_level_relative_to_the_starting_loss_matters(name: str) -> None:
    values = SPECTRA[name]
    epsilon = level(values, 0.1)
    k, width = deterministic_equivalent(values, EVEN, epsilon), gaussian_width_formula(values, 1.0, epsilon)
    assert deterministic_equivalent(values, 10 * EVEN, 100 * epsilon) == pytest.approx(k)
    assert deterministic_equivalent(7 * values, EVEN, 7 * epsilon) == pytest.approx(k)
    assert gaussian_width_formula(values, 10.0, 100 * epsilon) == pytest.approx(width)
    assert gaussian_width_formula(7 * values, 1.0, 7 * epsilon) == pytest.approx(width)


@pytest.mark.parametrize("name", SPECTRA)
def test_harder_levels_need_more_dimensions_and_met_ones_none(name: str) -> None:
    values = SPECTRA[name]
    ks = [deterministic_equivalent(values, EVEN, level(values, fraction)) for fraction in (1.0, 0.9, 0.5, 0.1, 1e-6)]
    assert ks[0] == 0.0
    assert all(easier < harder for easier, harder in pairwise(ks))
    assert ks[-1] == pytest.approx(D, abs=1)


@pytest.mark.parametrize("name", SPECTRA)
def test_the_width_formula_never_lies_below_the_equivalent(name: str) -> None:
    values = SPECTRA[name]
    for fraction in (0.9, 0.3, 0.03):
        epsilon = level(values, fraction)
        assert gaussian_width_formula(values, 1.0, epsilon) >= deterministic_equivalent(values, EVEN, epsilon)
