"""Quadratic wells are the wells they say they are: spectrum, starting loss, gradient, minimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from lowdim_bench.errors import UserError
from lowdim_bench.problems.quadratic import QuadraticProblem
from tests.problems.small import WELL, make_task

SPECTRA: dict[str, dict[str, Any]] = {
    "isotropic": {"kind": "power", "exponent": 0.0},
    "power1": {"kind": "power", "exponent": 1.0},
    "power2": {"kind": "power", "exponent": 2.0},
    "two-level": {"kind": "two_level", "high_count": 4, "low": 1e-3},
    "lognormal": {"kind": "lognormal", "sigma": 2.0},
}


def well(spectrum: dict[str, Any], dimension: int = 30, **more: Any) -> QuadraticProblem:
    changes = {"problem": {"spectrum": spectrum, "dimension": dimension, **more}, "threshold": {"k_max": dimension}}
    return QuadraticProblem(make_task(WELL, changes), torch.device("cpu"))


def expected(name: str, dimension: int) -> np.ndarray:
    index = np.arange(1, dimension + 1)
    return {
        "isotropic": np.ones(dimension),
        "power1": 1 / index,
        "power2": 1 / index**2,
        "two-level": np.where(index <= 4, 1.0, 1e-3),
        "lognormal": stats.lognorm.ppf((index - 0.5) / dimension, s=2.0),
    }[name]


@pytest.mark.parametrize("name", SPECTRA)
def test_the_hessian_has_the_spectrum_asked_for(name: str) -> None:
    problem = well(SPECTRA[name])
    wanted = np.sort(expected(name, 30))
    np.testing.assert_allclose(np.sort(problem.eigenvalues), wanted, rtol=1e-10)
    found = np.linalg.eigvalsh(problem.hessian.double().numpy())
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-6 * wanted.max())
    assert problem.unit == pytest.approx(wanted.mean())


@pytest.mark.parametrize("radius", [1.0, 3.0])
@pytest.mark.parametrize("name", SPECTRA)
def test_every_replicate_starts_at_the_loss_radius_squared(name: str, radius: float) -> None:
    problem = well(SPECTRA[name], radius=radius)
    starts = torch.stack([problem.initial(replicate) for replicate in range(6)])
    np.testing.assert_allclose(problem.train_metrics(starts).loss.numpy(), radius**2, rtol=1e-5)
    np.testing.assert_allclose(problem.loss_and_gradient(starts, None)[0].numpy(), radius**2, rtol=1e-4)
    directions = starts / starts.norm(dim=1, keepdim=True)
    assert float((directions @ directions.T - torch.eye(6)).abs().max()) < 0.9


def test_the_eigenbasis_is_not_that_of_the_coordinates_and_is_one_a_task() -> None:
    problem = well(SPECTRA["power2"])
    off_diagonal = problem.hessian - problem.hessian.diagonal().diag()
    assert float(off_diagonal.norm()) > 0.3 * float(problem.hessian.norm())
    assert torch.equal(problem.hessian, well(SPECTRA["power2"]).hessian)
    named = make_task(WELL, {"name": "another", "problem": {"spectrum": SPECTRA["power2"], "dimension": 30}})
    assert not torch.allclose(problem.hessian, QuadraticProblem(named, torch.device("cpu")).hessian, atol=1e-2)


@pytest.mark.parametrize("name", SPECTRA)
def test_the_gradient_is_that_of_the_loss(name: str) -> None:
    problem = well(SPECTRA[name])
    weights = torch.stack([problem.initial(0), problem.initial(1)])
    _, gradient = problem.loss_and_gradient(weights, None)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        direction = torch.randn(weights.shape, generator=generator)
        up, down = (problem.train_metrics(weights.double() + s * direction.double()).loss for s in (0.5, -0.5))
        torch.testing.assert_close((gradient * direction).sum(dim=1).double(), up - down, rtol=1e-4, atol=1e-5)


def test_rows_of_a_pack_do_not_mix() -> None:
    problem = well(SPECTRA["power1"])
    weights = torch.stack([problem.initial(0), torch.full((30,), torch.nan), problem.initial(1)])
    loss, gradient = problem.loss_and_gradient(weights, None)
    for row, replicate in ((0, 0), (2, 1)):
        alone = problem.loss_and_gradient(problem.initial(replicate).unsqueeze(0), None)
        torch.testing.assert_close(loss[row], alone[0][0])
        torch.testing.assert_close(gradient[row], alone[1][0])
    assert loss[1].isnan()


def test_a_well_has_neither_examples_nor_accuracy() -> None:
    problem = well(SPECTRA["isotropic"])
    assert problem.example_count is None
    assert problem.train_metrics(problem.initial(0).unsqueeze(0)).accuracy is None
    assert problem.test_accuracy(problem.initial(0).unsqueeze(0)) is None


@pytest.mark.parametrize(
    ("spectrum", "reason"),
    [
        ({"kind": "two_level", "high_count": 31, "low": 0.1}, "more than the dimension"),
        ({"kind": "two_level", "high_count": 3, "low": 1e-9}, "float32 holds"),
        ({"kind": "lognormal", "sigma": 6.0}, "float32 holds"),
        ({"kind": "lognormal", "sigma": 1e6}, "float32 holds"),
    ],
)
def test_wells_that_cannot_be_are_refused(spectrum: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        well(spectrum)


@pytest.mark.parametrize("exponent", [3.0, 4.0])
def test_a_well_that_is_admitted_has_no_way_down_without_end(exponent: float) -> None:
    """In float32 the smallest eigenvalues of a wide spectrum round to negative ones; an optimizer finds them."""
    for dimension in (12, 50, 200):
        try:
            problem = well({"kind": "power", "exponent": exponent}, dimension)
        except UserError:
            continue
        assert float(torch.linalg.eigvalsh(problem.hessian.double()).min()) > 0
