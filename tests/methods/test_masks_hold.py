"""Whatever prepares a mask: what it prunes stays exactly zero, and what it freezes exactly where it was, at every step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lowdim_bench import problems
from lowdim_bench.engine import Span, train
from lowdim_bench.methods import METHODS, MethodChoice
from lowdim_bench.parametrizations import AffineSubspace, Coordinates, Pack
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import Ledger, MeteredProblem
from lowdim_bench.records import Trial
from lowdim_bench.specs import Recipe
from tests.problems.small import BLOBS, make_task, small_images, small_problem

TASK = make_task(BLOBS)
IMAGE_TASK = make_task(
    BLOBS,
    {"problem": {"network": {"kind": "resnet", "blocks_per_group": 1, "widths": [2, 2, 2], "norm_groups": 2}}},
)
PROBLEM = small_problem(TASK)
IMAGE_PROBLEM = problems.build(IMAGE_TASK, small_images())
ZEROED: dict[str, dict[str, Any]] = {
    "data_diet_imp": {"pretrain_steps": 3, "score_steps": 2, "score_runs": 1, "rate": 0.6},
    "erk_mask": {},
    "grasp_mask": {},
    "imp": {"rate": 0.6, "rewind_step": 2},
    "initial_magnitude_mask": {},
    "landscape_imp": {"least_rate": 0.6},
    "layerwise_random_mask": {},
    "one_shot_magnitude": {},
    "random_mask": {},
    "rigl_mask": {"updates": 2},
    "set_mask": {"updates": 2},
    "snip_mask": {},
    "synflow_mask": {},
    "width": {},
}
FROZEN: dict[str, dict[str, Any]] = {"bias_only": {}, "fish_mask": {}, "last_layer_only": {}, "normalization_only": {}}
CHOSEN: dict[str, dict[str, Any]] = {"edge_popup": {}}
"""Some are zeroed, and some frozen."""
OPTIMIZERS = [
    {"kind": "adam"},
    {"kind": "sgd", "momentum": 0.9},
    {"kind": "sgd", "momentum": 0.9, "nesterov": True},
    {"kind": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    {"kind": "adam", "weight_decay": 0.1},
]


@cache
def subspace(name: str, k: int, replicate: int) -> AffineSubspace:
    method = MethodChoice(name=name, parameters=ZEROED.get(name) or FROZEN.get(name) or {}).build()
    problem, task = (IMAGE_PROBLEM, IMAGE_TASK) if name == "normalization_only" else (PROBLEM, TASK)
    low, high = method.k_range(problem.blocks)
    trial = Trial(k=min(max(k, low), high), replicate=replicate, round=0)
    (item,) = prepare_pack(problem, task, method, [trial])
    assert isinstance(item.subspace, AffineSubspace), item.failure
    return item.subspace


class Unmoved:
    """Looks at every step whether every coordinate outside the mask has the bits that it began with."""

    every = 1

    def __init__(self, masks: Sequence[Tensor], bases: Sequence[Tensor]) -> None:
        self.masks, self.bases, self.looks = masks, bases, 0

    def __call__(self, step: int, rows: Sequence[int], theta: Tensor, pack: Pack) -> list[bool]:
        for row, weights in zip(rows, pack.map(theta), strict=True):
            outside = ~self.masks[row]
            assert torch.equal(weights[outside].view(torch.int32), self.bases[row][outside].view(torch.int32))
        self.looks += 1
        return [True] * len(rows)


def test_every_method_that_makes_a_mask_is_looked_at() -> None:
    found = set()
    for name in METHODS:
        if name in {"hashed_nets", "dense"}:
            continue
        method = MethodChoice(name=name).build()
        if name in {*ZEROED, *FROZEN, *CHOSEN}:
            found.add(name)
        else:
            assert "kept" not in type(method).freedom, f"{name} says that it keeps weights, and is not looked at"
    assert found == {*ZEROED, *FROZEN, *CHOSEN}


@pytest.mark.parametrize("name", [*ZEROED, *FROZEN, *CHOSEN])
@settings(max_examples=12)
@given(
    ks=st.lists(st.sampled_from([1, 3, 8, 20, 44]), min_size=1, max_size=3),
    optimizer=st.sampled_from(OPTIMIZERS),
    replicate=st.integers(0, 1),
)
def test_coordinates_outside_a_mask_never_move(
    name: str, ks: list[int], optimizer: dict[str, Any], replicate: int
) -> None:
    problem = IMAGE_PROBLEM if name == "normalization_only" else PROBLEM
    subspaces = [subspace(name, k, replicate) for k in ks]
    masks, bases = [], []
    for one in subspaces:
        assert isinstance(one.operator, Coordinates)
        masks.append(torch.zeros(problem.full_dimension, dtype=torch.bool).index_fill(0, one.operator.indices, True))
        untouched = one.offset if name in CHOSEN else problem.initial(replicate)
        bases.append(torch.zeros(problem.full_dimension) if name in ZEROED else untouched)
    recipe = Recipe.from_data({**TASK.full_training.model_dump(mode="json"), "optimizer": optimizer}, "a recipe")
    observer = Unmoved(masks, bases)
    rows = [replicate] * len(ks)
    metered = MeteredProblem(problem, rows, [Ledger() for _ in rows])
    thetas = train(metered, subspaces, recipe, [0.1] * len(ks), Span(0, 6), observer)
    assert observer.looks >= 6
    moved = [not torch.equal(theta, one.start) for theta, one in zip(thetas, subspaces, strict=True)]
    # A mask of one or two weights may cut every path through the network; a larger one moves.
    assert all(did for did, one in zip(moved, subspaces, strict=True) if one.k >= 20)
