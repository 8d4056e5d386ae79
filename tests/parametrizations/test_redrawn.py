"""Random bases descent: its expected update, what it can reach, and that nobody takes it for a low-dimensional method."""

from __future__ import annotations

import pytest
import torch

from lowdim_bench import audit
from lowdim_bench.engine import Span, train
from lowdim_bench.methods import MethodChoice
from lowdim_bench.parametrizations import RANDOM_OPERATORS, AffineSubspace, Pack, RedrawnBases
from lowdim_bench.problems import Ledger, MeteredProblem
from lowdim_bench.records import Spending
from lowdim_bench.specs import Recipe
from tests.problems.small import RECIPE, WELL, make_task, small_problem

CPU = torch.device("cpu")
PROBLEM = small_problem(make_task(WELL))
D = PROBLEM.full_dimension
PLAIN = {**RECIPE, "optimizer": {"kind": "sgd"}, "batch_size": None, "steps": 5}


def redrawn(directions: int, seed: int, kind: str = "gaussian") -> AffineSubspace:
    return AffineSubspace(torch.zeros(D), RedrawnBases(D, directions, kind, seed), PROBLEM.initial(seed))


def trained(
    parametrizations: list[AffineSubspace], replicates: list[int], steps: int, rate: float = 0.1
) -> torch.Tensor:
    metered = MeteredProblem(PROBLEM, replicates, [Ledger() for _ in replicates])
    recipe = Recipe.from_data(PLAIN, "a recipe of the tests")
    return torch.stack(train(metered, parametrizations, recipe, [rate] * len(replicates), Span(0, steps)))


@pytest.mark.parametrize("kind", RANDOM_OPERATORS)
@pytest.mark.parametrize("directions", [2, 5])
def test_on_a_quadratic_the_expected_update_is_the_gradient_scaled(kind: str, directions: int) -> None:
    """E[A A'] = (directions / D) I, so the mean of many updates is that share of the full gradient step."""
    draws = 3000
    start = PROBLEM.initial(0)
    _, gradient = PROBLEM.loss_and_gradient(start.unsqueeze(0), None)
    parametrizations = [
        AffineSubspace(torch.zeros(D), RedrawnBases(D, directions, kind, seed), start) for seed in range(draws)
    ]
    updates = (start - trained(parametrizations, [0] * draws, 1)) / 0.1
    expected = gradient[0] * directions / D
    standard_error = updates.std(dim=0) / draws**0.5
    assert float(((updates.mean(dim=0) - expected).abs() / standard_error).max()) < 5
    assert float(standard_error.max()) < 0.1 * float(expected.abs().max())  # or the line above says little


def test_steps_move_in_the_span_of_their_own_bases() -> None:
    one = redrawn(2, seed=3)
    weights = [one.start, *(trained([one], [3], steps)[0] for steps in (1, 2, 3))]
    moves = torch.stack(weights).diff(dim=0)
    assert isinstance(one.operator, RedrawnBases)
    bases = [one.operator.basis(step, CPU).matrix() for step in range(3)]
    for step, move in enumerate(moves):
        for other, basis in enumerate(bases):
            left = move - basis @ torch.linalg.lstsq(basis, move.unsqueeze(1)).solution.squeeze(1)
            assert (float(left.norm()) < 1e-4 * float(move.norm())) == (step == other)
    assert int(torch.linalg.matrix_rank(moves)) == 3, "weights leave any subspace of two dimensions"


def test_a_trial_does_not_feel_its_neighbours_and_a_second_training_is_the_same() -> None:
    pack = [redrawn(3, seed) for seed in range(4)]
    together = trained(pack, [0, 1, 2, 3], 5)
    assert torch.equal(together, trained(pack, [0, 1, 2, 3], 5))
    for row, one in enumerate(pack):
        torch.testing.assert_close(trained([one], [row], 5)[0], together[row])
    kept = Pack.of(pack).keep(torch.tensor([2]))
    kept.begin(4)
    gradient = torch.randn(1, D)
    alone = Pack.of([pack[2]])
    alone.begin(4)
    assert torch.equal(kept.pull_back(kept.map(gradient), gradient), alone.pull_back(gradient, gradient))
    alone.begin(3)
    assert not torch.equal(kept.pull_back(gradient, gradient), alone.pull_back(gradient, gradient))


def test_it_is_priced_as_all_numbers_that_it_touches() -> None:
    method = MethodChoice(name="random_bases", parameters={"directions": 2}).build()
    assert method.k_range(PROBLEM.blocks) == (D, D)
    found = audit.measure(redrawn(2, 0), D, PROBLEM.origin(0, 0), Spending())
    assert (found.measured_k, found.side_information_bits, found.track) == (D, 0.0, "cold")
    with pytest.raises(Exception, match=f"the trial allows k = 2 numbers, but the method prepared {D}"):
        audit.measure(redrawn(2, 0), 2, PROBLEM.origin(0, 0), Spending())


@pytest.mark.parametrize(
    ("directions", "kind", "reason"), [(0, "gaussian", "1 to"), (D + 1, "gaussian", "1 to"), (1, "x", "'x'")]
)
def test_what_is_no_basis_is_refused(directions: int, kind: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RedrawnBases(D, directions, kind, 0)
