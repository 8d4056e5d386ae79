"""The table of claims; each measurement on a case that is known; every claim at a miniature of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lowdim_bench import claims, problems
from lowdim_bench.claims.base import FIRST_REPLICATE, Part
from lowdim_bench.claims.cost import training
from lowdim_bench.claims.geometry import AlignedPairs, SpawnedPairs, StraightLines, WellThresholds
from lowdim_bench.claims.tasks import well, with_network, with_targets
from lowdim_bench.claims.trainings import Trainings
from lowdim_bench.claims.work import jobs
from lowdim_bench.errors import UserError
from lowdim_bench.landscape.paths import linear_path
from lowdim_bench.specs import Task, load_task

MINIATURES: dict[int, dict[str, Any]] = {
    1: {"ks": (16, 32), "replicates": 4},
    2: {"ks": (16, 32), "replicates": 2},
    3: {"ks": (4, 8), "burn_in_steps": (2, 4), "replicates": 2},
    4: {"few": (2,), "best": 2, "falls_at": 3, "lottery": "lottery_subspace,increments=4", "replicates": 2},
    5: {"ks": (48,), "replicates": 2},
    6: {"dimension": 40, "draws": 2, "replicates": 2},
    7: {"dimension": 40, "draws": 2, "replicates": 2},
    8: {"ks": (1205,), "rate": 0.5, "replicates": 2},
    9: {"ks": (1446,), "replicates": 2},
    10: {"hidden": (4, 4), "replicates": 2},
    11: {"widths": ((4,), (8,)), "replicates": 2},
    12: {"hidden": (4,), "replicates": 2},
    13: {"hidden": (8,), "steps": 20, "ks": (30, 60), "replicates": 2},
    14: {"directions": (2,), "learning_rates": (3.0,), "steps": 50, "replicates": 2},
    15: {
        "grid_steps": (2,), "longest_path": 4, "side": 6, "images": 40, "hidden": 10, "steps": 250, "replicates": 2,
        "tensor": (6, 5, 4), "rank": 2, "samples": 8, "decompositions": 2,
    },
}  # fmt: skip


def measured(part: Part) -> list[Any]:
    """Of all replicates, through JSON as in a run."""
    problem = problems.build(part.task, problems.load_arrays(part.task, Path()))
    return json.loads(json.dumps(part.measure(problem, part.seeds), allow_nan=False))


@pytest.mark.parametrize("number", claims.CLAIMS)
def test_a_miniature_of_every_claim_is_measured_and_decided(number: int) -> None:
    assert set(MINIATURES) == set(claims.CLAIMS)
    claim = claims.claim_class(number)(**MINIATURES[number])
    parts = claim.parts()
    assert len({part.name for part in parts}) == len(parts)
    found = {part.name: measured(part) for part in parts}
    checks = claim.checks(found)
    assert checks
    for check in checks:
        assert check.n >= 2
        assert check.above is not None or check.below is not None
        assert check.low is None or (check.high is not None and check.low <= check.estimate <= check.high)


@pytest.mark.parametrize("number", claims.CLAIMS)
def test_what_a_claim_says_of_itself(number: int) -> None:
    claim = claims.claim(number, "cpu")
    assert claim.number == number
    assert all(text for text in (claim.statement, claim.source, claim.expected, claim.provenance))
    assert any(char.isdigit() for char in claim.source), "a source has a year"
    full = claims.claim(number, "full")
    assert full.digest != claim.digest
    assert {part.name for part in full.parts()}
    assert claims.choose([claim.name], "cpu") == claims.choose([str(number)], "cpu") == [claim]


def test_a_digest_names_what_decides_the_numbers() -> None:
    claim = claims.claim(5, "cpu")
    assert claim.digest == claims.claim(5, "cpu").digest
    changes: list[dict[str, Any]] = [{"ks": (48, 96)}, {"replicates": 25}, {"task": "digits-mlp-open"}]
    digests = {claim.model_copy(update=change).digest for change in changes}
    assert len(digests | {claim.digest}) == 4


def test_claims_one_and_two_share_their_trainings() -> None:
    (one,), (two,) = (claims.claim(number, "cpu").parts() for number in (1, 2))
    assert one.digest == two.digest


@pytest.mark.parametrize("asked", ["0", "16", "-1", "1.0", "imp", "../1", "all "])
def test_names_that_are_none_are_refused(asked: str) -> None:
    with pytest.raises(UserError, match=r"Unknown claim .* Known: 1 \(phase-transition\)"):
        claims.choose([asked], "cpu")


def test_claims_come_once_and_in_order() -> None:
    assert [one.number for one in claims.choose(["8", "1", "phase-transition"], "cpu")] == [1, 8]
    assert [one.number for one in claims.choose(["all"], "full")] == list(claims.CLAIMS)


def test_replicates_are_dealt_out_once() -> None:
    part = claims.claim(1, "cpu").parts()[0]
    dealt = [trial.replicate for job in jobs(part, list(part.seeds)) for trial in job.trials]
    assert dealt == list(range(FIRST_REPLICATE, FIRST_REPLICATE + part.replicates))
    assert len({job.data_key for job in jobs(part, dealt)}) == 1


# Measurements.


@pytest.fixture(scope="module")
def small() -> Task:
    return with_network(load_task("digits-mlp"), (4,), steps=20)


def build(task: Task) -> problems.Problem:
    return problems.build(task, problems.load_arrays(task, Path()))


@pytest.mark.parametrize("kind", ["trainings", "spawned", "aligned", "lines"])
def test_what_a_replicate_gives_does_not_depend_on_its_neighbours(small: Task, kind: str) -> None:
    parts: dict[str, Part] = {
        "trainings": Trainings(name="a", task=with_targets(small), method="imp,rate=0.5", ks=(50, 20), replicates=4),
        "spawned": SpawnedPairs(name="a", task=small, spawn_steps=(0, 10), replicates=4),
        "aligned": AlignedPairs(name="a", task=small, replicates=4),
        "lines": StraightLines(name="a", task=small, replicates=4),
    }
    problem, part = build(small), parts[kind]
    together = part.measure(problem, [7, 8, 9])
    assert list(together) == [part.measure(problem, [one])[0] for one in (7, 8, 9)]
    assert together[0] != together[1]


def test_pairs_that_part_at_the_end_have_no_barrier_and_those_that_part_before_have() -> None:
    """Three layers, and Adam at a large learning rate."""
    rough = {"optimizer": {"kind": "adam"}, "learning_rate": {"value": 0.03}}
    task = with_network(load_task("digits-mlp"), (16, 16, 16), steps=60, **rough)
    (found,) = SpawnedPairs(name="a", task=task, spawn_steps=(0, 60), replicates=1).measure(build(task), [3])
    assert found["60"] == pytest.approx({"loss_barrier": 0.0, "error_barrier": 0.0}, abs=1e-6)
    assert found["0"]["loss_barrier"] > 0.01


def test_two_copies_of_a_network_with_permuted_neurons_have_no_barrier_once_aligned(small: Task) -> None:
    from lowdim_bench.landscape import align
    from lowdim_bench.landscape.symmetry import permute

    problem = build(small)
    one = problem.initial(5)
    other = permute(problem, one, 0, torch.tensor([2, 0, 3, 1]).numpy())
    assert linear_path(problem, one, align(problem, one, other)[0]).loss_barrier == pytest.approx(0, abs=1e-6)


def test_wells_sharper_or_further_away_are_the_same_where_the_draws_are() -> None:
    spectrum = {"kind": "power", "exponent": 1.0}
    (plain,) = measured(WellThresholds(name="a", task=well("a", 40, spectrum, 0.1), replicates=1))
    far = well("a", 40, spectrum, 10.0, radius=10.0)
    sharp = WellThresholds(name="a", task=well("a", 40, spectrum, 1.0), replicates=1, sharpness=10.0)
    assert measured(WellThresholds(name="a", task=far, replicates=1))[0] == pytest.approx(plain, rel=1e-4)
    assert measured(sharp)[0] == pytest.approx(plain, rel=1e-4)
    assert abs(plain["simulated"] - plain["equivalent"]) <= 3


# Costs.


def test_costs_are_counted_as_the_methods_ask() -> None:
    task = with_targets(load_task("digits-mlp"))
    forward = 2 * (64 * 32 + 32 * 10)
    assert training(task, "random_subspace", 8).steps == 500
    scored = forward * (3 * 64 * 500 + 1437 * 20)
    assert training(task, "random_subspace", 8).operations == scored
    assert training(task, "burn_in_subspace,burn_in_steps=64", 8).steps == 564
    assert training(task, "lottery_subspace", 8).steps == 500 + 512
    imp = training(task, "imp", 241)  # 0.8 ** 10.3 is a tenth: 11 rounds, and what is scored
    assert (imp.trainings, imp.steps) == (12, 12 * 500)
    assert imp.operations == 11 * forward * 3 * 64 * 500 + scored
