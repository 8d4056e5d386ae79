"""What pruning, lottery and burn-in methods compute, against what the papers say they compute."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lowdim_bench.engine import Span, train
from lowdim_bench.methods import Method, MethodChoice, Setting, Train, Trained
from lowdim_bench.methods.pruning import largest, survivors_by_round
from lowdim_bench.parametrizations import AffineSubspace, Coordinates, DenseBasis, Pack, Parametrization, SignedHash
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import Ledger, MeteredProblem, Problem
from lowdim_bench.records import Trial
from lowdim_bench.specs import Recipe
from tests.problems.small import BLOBS, BLOBS_DIMENSION, WELL, make_task, small_problem

TASK = make_task(BLOBS)
PROBLEM = small_problem(TASK)
WELL_PROBLEM = small_problem(make_task(WELL))
BIASES = [*range(30, 35), *range(50, 53)]


def metered(problem: Problem = PROBLEM, replicate: int = 0) -> MeteredProblem:
    return MeteredProblem(problem, [replicate], [Ledger()])


def method(name: str, **parameters: Any) -> Method:
    return MethodChoice(name=name, parameters=parameters).build()


def setting(k: int, seed: int = 5) -> Setting:
    return Setting(metered(), k, seed, TASK.full_training)


def prepared(chosen: Method, k: int, replicate: int = 0) -> AffineSubspace:
    (item,) = prepare_pack(PROBLEM, TASK, chosen, [Trial(k=k, replicate=replicate, round=0)])
    assert isinstance(item.subspace, AffineSubspace), item.failure
    return item.subspace


def kept(subspace: Parametrization) -> list[int]:
    assert isinstance(subspace.operator, Coordinates)
    return subspace.operator.indices.tolist()


def full_training(stop: int, start: int = 0, weights: Tensor | None = None) -> Tensor:
    space = AffineSubspace.full_space(PROBLEM.initial(0) if weights is None else weights)
    return train(metered(), [space], TASK.full_training, [0.1], Span(start, stop))[0]


def drive(chosen: Method, k: int, answers: Sequence[Tensor]) -> tuple[list[Train], AffineSubspace]:
    """Run a preparation by hand: each request is answered with the next weights, 0 where they were not trainable."""
    running = chosen.prepare(setting(k))
    assert not isinstance(running, Parametrization)
    requests = [next(running)]
    try:
        for answer in answers:
            asked = requests[-1].subspace
            assert isinstance(asked, AffineSubspace)
            moved = asked.operator.matrix().abs().sum(dim=1) > 0
            requests.append(running.send(Trained(torch.where(moved, answer, torch.zeros(BLOBS_DIMENSION)))))
    except StopIteration as end:
        return requests, end.value
    raise AssertionError("the method asked for more trainings than expected")


@pytest.mark.parametrize(
    ("rate", "k", "counts"),
    [(0.5, 14, [27, 14]), (0.2, 53, [53]), (0.2, 42, [47, 42]), (0.9, 1, [7, 1]), (0.2, 20, [44, 36, 30, 24, 20])],
)
def test_imp_leaves_exactly_as_many_weights_as_it_says_each_round(rate: float, k: int, counts: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    answers = [torch.randn(BLOBS_DIMENSION, generator=generator) for _ in counts]
    requests, result = drive(method("imp", rate=rate), k, answers)
    assert [request.subspace.k for request in requests] + [result.k] == [BLOBS_DIMENSION, *counts]
    assert all((request.start, request.stop, request.snapshot_every) == (0, 12, None) for request in requests)


def test_imp_prunes_the_smallest_survivors_and_rewinds_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    answers = [torch.randn(BLOBS_DIMENSION, generator=generator) for _ in range(6)]
    rewound, *trained = answers
    requests, result = drive(method("imp", rate=0.3, rewind_step=4), 10, answers)
    assert (requests[0].start, requests[0].stop) == (0, 4)
    assert torch.equal(requests[0].subspace.start, PROBLEM.initial(0))
    before = list(range(BLOBS_DIMENSION))
    for request, weights, after in zip(
        requests[1:], trained, [*(r.subspace for r in requests[2:]), result], strict=True
    ):
        assert (request.start, request.stop) == (4, 12)
        assert kept(request.subspace) == before
        # Survivors start exactly where they were rewound to; what is pruned is exactly zero.
        assert torch.equal(request.subspace.start, rewound[before])
        assert not request.subspace.offset.any()
        ranked = sorted(before, key=lambda place: -abs(float(weights[place])))
        before = sorted(ranked[: after.k])
        assert kept(after) == before
    assert torch.equal(result.start, rewound[before])
    assert not result.offset.any()
    mapped = result.map(result.start)
    assert torch.equal(mapped[before], rewound[before])
    assert int((mapped != 0).sum()) == 10


def test_imp_does_what_a_hand_written_loop_does() -> None:
    result = prepared(method("imp", rate=0.4, rewind_step=3), 12)
    rewound = full_training(3)
    alive = torch.ones(BLOBS_DIMENSION)
    for count in survivors_by_round(BLOBS_DIMENSION, 12, 0.4):
        mask = Coordinates(alive.nonzero()[:, 0], BLOBS_DIMENSION)
        subspace = AffineSubspace.masked(rewound, mask)
        (theta,) = train(metered(), [subspace], TASK.full_training, [0.1], Span(3, 12))
        magnitude = subspace.map(theta).abs()
        alive = (magnitude >= magnitude.sort(descending=True).values[count - 1]).float()
    assert kept(result) == alive.nonzero()[:, 0].tolist()
    assert torch.equal(result.start, rewound[alive > 0])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_ties_still_leave_an_exact_count_of_survivors_only(value: float) -> None:
    requests, result = drive(method("imp", rate=0.5), 14, [torch.full((BLOBS_DIMENSION,), value)] * 2)
    assert [kept(requests[1].subspace), kept(result)] == [list(range(27)), list(range(14))]
    _, one_shot = drive(method("one_shot_magnitude"), 13, [torch.full((BLOBS_DIMENSION,), value)])
    assert kept(one_shot) == list(range(13))


def test_a_weight_once_pruned_never_comes_back() -> None:
    """Not even where every survivor has been trained to exactly zero, as the pruned ones are."""
    chosen = method("imp", rate=0.5)
    first = torch.arange(BLOBS_DIMENSION).float() + 1  # the last ones survive the first round
    requests, result = drive(chosen, 14, [first, torch.zeros(BLOBS_DIMENSION)])
    assert set(kept(result)) < set(kept(requests[1].subspace))


@pytest.mark.parametrize("name", ["imp", "one_shot_magnitude"])
@pytest.mark.parametrize("k", [8, 9, 20])
def test_pruning_weights_alone_keeps_every_bias(name: str, k: int) -> None:
    result = prepared(method(name, scope="weights"), k)
    assert result.k == k
    assert set(BIASES) <= set(kept(result))


def test_one_shot_keeps_the_largest_of_one_full_training_rewound() -> None:
    for rewind in (0, 5):
        result = prepared(method("one_shot_magnitude", rewind_step=rewind), 9)
        rewound = full_training(rewind) if rewind else PROBLEM.initial(0)
        trained = full_training(12, start=rewind, weights=rewound)
        expected = sorted(np.argsort(-trained.abs().numpy())[:9].tolist())
        assert kept(result) == expected
        assert torch.equal(result.start, rewound[expected])


@given(
    full_dimension=st.integers(1, 5000),
    share=st.floats(0, 1),
    rate=st.floats(0.01, 0.95),
    protected_share=st.floats(0, 0.9),
)
def test_rounds_of_pruning_shrink_by_at_most_the_rate_down_to_exactly_k(
    full_dimension: int, share: float, rate: float, protected_share: float
) -> None:
    protected = int(protected_share * full_dimension)
    low = max(1, protected)
    k = low + round(share * (full_dimension - low))
    counts = survivors_by_round(full_dimension, k, rate, protected)
    assert counts[-1] == k
    prunable = [count - protected for count in [full_dimension, *counts]]
    for before, after in pairwise(prunable):
        assert after <= before
        assert after >= (1 - rate) * before - 1.5  # rounding; and the last one may go
    # As few rounds as the rate allows.
    last = max(1, k - protected)
    assert len(counts) == 1 or prunable[0] * (1 - rate) ** (len(counts) - 1) > last * (1 - 1e-6)


@given(
    scores=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    data=st.data(),
)
def test_the_largest_are_the_largest_among_those_allowed(scores: list[int], data: st.DataObject) -> None:
    size = len(scores)
    among = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    among[0] = True
    protected = [allowed and data.draw(st.booleans()) for allowed in among]
    count = data.draw(st.integers(max(1, sum(protected)), sum(among)))
    chosen = largest(torch.tensor(scores).float(), count, torch.tensor(among), torch.tensor(protected)).indices.tolist()
    assert len(chosen) == count
    assert all(among[place] for place in chosen)
    assert all(place in chosen for place in range(size) if protected[place])
    free = [place for place in chosen if not protected[place]]
    left = [place for place in range(size) if among[place] and place not in chosen]
    assert all(
        scores[one] > scores[other] or (scores[one] == scores[other] and one < other) for one in free for other in left
    )


class NeverRevived:
    """Looks at every step whether weights outside the mask are still exactly zero."""

    every = 1

    def __init__(self, outside: Sequence[Tensor]) -> None:
        self.outside = outside
        self.looks = 0

    def __call__(self, step: int, rows: Sequence[int], theta: Tensor, pack: Pack) -> list[bool]:
        for row, weights in zip(rows, pack.map(theta), strict=True):
            assert not weights[self.outside[row]].any()
            assert weights[~self.outside[row]].any()
        self.looks += 1
        return [True] * len(rows)


@given(
    ks=st.lists(st.integers(1, BLOBS_DIMENSION), min_size=1, max_size=3),
    optimizer=st.sampled_from(
        [
            {"kind": "adam"},
            {"kind": "sgd", "momentum": 0.9},
            {"kind": "sgd", "momentum": 0.9, "nesterov": True},
            {"kind": "sgd", "momentum": 0.9, "weight_decay": 0.1},
            {"kind": "adam", "weight_decay": 0.1},
        ]
    ),
    seed=st.integers(0, 2**32),
    on_well=st.booleans(),
)
def test_weights_outside_a_mask_stay_exactly_zero_through_training(
    ks: list[int], optimizer: dict[str, Any], seed: int, on_well: bool
) -> None:
    problem = WELL_PROBLEM if on_well else PROBLEM
    D = problem.full_dimension
    masks = [Coordinates.random(min(k, D), D, seed + row, torch.device("cpu")) for row, k in enumerate(ks)]
    outside = [torch.ones(D, dtype=torch.bool).index_fill(0, mask.indices, False) for mask in masks]
    subspaces = [AffineSubspace.masked(problem.initial(row) + 0.5, mask) for row, mask in enumerate(masks)]
    rows = range(len(ks))
    observer = NeverRevived(outside)
    recipe = Recipe.from_data({**TASK.full_training.model_dump(mode="json"), "optimizer": optimizer}, "a recipe")
    metered_pack = MeteredProblem(problem, rows, [Ledger() for _ in rows])
    train(metered_pack, subspaces, recipe, [0.1] * len(ks), Span(0, 8), observer)
    assert observer.looks == 8


def test_the_trained_ticket_is_exactly_zero_where_it_was_pruned() -> None:
    subspace = prepared(method("imp", rate=0.5), 10)
    (theta,) = train(metered(), [subspace], TASK.training, [0.1], Span(0, 12))
    weights = subspace.map(theta)
    pruned = torch.ones(BLOBS_DIMENSION, dtype=torch.bool).index_fill(0, torch.tensor(kept(subspace)), False)
    assert not weights[pruned].any()
    assert not torch.equal(theta, subspace.start)


def test_a_random_mask_is_uniform_nested_and_drawn_from_the_seed() -> None:
    chosen = method("random_mask")
    small, large = (chosen.prepare(setting(k)) for k in (5, 20))
    assert isinstance(small, AffineSubspace)
    assert isinstance(large, AffineSubspace)
    assert set(kept(small)) < set(kept(large))
    assert torch.equal(small.start, PROBLEM.initial(0)[kept(small)])
    counts = np.zeros(BLOBS_DIMENSION)
    for seed in range(400):
        subspace = chosen.prepare(setting(10, seed))
        assert isinstance(subspace, AffineSubspace)
        counts[kept(subspace)] += 1
    assert abs(counts - 400 * 10 / BLOBS_DIMENSION).max() < 5 * np.sqrt(400 * 10 / BLOBS_DIMENSION)


def test_burn_in_passes_through_weights_trained_in_full() -> None:
    result = prepared(method("burn_in_subspace", burn_in_steps=6, operator="gaussian"), 4)
    torch.testing.assert_close(result.offset, full_training(6), rtol=0, atol=0)
    assert torch.equal(result.start, torch.zeros(4))
    # Apart from where it passes through, it is the random subspace of the same trial.
    plain = prepared(method("random_subspace", operator="gaussian"), 4)
    assert torch.equal(result.operator.matrix(), plain.operator.matrix())
    assert torch.equal(plain.offset, PROBLEM.initial(0))


def test_the_random_subspaces_of_a_replicate_are_nested_in_k() -> None:
    small, large = (prepared(method("random_subspace", operator="gaussian"), k) for k in (4, 9))
    assert torch.equal(small.operator.matrix(), large.operator.matrix()[:, :4])
    assert isinstance(prepared(method("random_subspace"), 4).operator, SignedHash)


def test_the_lottery_subspace_spans_the_main_directions_of_the_increments() -> None:
    chosen = method("lottery_subspace", increments=10, stride=3)
    points = [PROBLEM.initial(0), *(full_training(stop) for stop in range(3, 31, 3))]
    increments = torch.stack(points).diff(dim=0).double().numpy()
    assert increments.shape == (10, BLOBS_DIMENSION)
    _, singular, rows = np.linalg.svd(increments, full_matrices=False)
    for k in (1, 3, 10):
        result = prepared(chosen, k)
        assert isinstance(result.operator, DenseBasis)
        assert result.operator.seed is None
        assert torch.equal(result.offset, PROBLEM.initial(0))
        found = result.operator.columns.double().numpy()
        np.testing.assert_allclose(found @ found.T, np.eye(k), atol=1e-5)
        np.testing.assert_allclose(np.abs((found * rows[:k]).sum(axis=1)), 1, atol=1e-3)
        energy = ((increments @ found.T) ** 2).sum()
        assert energy == pytest.approx((singular[:k] ** 2).sum(), rel=1e-4)


def test_the_lottery_basis_for_k_does_not_depend_on_other_k() -> None:
    chosen = method("lottery_subspace", increments=10, stride=3)
    together = prepare_pack(PROBLEM, TASK, chosen, [Trial(k=k, replicate=0, round=0) for k in (2, 10)])
    small, large = (item.subspace for item in together)
    assert isinstance(small, AffineSubspace)
    assert isinstance(large, AffineSubspace)
    alone = prepared(chosen, 2)
    torch.testing.assert_close(small.operator.matrix(), alone.operator.matrix(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(large.operator.matrix()[:, :2], alone.operator.matrix(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("through", ["initial", "mean"])
def test_iterates_that_move_in_a_plane_give_that_plane(through: str) -> None:
    """Late iterates go once round an ellipse of half axes 3 and 1, far from w_0: their deviations have the ellipse's axes."""
    chosen = method("swag_subspace", rank=8, stride=5, through=through)
    basis = torch.linalg.qr(torch.randn(BLOBS_DIMENSION, 2, generator=torch.Generator().manual_seed(0))).Q.T
    centre = torch.full((BLOBS_DIMENSION,), 7.0)
    angles = torch.arange(9) * 2 * torch.pi / 9
    iterates = [centre + 3 * angle.cos() * basis[0] + angle.sin() * basis[1] for angle in angles]
    for k in (1, 2):
        running = chosen.prepare(setting(k))
        assert not isinstance(running, Parametrization)
        asked = next(running)
        assert (asked.start, asked.stop, asked.snapshot_every) == (0, 40, 5)
        with pytest.raises(StopIteration) as end:
            running.send(Trained(iterates[-1], tuple(iterates)))
        result = end.value.value
        found = result.operator.columns
        assert torch.allclose((found @ basis[:k].T).abs(), torch.eye(k), atol=1e-4), "the longer axis first"
        start = PROBLEM.initial(0) if through == "initial" else centre
        torch.testing.assert_close(result.offset, start, rtol=0, atol=1e-4)


def test_the_swag_subspace_is_of_the_end_of_a_full_training() -> None:
    chosen = method("swag_subspace", rank=3, stride=2)
    burnt = full_training(6)
    points = [burnt, *(full_training(stop, 6, burnt) for stop in (8, 10, 12))]
    deviations = torch.stack(points).double().numpy()
    deviations -= deviations.mean(axis=0)
    _, singular, rows = np.linalg.svd(deviations, full_matrices=False)
    assert singular[3] < 1e-5 * singular[0], "four iterates deviate from their mean in three directions"
    found = prepared(chosen, 3).operator
    assert isinstance(found, DenseBasis)
    assert found.seed is None
    np.testing.assert_allclose(np.abs((found.columns.double().numpy() * rows[:3]).sum(axis=1)), 1, atol=1e-3)
    alone = prepared(chosen, 1).operator.matrix()
    torch.testing.assert_close(found.matrix()[:, :1], alone, rtol=1e-4, atol=1e-5)
