"""Curvature and predictions against closed forms and dense linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lowdim_bench import problems
from lowdim_bench.errors import UserError
from lowdim_bench.landscape import Curvature, curvature, predict
from lowdim_bench.specs import Task, load_task
from lowdim_bench.theory import (
    Measure,
    certain_failure,
    deterministic_equivalent,
    equivalent_threshold,
    gaussian_width_formula,
    local_angular_dimension,
    simulated_threshold,
)


def well(**spectrum: object) -> Task:
    task = load_task("well-power2")
    made = task.problem.model_copy(update={"dimension": 60}).model_dump() | ({"spectrum": spectrum} if spectrum else {})
    return Task.model_validate(
        task.model_dump() | {"problem": made, "threshold": task.threshold.model_copy(update={"k_max": 60})}
    )


@pytest.fixture(scope="module")
def wells() -> problems.Problem:
    task = well(kind="power", exponent=1.0)
    return problems.build(task, {})


def eigenvalues(problem: problems.Problem) -> np.ndarray:
    """Of the Hessian of the loss, descending, from the specification."""
    values = 1 / np.arange(1, problem.full_dimension + 1)
    return 2 * values / values.mean()


def test_the_hessian_of_a_well_is_its_hessian(wells: problems.Problem) -> None:
    found = Curvature(wells, torch.randn(60, generator=torch.Generator().manual_seed(1)))
    assert np.sort(np.linalg.eigvalsh(found.matrix()))[::-1] == pytest.approx(eigenvalues(wells), rel=1e-4, abs=1e-5)
    assert found.largest(3) == pytest.approx(eigenvalues(wells)[:3], rel=1e-4)
    trace, error = found.trace(200, np.random.default_rng(0))
    assert abs(trace - 120.0) < 4 * error
    assert 0 < error < 5
    assert found.negative_share() < 1e-6


def test_quadratures_agree_with_the_whole_spectrum(wells: problems.Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    point = torch.zeros(60)
    vector = np.random.default_rng(2).normal(size=60)
    whole = Curvature(wells, point)
    exact_density, exact_spread = whole.density(1, np.random.default_rng(0)), whole.spread(vector)
    monkeypatch.setattr(curvature, "EXACT_DIMENSION", 10)
    monkeypatch.setattr(curvature, "_STEPS", 30)
    some = Curvature(wells, point)
    density, spread = some.density(200, np.random.default_rng(0)), some.spread(vector)
    for g in (0.05, 0.5, 5.0):

        def resolvent(measure: Measure, g: float = g) -> float:
            return float((measure.mass * measure.eigenvalues / (measure.eigenvalues + g)).sum())

        assert resolvent(spread) == pytest.approx(resolvent(exact_spread), rel=1e-3), "Gauss quadrature is exact here"
        assert resolvent(density) == pytest.approx(resolvent(exact_density), rel=0.03), "200 probes"
    assert density.total == pytest.approx(60)
    assert spread.total == pytest.approx(vector @ vector, rel=1e-6)


def test_measures_give_what_eigenvalues_give() -> None:
    rng = np.random.default_rng(3)
    values, coordinates = rng.uniform(0.1, 3, size=50), rng.normal(size=50)
    loss = (coordinates**2 * values).sum()
    density, energy = Measure(values, np.ones(50)), Measure(values, coordinates**2 * values)
    assert equivalent_threshold(density, energy, 0.2 * loss) == deterministic_equivalent(
        values, coordinates, 0.2 * loss
    )
    assert equivalent_threshold(density, energy, 2 * loss) == 0.0
    by_formula = density.total - local_angular_dimension(density, 2.0, 0.5)
    assert by_formula == pytest.approx(gaussian_width_formula(values / 2, 2.0, 0.5))


def test_exact_simulation_is_where_theory_has_it() -> None:
    """Isotropic: a random subspace of k of D dimensions leaves (D - k) / D of the loss, so half of it at D / 2."""
    found = simulated_threshold(np.ones(100), np.full(100, 0.1), 0.25, np.random.default_rng(4), draws=32)
    assert abs(found - 50) <= 3
    assert simulated_threshold(np.ones(10), np.ones(10), 100.0, np.random.default_rng(0), draws=2) == 0


def test_gordon_s_theorem_says_nothing_of_small_spaces_and_much_of_large_ones() -> None:
    assert certain_failure(50, 10.0) == 0
    sure = certain_failure(10_000, 100.0)
    m = 10_000 - sure
    assert 1 - 3.5 * np.exp(-((m / np.sqrt(m + 1) - 10) ** 2) / 18) >= 0.95
    m -= 1
    assert 1 - 3.5 * np.exp(-((m / np.sqrt(m + 1) - 10) ** 2) / 18) < 0.95


def test_predictions_of_a_well_agree_with_exact_simulation() -> None:
    task = well()
    found = predict(task, problems.build(task, {}), range(3))
    assert found.exact
    assert found.start_by_form == pytest.approx(found.start, rel=1e-4)
    for one in found.predictions:
        for equivalent, simulated, formula in zip(one.equivalent, one.simulated, one.formula, strict=True):
            assert equivalent is not None
            assert simulated is not None
            assert abs(equivalent - simulated) <= 3
            assert formula is not None
            assert formula >= equivalent - 3, "the formula lies too high far below D"


def test_predictions_of_a_network_say_how_far_they_hold() -> None:
    task = load_task("quadratic-gaussian")
    task = task.model_copy(update={"full_training": task.full_training.model_copy(update={"steps": 800})})
    found = predict(task, problems.build(task, {}), range(1))
    assert not found.exact
    assert found.conditions[0].startswith("Heuristic: a quadratic form")
    (ranked,) = found.predictions[-1].equivalent
    assert ranked is None or 0 < ranked < found.dimension


def test_accuracies_are_not_predicted() -> None:
    task = load_task("digits-mlp")
    accuracy = task.model_dump() | {"targets": ({"metric": "train_accuracy", "at_least": 0.9},), "futility": None}
    with pytest.raises(UserError, match="training loss only"):
        predict(Task.model_validate(accuracy), None, [0])  # type: ignore[arg-type]
