"""The one training loop: it trains as torch would, and no trial of a pack feels its neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lowdim_bench import engine
from lowdim_bench.engine import Span, train
from lowdim_bench.parametrizations import (
    AffineSubspace,
    Coordinates,
    DenseBasis,
    FactoredWeights,
    LowRankUpdate,
    Pack,
    Parametrization,
    SharedGaussian,
    SignedHash,
    SubsampledHadamard,
    TensorTrain,
)
from lowdim_bench.problems import BatchOrder, Ledger, MeteredProblem, Problem
from lowdim_bench.records import Spending
from lowdim_bench.specs import Recipe
from lowdim_bench.specs.task import Descent
from tests.problems.small import BLOBS, RECIPE, WELL, blobs, make_task, small_problem

CPU = torch.device("cpu")
TASK = make_task(BLOBS)
PROBLEM = small_problem(TASK)
WELL_PROBLEM = small_problem(make_task(WELL))
ADAM = {"kind": "adam"}


def recipe(**changes: Any) -> Recipe:
    return Recipe.from_data({**RECIPE, **changes}, "a recipe of the tests")


def metered(replicates: Sequence[int], problem: Problem = PROBLEM) -> MeteredProblem:
    return MeteredProblem(problem, replicates, [Ledger() for _ in replicates])


def dense(k: int, seed: int, problem: Problem = PROBLEM) -> AffineSubspace:
    return AffineSubspace(problem.initial(seed), DenseBasis.gaussian(k, problem.full_dimension, seed, CPU))


KINDS: dict[str, Callable[[int, int], Parametrization]] = {
    "gaussian": dense,
    "signed_hash": lambda k, seed: AffineSubspace(PROBLEM.initial(seed), SignedHash(k, 53, seed, CPU)),
    "hadamard": lambda k, seed: AffineSubspace(PROBLEM.initial(seed), SubsampledHadamard(k, 53, seed, CPU)),
    "low_rank": lambda k, seed: FactoredWeights.of(LowRankUpdate(k, PROBLEM.origin(seed, seed)), PROBLEM.initial(seed)),
    "tensor_train": lambda k, seed: FactoredWeights.of(
        TensorTrain(k, PROBLEM.origin(seed, seed), cores=2), PROBLEM.initial(seed)
    ),
    "mask": lambda k, seed: AffineSubspace.masked(PROBLEM.initial(seed), Coordinates.random(k, 53, seed, CPU)),
}


def blob_loss(weights: Tensor, examples: Tensor) -> Tensor:
    """The 6-5-3 network written anew, in float64."""
    arrays = blobs()
    inputs = torch.tensor(arrays["x_train"])
    inputs = inputs / inputs.abs().max()
    inputs = (inputs - inputs.mean(dim=0)).double()[examples]
    hidden = torch.relu(inputs @ weights[:30].view(6, 5) + weights[30:35])
    return functional.cross_entropy(
        hidden @ weights[35:50].view(5, 3) + weights[50:], torch.tensor(arrays["y_train"])[examples]
    )


TORCH: dict[str, tuple[dict[str, Any], Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": ({"optimizer": ADAM}, torch.optim.Adam, {"eps": 1e-7}),
    "momentum": ({}, torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (
        {"optimizer": {"kind": "sgd", "momentum": 0.9, "nesterov": True}},
        torch.optim.SGD,
        {"momentum": 0.9, "nesterov": True},
    ),
    "weight decay": (
        {"optimizer": {"kind": "sgd", "momentum": 0.9, "weight_decay": 0.3}},
        torch.optim.SGD,
        {"momentum": 0.9},
    ),
    "adam and weight decay": ({"optimizer": ADAM | {"weight_decay": 0.3}}, torch.optim.Adam, {"eps": 1e-7}),
}


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("case", TORCH)
def test_training_is_that_of_torch(case: str, schedule: str) -> None:
    changes, kind, options = TORCH[case]
    spec = recipe(**changes, learning_rate={"value": 0.1, "schedule": schedule}, steps=30)
    subspace = dense(7, 3)
    (theta,) = train(metered([3]), [subspace], spec, [0.05], Span(0, 30))

    leaf = torch.zeros(7, dtype=torch.float64, requires_grad=True)
    optimizer = kind([leaf], lr=0.05, **options)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30) if schedule == "cosine" else None
    order, basis = BatchOrder(PROBLEM, [3], 16), subspace.operator.matrix().double()
    assert isinstance(spec.optimizer, Descent)
    for step in range(30):
        examples = order.examples(step)
        assert examples is not None
        optimizer.zero_grad()
        weights = subspace.offset.double() + basis @ leaf
        (blob_loss(weights, examples[0]) + spec.optimizer.weight_decay / 2 * weights.square().sum()).backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
    assert float(theta.norm()) > 0.1
    torch.testing.assert_close(theta.double(), leaf.detach(), rtol=1e-3, atol=1e-4)


def alone(subspaces: Sequence[Parametrization], spec: Recipe, rates: Sequence[float], stop: int = 12) -> list[Tensor]:
    return [
        train(metered([row]), [subspace], spec, [rate], Span(0, stop))[0]
        for row, (subspace, rate) in enumerate(zip(subspaces, rates, strict=True))
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_pack_trains_each_trial_as_if_it_were_alone(kind: str, size: int) -> None:
    subspaces = [KINDS[kind](1 + (7 * row) % 53, row) for row in range(size)]
    rates = [0.02 + 0.01 * (row % 5) for row in range(size)]
    spec = recipe(optimizer=ADAM)
    together = train(metered(range(size)), subspaces, spec, rates, Span(0, 12))
    for subspace, one, other in zip(subspaces, together, alone(subspaces, spec, rates), strict=True):
        assert one.shape == (subspace.k,)
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_pack_of_full_spaces_trains_each_trial_as_if_it_were_alone() -> None:
    subspaces = [AffineSubspace.full_space(PROBLEM.initial(row)) for row in range(5)]
    spec, rates = recipe(), [0.1] * 5
    before = [subspace.start.clone() for subspace in subspaces]
    together = train(metered(range(5)), subspaces, spec, rates, Span(0, 12))
    for one, other in zip(together, alone(subspaces, spec, rates), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(subspace.start, start) for subspace, start in zip(subspaces, before, strict=True))


class Log:
    """An observer that writes down what it is shown and ends rows at given steps."""

    def __init__(self, every: int, ends: dict[int, int] | None = None) -> None:
        self.every, self.ends = every, ends or {}
        self.looks: list[tuple[int, list[int]]] = []
        self.weights: dict[tuple[int, int], Tensor] = {}

    def __call__(self, step: int, rows: Sequence[int], theta: Tensor, pack: Pack) -> list[bool]:
        assert len(rows) == len(theta) == len(pack.dimensions)
        self.looks.append((step, list(rows)))
        for row, weights in zip(rows, pack.map(theta), strict=True):
            self.weights[step, row] = weights.clone()
        return [self.ends.get(row, math.inf) > step for row in rows]


@pytest.mark.parametrize(
    ("every", "start", "stop", "looks"),
    [
        (4, 0, 12, [4, 8, 12]),
        (5, 0, 12, [5, 10, 12]),
        (100, 0, 12, [12]),
        (1, 9, 12, [10, 11, 12]),
        (5, 3, 11, [5, 10, 11]),
    ],
)
def test_an_observer_looks_every_so_many_steps_and_at_the_last(
    every: int, start: int, stop: int, looks: list[int]
) -> None:
    log = Log(every)
    train(metered([0, 1]), [dense(3, 0), dense(5, 1)], recipe(), [0.1, 0.1], Span(start, stop), log)
    assert log.looks == [(step, [0, 1]) for step in looks]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_leave_do_not_disturb_those_that_stay(kind: str) -> None:
    subspaces = [KINDS[kind](k, row) for row, k in enumerate([9, 53, 4, 17])]
    spec, rates = recipe(optimizer=ADAM), [0.05, 0.1, 0.05, 0.02]
    log = Log(2, ends={1: 4, 3: 8})
    left = train(metered(range(4)), subspaces, spec, rates, Span(0, 12), log)
    assert log.looks == [
        (2, [0, 1, 2, 3]),
        (4, [0, 1, 2, 3]),
        (6, [0, 2, 3]),
        (8, [0, 2, 3]),
        (10, [0, 2]),
        (12, [0, 2]),
    ]
    stops = [12, 4, 12, 8]
    for row, stop in enumerate(stops):
        (own,) = train(metered([row]), [subspaces[row]], spec, [rates[row]], Span(0, stop))
        torch.testing.assert_close(left[row], own, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(log.weights[stop, row], subspaces[row].map(left[row]))


def test_trials_too_large_for_the_caches_together_train_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    subspaces = [KINDS["signed_hash"](k, row) for row, k in enumerate([9, 53, 4, 17, 30])]
    spec, rates = recipe(optimizer=ADAM), [0.05, 0.1, 0.05, 0.02, 0.03]
    at_once = train(metered(range(5)), subspaces, spec, rates, Span(0, 8))
    monkeypatch.setattr(engine, "_NUMBERS_AT_ONCE", 2 * 53)
    log, problem = Log(4, ends={2: 4}), metered(range(5))
    in_groups = train(problem, subspaces, spec, rates, Span(0, 8), log)
    assert log.looks == [(4, [0]), (8, [0]), (4, [1, 2]), (8, [1]), (4, [3, 4]), (8, [3, 4])]
    assert [ledger.spent.gradient_evaluations for ledger in problem.ledgers] == [8, 8, 4, 8, 8]
    for row in (0, 1, 3, 4):
        assert torch.equal(in_groups[row], at_once[row])
    assert torch.equal(log.weights[4, 2], subspaces[2].map(in_groups[2]))


def test_trials_that_share_a_basis_train_all_at_once_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_NUMBERS_AT_ONCE", 1)
    subspaces = [AffineSubspace(PROBLEM.initial(row), SharedGaussian(5, 53, row, CPU)) for row in range(3)]
    log = Log(4)
    train(metered(range(3)), subspaces, recipe(), [0.05] * 3, Span(0, 4), log)
    assert log.looks == [(4, [0, 1, 2])]


def test_training_ends_when_all_have_left() -> None:
    problem = metered([0, 1])
    log = Log(2, ends={0: 4, 1: 6})
    train(problem, [dense(3, 0), dense(3, 1)], recipe(steps=1000), [0.1, 0.1], Span(0, 1000), log)
    assert [step for step, _ in log.looks] == [2, 4, 6]
    assert [ledger.spent.gradient_evaluations for ledger in problem.ledgers] == [4, 6]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_diverges_does_not_disturb_the_others(kind: str) -> None:
    subspaces = [KINDS[kind](k, row) for row, k in enumerate([9, 53, 4])]
    spec = recipe()
    together = train(metered(range(3)), subspaces, spec, [0.05, 1e30, 0.02], Span(0, 12))
    assert not together[1].isfinite().all()
    for row, rate in ((0, 0.05), (2, 0.02)):
        (own,) = train(metered([row]), [subspaces[row]], spec, [rate], Span(0, 12))
        torch.testing.assert_close(together[row], own, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_rewound_training_goes_on_with_the_batches_and_rates_of_its_step(schedule: str) -> None:
    spec = recipe(optimizer={"kind": "sgd"}, learning_rate={"value": 0.1, "schedule": schedule})
    full = AffineSubspace.full_space(PROBLEM.initial(0))
    (whole,) = train(metered([0]), [full], spec, [0.3], Span(0, 12))
    (first,) = train(metered([0]), [full], spec, [0.3], Span(0, 5))
    (second,) = train(metered([0]), [AffineSubspace.full_space(first)], spec, [0.3], Span(5, 12))
    assert torch.equal(second, whole)
    (restarted,) = train(metered([0]), [AffineSubspace.full_space(first)], spec, [0.3], Span(0, 7))
    assert not torch.allclose(restarted, whole, atol=1e-3)


def test_a_cosine_ends_at_zero_and_stays_there() -> None:
    spec = recipe(optimizer={"kind": "sgd"}, learning_rate={"value": 0.1, "schedule": "cosine"}, batch_size=None)
    moves = []
    point = WELL_PROBLEM.initial(0)
    for step in range(20):
        subspace = AffineSubspace.full_space(point)
        (after,) = train(metered([0], WELL_PROBLEM), [subspace], spec, [1.0], Span(step, step + 1))
        slope = WELL_PROBLEM.loss_and_gradient(point.unsqueeze(0), None)[1][0]
        moves.append(float((point - after).norm() / slope.norm()))
    expected = [0.5 * (1 + math.cos(math.pi * step / 12)) if step < 12 else 0.0 for step in range(20)]
    assert moves == pytest.approx(expected, abs=1e-5)


def test_gradient_evaluations_are_counted_exactly() -> None:
    problem = metered(range(3))
    subspaces = [dense(3, row) for row in range(3)]
    train(problem, subspaces, recipe(), [0.1] * 3, Span(5, 12), Log(2, ends={1: 8}))
    assert [ledger.spent for ledger in problem.ledgers] == [
        Spending(gradient_evaluations=7, examples=7 * 16),
        Spending(gradient_evaluations=3, examples=3 * 16),
        Spending(gradient_evaluations=7, examples=7 * 16),
    ]
    problem = metered([0])
    train(problem, [dense(3, 0)], recipe(batch_size=None), [0.1], Span(0, 4))
    assert problem.ledgers[0].spent == Spending(gradient_evaluations=4, examples=4 * 70)


def test_training_in_a_subspace_stays_in_it_and_only_moves_downhill_there() -> None:
    subspace = dense(5, 0, WELL_PROBLEM)
    spec = recipe(batch_size=None, optimizer=ADAM, steps=600, learning_rate={"value": 0.1, "schedule": "cosine"})
    (theta,) = train(metered([0], WELL_PROBLEM), [subspace], spec, [0.1], Span(0, 600))
    weights = subspace.map(theta)
    basis = torch.linalg.qr(subspace.operator.matrix()).Q
    moved = weights - subspace.offset
    torch.testing.assert_close(basis @ (basis.T @ moved), moved, rtol=1e-4, atol=1e-4)
    _, slope = WELL_PROBLEM.loss_and_gradient(weights.unsqueeze(0), None)
    assert float((basis.T @ slope[0]).norm()) < 1e-2 < float(slope[0].norm())


def test_training_leaves_the_global_generator_and_the_gradient_mode_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    (theta,) = train(metered([0]), [dense(3, 0)], recipe(), [0.1], Span(0, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert not theta.requires_grad


def test_training_twice_gives_the_same_bits() -> None:
    subspaces = [dense(k, row) for row, k in enumerate([9, 53, 4])]
    runs = [train(metered(range(3)), subspaces, recipe(optimizer=ADAM), [0.1] * 3, Span(0, 12)) for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))
