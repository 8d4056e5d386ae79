"""That each clause of the contract finds the methods that break it."""

from __future__ import annotations

import re
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from lowdim_bench.contract import CLAUSES, Subject, check
from lowdim_bench.methods import Method, Preparation, Setting, Train
from lowdim_bench.parametrizations import AffineSubspace, Coordinates, DenseBasis
from tests.problems.small import BLOBS, make_task, small_problem

TASK = make_task(BLOBS)
PROBLEM = small_problem(TASK)


def basis(setting: Setting, k: int, seed: int) -> Tensor:
    return torch.randn(k, setting.full_dimension, generator=torch.Generator().manual_seed(seed))


class Sound(Method):
    summary: ClassVar[str] = "a dense random basis whose directions at k are the first of those at any larger k"
    source: ClassVar[str] = "this test"

    def nested(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> AffineSubspace | Preparation:
        columns = basis(setting, setting.full_dimension, setting.seed)[: setting.k]
        return AffineSubspace(setting.initial, DenseBasis(columns))


class EmptyRange(Sound):
    def k_range(self, blocks: object) -> tuple[int, int]:
        return 5, 4


class Raises(Sound):
    def prepare(self, setting: Setting) -> AffineSubspace:
        raise ValueError("not today")


class Overspends(Sound):
    def prepare(self, setting: Setting) -> Preparation:
        yield Train(AffineSubspace.full_space(setting.initial), start=0, stop=1001)
        return AffineSubspace.full_space(setting.initial)


class IgnoresK(Sound):
    def prepare(self, setting: Setting) -> AffineSubspace:
        return AffineSubspace.full_space(setting.initial)


class Unseeded(Sound):
    calls: ClassVar[list[int]] = []

    def prepare(self, setting: Setting) -> AffineSubspace:
        self.calls.append(0)
        return AffineSubspace(setting.initial, DenseBasis(basis(setting, setting.k, len(self.calls))))


class SameForAll(Sound):
    def prepare(self, setting: Setting) -> AffineSubspace:
        return AffineSubspace(torch.zeros_like(setting.initial), Coordinates(torch.arange(setting.k), 53))


class LooksBeside(Sound):
    """Prepares something else for who comes second."""

    seen: ClassVar[list[int]] = []

    def prepare(self, setting: Setting) -> AffineSubspace:
        self.seen.append(setting.seed)
        moved = len(self.seen) > 1 and self.seen[-2] != setting.seed
        columns = basis(setting, setting.full_dimension, setting.seed)[: setting.k]
        return AffineSubspace(setting.initial + float(moved), DenseBasis(columns))


class NotNested(Sound):
    def prepare(self, setting: Setting) -> AffineSubspace:
        return AffineSubspace(setting.initial, DenseBasis(basis(setting, setting.k, setting.seed + setting.k)))


class SeedsTorch(Sound):
    def prepare(self, setting: Setting) -> AffineSubspace:
        torch.manual_seed(setting.seed)
        return AffineSubspace(setting.initial, DenseBasis(torch.randn(setting.k, setting.full_dimension)))

    def nested(self) -> bool:
        return False


def broken(kind: type[Method]) -> dict[str, tuple[str, str]]:
    """What is found, and advised, by the clauses that do not hold."""
    findings = check(Subject(kind(), TASK, PROBLEM))
    return {one.check: (one.found, one.advice) for one in findings if not one.passed}


def test_a_sound_method_keeps_all_of_it() -> None:
    assert broken(Sound) == {}


@pytest.mark.parametrize(
    ("kind", "clause", "found"),
    [
        (EmptyRange, "k range", r"k_range\(\) is 5 to 4 for D = 53"),
        (Raises, "preparation", "ValueError: not today"),
        (Overspends, "preparation", "the task allows 1000 a trial"),
        (IgnoresK, "exactly k", "allows k = 1 numbers, but the method prepared 53"),
        (Unseeded, "equal seeds", r"two preparations of the same trial \(k = 7\) differ"),
        (SameForAll, "equal seeds", "two replicates .* were given the same subspace"),
        (LooksBeside, "packs", "beside another trial it prepares another offset than alone"),
        (NotNested, "nested", "the subspace of k = 1 reaches .* outside that of k = 7"),
        (SeedsTorch, "process", "preparation changed torch's random state"),
    ],
)
def test_what_breaks_a_clause_is_found_with_what_to_do(
    kind: type[Method], clause: str, found: str, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(torch.set_rng_state, torch.get_rng_state()))
    for kept in ("calls", "seen"):
        getattr(kind, kept, []).clear()
    findings = broken(kind)
    assert clause in findings
    assert re.search(found, findings[clause][0]), findings
    assert findings[clause][1].endswith(".")


def test_every_clause_can_fail() -> None:
    kinds = (EmptyRange, Raises, IgnoresK, Unseeded, LooksBeside, NotNested, SeedsTorch)
    state = torch.get_rng_state()
    found = {clause for kind in kinds for clause in broken(kind)}
    torch.set_rng_state(state)
    assert found == set(CLAUSES)
