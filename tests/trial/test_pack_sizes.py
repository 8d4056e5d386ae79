"""A trial's result does not depend on the pack it ran in: on the CPU to the last bit."""

from __future__ import annotations

from functools import cache

import pytest

from lowdim_bench import problems
from lowdim_bench.methods import MethodChoice
from lowdim_bench.problems import Problem
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.settings import Settings
from lowdim_bench.specs import load_task
from lowdim_bench.trial import run_pack

TASK = load_task("digits-mlp")
TRIALS = [Trial(k=40 + 5 * r, replicate=r, round=0) for r in range(64)]  # from hopeless to easy, all k different


@cache
def digits() -> Problem:
    return problems.build(TASK, problems.load_arrays(TASK, Settings.resolve().data_root))


def in_packs_of(size: int, method: MethodChoice) -> list[TrialResult]:
    results = []
    for start in range(0, len(TRIALS), size):
        results += run_pack(digits(), TASK, method, TRIALS[start : start + size])
    return [result.model_copy(update={"seconds": 0.0, "cpu_seconds": None}) for result in results]


@pytest.mark.slow
def test_packs_of_1_7_and_64_give_the_same_bits() -> None:
    method = MethodChoice(name="random_subspace", parameters={})
    alone = in_packs_of(1, method)
    reached = sum(result.reached(TASK.ranked_target.name) for result in alone)
    assert 0 < reached < len(TRIALS)  # both decisions occur, so that one that flips would show
    assert in_packs_of(7, method) == alone
    assert in_packs_of(64, method) == alone
