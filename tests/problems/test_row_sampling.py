"""Samples of least-squares rows: their chances, weights and expected solution against the whole problem."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from lowdim_bench.problems import RowSampling
from lowdim_bench.problems.row_sampling import draw_rows, leverage_scores, likely_rows, row_numbers
from lowdim_bench.problems.tensors import khatri_rao

FACTORS = [
    torch.randn(size, 2, generator=torch.Generator().manual_seed(size), dtype=torch.float64) for size in (4, 5, 3)
]
FACTORS[1][2] *= 8  # so that some rows have most of the leverage
DESIGN = khatri_rao(FACTORS)


def test_leverage_scores_are_the_diagonal_of_the_projection() -> None:
    matrix = FACTORS[1]
    hat = matrix @ torch.linalg.pinv(matrix)
    torch.testing.assert_close(leverage_scores(matrix), hat.diagonal())
    deficient = torch.cat([matrix, matrix[:, :1] * 2], dim=1)
    torch.testing.assert_close(leverage_scores(deficient), hat.diagonal())


@pytest.mark.parametrize("above", [0.3, 0.05, 0.01, 1e-9])
def test_likely_rows_are_all_that_are_likely(above: float) -> None:
    chances = [leverage_scores(factor) / 2 for factor in FACTORS]
    expected = {
        places: float(chances[0][places[0]] * chances[1][places[1]] * chances[2][places[2]])
        for places in product(range(4), range(5), range(3))
    }
    found, chance = likely_rows(chances, above)
    assert {tuple(row.tolist()) for row in found} == {places for places, value in expected.items() if value > above}
    assert chance.tolist() == pytest.approx([expected[tuple(row.tolist())] for row in found])


SAMPLINGS = {
    "leverage": RowSampling(20),
    "repeats": RowSampling(20, combine=False),
    "hybrid": RowSampling(20, deterministic=True),
    "uniform": RowSampling(20, "uniform"),
}


@pytest.mark.parametrize("name", SAMPLINGS)
def test_weighted_samples_have_the_whole_problem_as_their_expected_value(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    grams = []
    for _ in range(2000):
        rows = draw_rows(FACTORS, SAMPLINGS[name], generator)
        some = DESIGN[row_numbers(rows.places, (4, 5, 3))]
        grams.append(some.T @ (some * rows.weights.unsqueeze(1)))
    found, expected = torch.stack(grams), DESIGN.T @ DESIGN
    error = (found.mean(dim=0) - expected).abs() / (found.std(dim=0) / 2000**0.5)
    assert float(error.max()) < 5
    assert float((found.std(dim=0) / 2000**0.5).max()) < 0.05 * float(expected.max())


def test_combined_repeats_are_fewer_rows_with_the_same_solution() -> None:
    """Of each sample, and so of the expected one."""
    target = torch.randn(60, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def solution(rows: Any) -> Tensor:
        places, root = row_numbers(rows.places, (4, 5, 3)), rows.weights.sqrt().unsqueeze(1)
        return torch.linalg.lstsq(DESIGN[places] * root, target[places] * root).solution

    for seed in range(20):
        combined, repeated = (
            draw_rows(FACTORS, RowSampling(200, combine=combine), torch.Generator().manual_seed(seed))
            for combine in (True, False)
        )
        assert len(combined.weights) < len(DESIGN)
        assert len(repeated.weights) == 200
        assert float(combined.weights.sum()) == pytest.approx(float(repeated.weights.sum()))
        torch.testing.assert_close(solution(combined), solution(repeated))


def test_a_hybrid_sample_holds_every_likely_row_once_with_weight_one() -> None:
    sampling = RowSampling(20, deterministic=True)
    rows = draw_rows(FACTORS, sampling, torch.Generator().manual_seed(3))
    likely, chance = likely_rows([leverage_scores(factor) / 2 for factor in FACTORS], 1 / 20)
    assert 0 < len(likely) < 20
    assert torch.equal(rows.places[: len(likely)], likely)
    assert rows.weights[: len(likely)].tolist() == [1.0] * len(likely)
    others = row_numbers(rows.places[len(likely) :], (4, 5, 3)).tolist()
    assert not set(others) & set(row_numbers(likely, (4, 5, 3)).tolist())
    assert 0 < float(chance.sum()) < 1
    # Nothing is left to draw where few rows are all there is.
    alone = draw_rows([factor[:1] for factor in FACTORS], sampling, torch.Generator())
    assert (alone.places.tolist(), alone.weights.tolist()) == ([[0, 0, 0]], [1.0])


def dominated(sizes: Sequence[int], scale: float) -> list[Tensor]:
    """Factors (n, 3) whose first three rows have nearly all of the leverage: the others are `scale` times as large."""
    generator = torch.Generator().manual_seed(5)
    factors = [torch.randn(size, 3, generator=generator, dtype=torch.float64) for size in sizes]
    for factor in factors:
        factor[:3] = torch.eye(3) + 0.3
        factor[3:] *= scale
    return factors


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scale", [1e-2, 1e-3, 5e-4, 1e-5])
def test_a_hybrid_sample_ends_however_little_the_likely_rows_leave(scale: float) -> None:
    sampling = RowSampling(1024, deterministic=True)
    rows = draw_rows(dominated((60, 60, 20), scale), sampling, torch.Generator().manual_seed(0))
    dominant = (rows.places < 3).all(dim=1)
    assert int(dominant.sum()) == 27
    assert rows.weights[dominant].tolist() == [1.0] * 27
    assert 27 <= len(rows.weights) <= 1024
    assert bool((rows.weights > 0).all() & rows.weights.isfinite().all())


@pytest.mark.parametrize("scale", [0.03, 0.2, 1.0])
def test_what_few_draws_leave_of_a_hybrid_sample_has_the_whole_problem_as_its_expected_value(scale: float) -> None:
    """Also where most samples have none of the unlikely rows, or where there are no likely ones."""
    sizes, sampling = (6, 5, 4), RowSampling(40, deterministic=True)
    factors = dominated(sizes, scale)
    design, generator = khatri_rao(factors), torch.Generator().manual_seed(2)
    likely, _ = likely_rows([leverage_scores(factor) / 3 for factor in factors], 1 / 40)
    unlikely = design.clone()
    unlikely[row_numbers(likely, sizes)] = 0.0
    grams, empty = [], 0
    for _ in range(500):
        rows = draw_rows(factors, sampling, generator)
        places, weights = rows.places[len(likely) :], rows.weights[len(likely) :]
        some = design[row_numbers(places, sizes)]
        grams.append(some.T @ (some * weights.unsqueeze(1)))
        empty += not len(places)
    found, expected = torch.stack(grams), unlikely.T @ unlikely
    error = (found.mean(dim=0) - expected).abs() / (found.std(dim=0) / 500**0.5)
    assert float(error.max()) < 5
    if scale == 0.03:
        assert 100 < empty < 400
