"""Controls of lottery tickets, pre-training on few examples, and the pruning rate that the landscape allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lowdim_bench.engine import Span, train
from lowdim_bench.methods import Method, MethodChoice, Setting, Train, Trained
from lowdim_bench.methods.landscape_imp import prunable, spectrum
from lowdim_bench.methods.pruning import members
from lowdim_bench.parametrizations import AffineSubspace, Coordinates, Parametrization
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import BatchOrder, Ledger, MeteredProblem
from lowdim_bench.records import Trial
from tests.problems.small import BLOBS, QUADRATIC, WELL, make_task, small_problem

TASK = make_task(BLOBS)
PROBLEM = small_problem(TASK)
WELL_PROBLEM = small_problem(make_task(WELL))


def method(name: str, **parameters: Any) -> Method:
    return MethodChoice(name=name, parameters=parameters).build()


def prepared(chosen: Method, k: int) -> AffineSubspace:
    (item,) = prepare_pack(PROBLEM, TASK, chosen, [Trial(k=k, replicate=0, round=0)])
    assert isinstance(item.subspace, AffineSubspace), item.failure
    return item.subspace


def mask(subspace: AffineSubspace) -> Tensor:
    assert isinstance(subspace.operator, Coordinates)
    return members(subspace.operator)


def setting(k: int = 5) -> Setting:
    return Setting(MeteredProblem(PROBLEM, [0], [Ledger(None, 70)]), k, 5, TASK.full_training)


def test_a_reinitialized_ticket_has_the_mask_of_the_ticket_and_other_weights() -> None:
    ticket, control = (prepared(method("imp", rate=0.5, control=control), 12) for control in ("none", "reinitialized"))
    assert torch.equal(mask(ticket), mask(control))
    assert not torch.equal(ticket.start, control.start)
    (item,) = prepare_pack(PROBLEM, TASK, method("random_mask"), [Trial(k=12, replicate=0, round=0)])
    again = PROBLEM.origin(0, item.seed).reinitialized()
    assert torch.equal(control.start, again[mask(ticket)])


@pytest.mark.parametrize("k", [4, 12, 30])
def test_a_shuffled_ticket_keeps_as_many_weights_of_each_tensor_at_other_places(k: int) -> None:
    ticket, control = (prepared(method("imp", rate=0.5, control=control), k) for control in ("none", "shuffled"))
    one, other = mask(ticket), mask(control)
    assert not torch.equal(one, other)
    for block in PROBLEM.blocks:
        part = slice(block.start, block.stop)
        assert int(one[part].sum()) == int(other[part].sum())
    assert torch.equal(control.start, PROBLEM.initial(0)[other])


def test_a_training_on_a_subset_sees_that_subset_alone_in_equal_batches() -> None:
    subsets = [torch.arange(10, 30), torch.arange(40, 60)]
    order = BatchOrder(PROBLEM, [0, 3], 8, subsets)
    for epoch in range(3):
        batches = [order.examples(step) for step in (2 * epoch, 2 * epoch + 1)]
        for row, subset in enumerate(subsets):
            seen = [place for batch in batches if batch is not None for place in batch[row].tolist()]
            assert len(seen) == len(set(seen)) == 16
            assert set(seen) <= set(subset.tolist())
    order.keep(torch.tensor([1]))
    last = order.examples(7)
    assert last is not None
    assert set(last[0].tolist()) <= set(subsets[1].tolist())
    everything = BatchOrder(PROBLEM, [0, 3], None, subsets).examples(4)
    assert everything is not None
    assert torch.equal(everything, torch.stack(subsets))
    small = BatchOrder(PROBLEM, [0], 16, [torch.tensor([7, 9])]).examples(5)
    assert small is not None
    assert sorted(small[0].tolist()) == [7, 9]


def error_norms(weights: Tensor) -> Tensor:
    return PROBLEM.error_norms(weights.unsqueeze(0))[0].double()


def test_the_data_diet_is_the_easiest_examples_by_the_mean_of_their_error_norms() -> None:
    chosen = method("data_diet_imp", subset="easy", size=15, score_runs=2, score_steps=6, pretrain_steps=4)
    one = setting(20)
    scores = torch.zeros(70, dtype=torch.float64)
    for run in range(2):
        start = AffineSubspace.full_space(one.origin.reinitialized(run))
        metered = MeteredProblem(PROBLEM, [0], [Ledger()])
        (weights,) = train(metered, [start], TASK.full_training, [0.1], Span(0, 6))
        scores += error_norms(weights) / 2
    running = chosen.prepare(one)
    assert not isinstance(running, Parametrization)
    request = next(running)
    for _ in range(2):
        assert isinstance(request, Train)
        assert (request.start, request.stop, request.examples) == (0, 6, None)
        metered = MeteredProblem(PROBLEM, [0], [Ledger()])
        (weights,) = train(metered, [request.subspace], TASK.full_training, [0.1], Span(0, 6))
        request = running.send(Trained(weights))
    assert (request.start, request.stop) == (0, 4)
    assert torch.equal(request.subspace.start, PROBLEM.initial(0))
    assert request.examples is not None
    assert sorted(request.examples.tolist()) == sorted(np.argsort(scores.numpy(), kind="stable")[:15].tolist())


def diets(size: int) -> dict[str, set[int]]:
    found = {}
    for subset in ("easy", "random", "hard"):
        chosen = method("data_diet_imp", subset=subset, size=size, score_runs=1, score_steps=2, pretrain_steps=2)
        running = chosen.prepare(setting(20))
        assert not isinstance(running, Parametrization)
        request = next(running)
        if request.examples is None:
            request = running.send(Trained(PROBLEM.initial(1)))
        assert request.examples is not None
        found[subset] = set(request.examples.tolist())
    return found


def test_easy_and_hard_examples_are_the_two_ends() -> None:
    found = diets(20)
    scores = error_norms(PROBLEM.initial(1))
    assert max(scores[list(found["easy"])]) <= min(scores[list(found["hard"])])
    assert not found["easy"] & found["hard"]
    assert found["random"] not in (found["easy"], found["hard"])
    assert diets(70)["easy"] == diets(1000)["random"] == set(range(70))


def test_only_examples_of_the_diet_are_seen_before_the_rounds() -> None:
    chosen = method("data_diet_imp", subset="random", size=20, pretrain_steps=3)
    one = setting(20)
    metered = MeteredProblem(PROBLEM, [0], [ledger := Ledger(None, 70)])
    running = chosen.prepare(one)
    assert not isinstance(running, Parametrization)
    request = next(running)
    assert request.examples is not None
    with_subset = MeteredProblem(PROBLEM, [0], [ledger], [request.examples])
    train(with_subset, [request.subspace], TASK.full_training, [0.1], Span(0, 3))
    assert ledger.spent.labels <= 20
    assert metered.ledgers[0].spent.gradient_evaluations == 3


def test_a_diet_of_a_problem_without_examples_is_refused() -> None:
    task = make_task(WELL)
    (item,) = prepare_pack(WELL_PROBLEM, task, method("data_diet_imp"), [Trial(k=3, replicate=0, round=0)])
    assert "this problem has none to choose from" in item.failure


def test_examples_that_do_not_exist_are_refused() -> None:
    class Beyond(Method):
        def prepare(self, setting: Setting):  # noqa: ANN202
            yield Train(AffineSubspace.full_space(setting.initial), start=0, stop=2, examples=torch.tensor([3, 70]))
            return AffineSubspace.full_space(setting.initial)

    (item,) = prepare_pack(PROBLEM, TASK, Beyond(), [Trial(k=3, replicate=0, round=0)])
    assert "do not lie among the 70 that there are" in item.failure
    with pytest.raises(ValueError, match=r"examples have shape \(0,\)"):
        Train(AffineSubspace.full_space(PROBLEM.initial(0)), start=0, stop=2, examples=torch.empty(0))


def test_the_spectrum_among_survivors_is_that_of_the_hessian_there() -> None:
    """On a well with as many steps as survivors, Lanczos quadrature is exact for one vector's moments."""
    metered = MeteredProblem(WELL_PROBLEM, [0], [ledger := Ledger()])
    one = Setting(metered, 3, 5, make_task(WELL).full_training)
    kept = Coordinates(torch.tensor([0, 2, 3, 7, 8, 11]), 12)
    values, shares = spectrum(one, WELL_PROBLEM.initial(0), kept, 10, 20)
    hessian = WELL_PROBLEM.hessian_vector(torch.zeros(12, 12), torch.eye(12), None).double()
    among = hessian[kept.indices][:, kept.indices]
    torch.testing.assert_close(values, torch.linalg.eigvalsh(among), rtol=1e-4, atol=1e-5)
    assert float(shares.sum()) == pytest.approx(1)
    vector = torch.randn(6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    vector /= vector.norm()
    assert float((values * shares).sum()) == pytest.approx(float(vector @ among @ vector), rel=1e-4)
    assert ledger.spent.gradient_evaluations == 2 * 6


@given(
    weights=st.lists(st.floats(-3, 3), min_size=1, max_size=12),
    eigenvalues=st.lists(st.floats(-1, 50), min_size=1, max_size=5),
    slack=st.floats(1e-3, 10),
)
def test_the_prunable_number_is_the_largest_that_the_formula_allows(
    weights: list[float], eigenvalues: list[float], slack: float
) -> None:
    shares = torch.full((len(eigenvalues),), 1 / len(eigenvalues), dtype=torch.float64)
    found = prunable(
        torch.tensor(weights, dtype=torch.float64), torch.tensor(eigenvalues, dtype=torch.float64), shares, slack
    )
    sizes = sorted(abs(weight) for weight in weights)

    def allowed(count: int, tolerance: float) -> bool:
        moved = sum(size**2 for size in sizes[:count])
        ratios = [1.0 if value <= 0 else 2 * slack / (2 * slack + value * moved) for value in eigenvalues]
        return count / len(weights) <= sum(ratios) / len(ratios) + tolerance

    assert all(allowed(count, 1e-8) for count in range(1, found + 1))
    assert not any(allowed(count, 0.0) for count in range(found + 1, len(weights) + 1))


def test_a_flat_well_is_pruned_at_once_and_a_steep_one_at_the_least_rate() -> None:
    def counts(slack: float) -> list[int]:
        metered = MeteredProblem(WELL_PROBLEM, [0], [Ledger()])
        running = method("landscape_imp", slack=slack, least_rate=0.3).prepare(
            Setting(metered, 2, 5, make_task(WELL).full_training)
        )
        assert not isinstance(running, Parametrization)
        found, request = [12], next(running)
        try:
            while True:
                request = running.send(Trained(WELL_PROBLEM.initial(1)))
                found.append(request.subspace.k)
        except StopIteration as end:
            return [*found, end.value.k]

    assert counts(1e9) == [12, 2]
    assert counts(1e-9) == [12, 8, 6, 4, 3, 2]
    assert 3 <= len(counts(0.03)) < 6


def test_a_training_that_ran_away_is_a_failure_with_its_reason() -> None:
    """Weights that are finite still, of a loss of degree eight in them whose curvature no longer is."""
    changes = {
        "problem": {"hidden": 1, "variant": "norm", "quadratic_layers": 2, "data": {"degree": 4}},
        "full_training": {"optimizer": {"kind": "sgd"}, "learning_rate": {"value": 0.5}},
    }
    task = make_task(QUADRATIC, changes)
    trials = [Trial(k=k, replicate=replicate, round=0) for k in (1, 3) for replicate in range(4)]
    items = prepare_pack(small_problem(task), task, method("landscape_imp"), trials)
    failures = {item.failure for item in items if item.failure}
    assert failures
    assert all(
        "the curvature" in failure and "lower learning_rate.value of full_training" in failure for failure in failures
    )
    assert all(item.diverged for item in items if not item.failure)


def test_curvature_that_vanishes_is_one_eigenvalue_of_zero() -> None:
    class Flat:
        """A loss without curvature."""

        def batch_order(self, examples: int) -> BatchOrder:
            return BatchOrder(WELL_PROBLEM, [0], examples)

        def hessian_vector(self, weights: Tensor, vectors: Tensor, examples: Tensor | None) -> Tensor:
            return torch.zeros_like(vectors)

    flat: Any = Flat()
    setting = Setting(flat, 3, 5, make_task(WELL).full_training)
    values, shares = spectrum(setting, torch.ones(12), Coordinates(torch.arange(12), 12), 8, 6)
    assert (values.tolist(), shares.tolist()) == ([0.0], [1.0])
