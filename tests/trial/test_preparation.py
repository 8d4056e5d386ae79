"""Preparations of a pack run in step: what can be trained together is, and each pays for its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch

from lowdim_bench import preparation
from lowdim_bench.engine import Span, train
from lowdim_bench.methods import Method, MethodChoice, Preparation, Setting, Train
from lowdim_bench.parametrizations import AffineSubspace, Coordinates, SignedHash
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import Ledger, MeteredProblem
from lowdim_bench.records import Trial
from lowdim_bench.specs import Task
from tests.problems.small import BLOBS, BLOBS_DIMENSION, make_task, small_problem

TASK = make_task(BLOBS)
PROBLEM = small_problem(TASK)


def trials(*ks: int) -> list[Trial]:
    return [Trial(k=k, replicate=place, round=0) for place, k in enumerate(ks)]


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Span]]:
    """How many trials each training of a preparation held, and over which steps it went."""
    seen = []

    def recorded(
        problem: Any, subspaces: Sequence[AffineSubspace], recipe: Any, rates: Any, span: Span, *rest: Any
    ) -> Any:
        seen.append((len(subspaces), span))
        return train(problem, subspaces, recipe, rates, span, *rest)

    monkeypatch.setattr(preparation, "train", recorded)
    return seen


def choose(name: str, **parameters: Any) -> Method:
    return MethodChoice(name=name, parameters=parameters).build()


def test_a_pack_burns_in_as_one(packs: list[tuple[int, Span]]) -> None:
    prepare_pack(PROBLEM, TASK, choose("burn_in_subspace", burn_in_steps=5), trials(3, 9, 20, 53))
    assert packs == [(4, Span(0, 5))]


def test_rounds_of_pruning_share_packs_until_some_are_done(packs: list[tuple[int, Span]]) -> None:
    items = prepare_pack(PROBLEM, TASK, choose("imp", rate=0.5, rewind_step=2), trials(30, 14, 7, 53))
    # 1, 2, 3 and 1 rounds to half, a quarter and an eighth.
    assert packs == [(4, Span(0, 2)), (4, Span(2, 12)), (2, Span(2, 12)), (1, Span(2, 12))]
    assert [item.ledger.spent.gradient_evaluations for item in items] == [12, 22, 32, 12]
    assert [item.subspace.k for item in items if item.subspace] == [30, 14, 7, 53]


class TwoPaths(Method):
    """Asks for trainings that do not go together: other steps, other kinds of map, with and without snapshots."""

    summary: ClassVar[str] = "a method of the tests"
    source: ClassVar[str] = "the tests"

    def prepare(self, setting: Setting) -> Preparation:
        full = AffineSubspace.full_space(setting.initial)
        hashed = SignedHash(setting.k, setting.full_dimension, setting.seed, setting.initial.device)
        mask = Coordinates(torch.arange(setting.k), setting.full_dimension)
        requests = {
            1: Train(full, 0, 4),
            2: Train(full, 2, 4),
            3: Train(AffineSubspace(setting.initial, hashed), 0, 4),
            4: Train(full, 0, 4, snapshot_every=2),
            5: Train(AffineSubspace.masked(setting.initial, mask), 0, 4),
        }
        answer = yield requests[setting.k]
        expected = [0, 2, 4] if setting.k == 4 else []
        assert len(answer.snapshots) == len(expected)
        return AffineSubspace(answer.weights, hashed)


def test_trainings_that_do_not_go_together_are_apart_and_all_are_answered(packs: list[tuple[int, Span]]) -> None:
    method = TwoPaths()
    items = prepare_pack(PROBLEM, TASK, method, trials(1, 2, 3, 4, 5, 3, 1))
    assert [item.failure for item in items] == [""] * 7
    assert sorted(size for size, _ in packs) == [1, 1, 1, 2, 2]
    for item in items:
        (alone,) = prepare_pack(PROBLEM, TASK, method, [item.trial])
        assert alone.subspace is not None
        assert item.subspace is not None
        torch.testing.assert_close(item.subspace.offset, alone.subspace.offset, rtol=1e-4, atol=1e-5)


class KeepsSnapshots(Method):
    """Puts its snapshots, one after the other, where they can be seen."""

    summary: ClassVar[str] = "a method of the tests"
    source: ClassVar[str] = "the tests"
    seen: ClassVar[list[tuple[torch.Tensor, ...]]] = []

    def prepare(self, setting: Setting) -> Preparation:
        answer = yield Train(AffineSubspace.full_space(setting.initial), start=3, stop=10, snapshot_every=4)
        self.seen.append((*answer.snapshots, answer.weights))
        return AffineSubspace.full_space(setting.initial)


def test_snapshots_hold_the_first_weights_those_of_every_so_many_steps_and_the_last() -> None:
    KeepsSnapshots.seen.clear()
    prepare_pack(PROBLEM, TASK, KeepsSnapshots(), trials(53, 53))
    for replicate, seen in enumerate(KeepsSnapshots.seen):
        metered = MeteredProblem(PROBLEM, [replicate], [Ledger()])
        initial = AffineSubspace.full_space(PROBLEM.initial(replicate))
        expected = [initial.start] + [
            train(metered, [initial], TASK.full_training, [0.1], Span(3, stop))[0] for stop in (4, 8, 10, 10)
        ]
        assert len(seen) == len(expected)
        for one, other in zip(seen, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_one_that_cannot_pay_for_the_next_training_leaves_the_others_training() -> None:
    task = make_task(BLOBS, {"preparation": {"gradient_evaluations": 24}})
    rich, poor, spare = prepare_pack(PROBLEM, task, choose("imp", rate=0.5), trials(30, 7, 14))
    assert "it asked for 36 gradient and full evaluations; the task allows 24 a trial" in poor.failure
    spent = poor.ledger.spent
    assert (spent.gradient_evaluations, spent.examples, spent.evaluations) == (24, 24 * 16, 0)
    assert 64 <= spent.labels <= 70  # six epochs of four batches
    assert rich.subspace is not None
    assert spare.subspace is not None
    assert spare.ledger.spent.gradient_evaluations == 24


def test_the_seed_of_a_trial_is_that_of_its_replicate_whatever_its_k() -> None:
    method = choose("random_subspace")
    small, large = prepare_pack(PROBLEM, TASK, method, [Trial(k=k, replicate=1, round=0) for k in (3, 9)])
    (other,) = prepare_pack(PROBLEM, TASK, method, [Trial(k=3, replicate=2, round=0)])
    renamed: Task = make_task(BLOBS, {"name": "other"})
    (elsewhere,) = prepare_pack(small_problem(renamed), renamed, method, [Trial(k=3, replicate=1, round=0)])
    assert small.seed == large.seed
    assert len({small.seed, other.seed, elsewhere.seed}) == 3


def test_full_training_takes_the_learning_rate_for_the_dimensions_it_trains() -> None:
    rate = {"value": 0.2, "reference_k": 2 * BLOBS_DIMENSION, "exponent": 1.0}
    task = make_task(BLOBS, {"full_training": {"learning_rate": rate}})
    (item,) = prepare_pack(PROBLEM, task, choose("burn_in_subspace", burn_in_steps=5), trials(3))
    full = AffineSubspace.full_space(PROBLEM.initial(0))
    (expected,) = train(MeteredProblem(PROBLEM, [0], [Ledger()]), [full], TASK.full_training, [0.1], Span(0, 5))
    assert item.subspace is not None
    torch.testing.assert_close(item.subspace.offset, expected)
