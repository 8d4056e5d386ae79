"""Whatever no number of a method reaches keeps its bits at every step: what is pruned is zero, what is frozen at its base."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lowdim_bench.engine import Span, train
from lowdim_bench.methods import METHODS, MethodChoice
from lowdim_bench.parametrizations import AffineSubspace, Coordinates, MovingMask, Pack, Parametrization
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import Ledger, MeteredProblem, Problem
from lowdim_bench.records import Trial
from lowdim_bench.specs import Recipe
from tests.methods.subjects import PROBLEMS, TASKS, tasks_of
from tests.problems.small import OPTIMIZERS

QUICK: dict[str, dict[str, Any]] = {
    "burn_in_subspace": {"burn_in_steps": 2},
    "data_diet_imp": {"pretrain_steps": 3, "score_steps": 2, "score_runs": 1, "rate": 0.6},
    "imp": {"rate": 0.6, "rewind_step": 2},
    "landscape_imp": {"least_rate": 0.6},
    "lottery_subspace": {"increments": 46, "stride": 1},
    "rigl_mask": {"updates": 2},
    "set_mask": {"updates": 2},
}
"""Parameters with which a method prepares sooner than with its defaults."""
CASES = [(name, QUICK.get(name, {})) for name in METHODS] + [
    *(
        (name, {"scope": "weights"})
        for name in ("erk_mask", "grasp_mask", "initial_magnitude_mask", "one_shot_magnitude")
    ),
    *((name, {"scope": "weights"}) for name in ("layerwise_random_mask", "random_mask", "snip_mask", "synflow_mask")),
    *(("imp", {"rate": 0.6, "control": control}) for control in ("reinitialized", "shuffled")),
    ("imp", {"rate": 0.6, "scope": "weights"}),
    ("data_diet_imp", QUICK["data_diet_imp"] | {"subset": "random", "size": 9, "scope": "weights"}),
    ("data_diet_imp", QUICK["data_diet_imp"] | {"subset": "all"}),
    ("edge_popup", {"density": 0.8}),
    ("rigl_in_loop", {"active": 0.2, "updates": 3}),
    ("set_in_loop", {"active": 0.9, "share": 0.6}),
]
ZEROED = {
    "cp_als", "cp_leverage", "cp_uniform", "data_diet_imp", "erk_mask", "grasp_mask", "imp", "initial_magnitude_mask",
    "landscape_imp", "layerwise_random_mask", "one_shot_magnitude", "random_mask", "rigl_mask", "set_mask", "snip_mask",
    "synflow_mask", "width",
}  # fmt: skip
"""What these do not train is zero."""
FROZEN = {"bias_only", "fish_mask", "last_layer_only", "normalization_only"}
"""What these do not train is as it was initialized."""
CHOSEN = {"edge_popup"}
"""Some of it is zero, and some as initialized."""
MOVING = {"rigl_in_loop", "set_in_loop"}
BESIDE = {"lora", "nola", "vera"}
"""These add to weight matrices, and leave biases as they were initialized."""


@cache
def prepared(case: int, k: int, replicate: int) -> Parametrization:
    name, parameters = CASES[case]
    method, task = MethodChoice(name=name, parameters=parameters).build(), tasks_of(name)[0]
    low, high = method.k_range(PROBLEMS[task].blocks)
    trial = Trial(k=min(max(k, low), high), replicate=replicate, round=0)
    (item,) = prepare_pack(PROBLEMS[task], TASKS[task], method, [trial])
    assert item.subspace is not None, item.failure
    return item.subspace


def is_mask(one: Parametrization) -> bool:
    return isinstance(one.operator, Coordinates | MovingMask)


def outside(mask: Coordinates) -> Tensor:
    """(D,) bool: the coordinates that a mask leaves alone."""
    return torch.ones(mask.full_dimension, dtype=torch.bool).index_fill_(0, mask.indices, value=False)


def out_of_reach(one: Parametrization) -> Tensor:
    """(D,) bool: the weights that are the same wherever theta is."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.stack([one.map(torch.randn(one.k, generator=generator)) for _ in range(3)])
    found = (weights == weights[0]).all(dim=0)
    if isinstance(one.operator, Coordinates):
        assert torch.equal(found, outside(one.operator))
    return found


def biases(problem: Problem) -> Tensor:
    """(D,) bool."""
    return torch.cat([torch.full((block.stop - block.start,), block.role == "bias") for block in problem.blocks])


def bits(weights: Tensor) -> Tensor:
    """Minus zero is another number than zero."""
    return weights.view(torch.int32)


class Unmoved:
    """Looks at every step whether every weight out of reach has the bits that it began with; if a mask moves, every weight
    that it never opened."""

    every = 1

    def __init__(self, began: Sequence[Parametrization]) -> None:
        self.began, self.looks = list(began), 0
        self.bases = [bits(one.offset if is_mask(one) else one.map(one.start)) for one in began]
        self.still = [out_of_reach(one) for one in began]

    def __call__(self, step: int, rows: Sequence[int], theta: Tensor, pack: Pack) -> list[bool]:
        stand = pack.stands([self.began[row] for row in rows], theta)
        for row, weights, standing in zip(rows, pack.map(theta), stand, strict=True):
            fixed, still = standing.parametrization.operator, self.still[row]
            if isinstance(self.began[row].operator, MovingMask):
                assert isinstance(fixed, Coordinates)
                still = outside(fixed)
            assert torch.equal(bits(weights)[still], self.bases[row][still])
        self.looks += 1
        return [True] * len(rows)


@pytest.mark.parametrize("case", range(len(CASES)), ids=[MethodChoice(name=n, parameters=p).label for n, p in CASES])
@settings(max_examples=8)
@given(
    ks=st.lists(st.sampled_from([1, 3, 8, 20, 44]), min_size=1, max_size=3),
    optimizer=st.sampled_from(OPTIMIZERS),
    replicate=st.integers(0, 1),
)
def test_weights_out_of_reach_never_move(case: int, ks: list[int], optimizer: dict[str, Any], replicate: int) -> None:
    task = tasks_of(CASES[case][0])[0]
    began = [prepared(case, k, replicate) for k in ks]
    data = TASKS[task].full_training.model_dump(mode="json")
    if task != "tensor":  # whose factors are solved for, and not descended to
        data["optimizer"] = optimizer
    observer = Unmoved(began)
    if CASES[case][0] in BESIDE:
        assert all(bool(still[biases(PROBLEMS[task])].all()) for still in observer.still)
    metered = MeteredProblem(PROBLEMS[task], [replicate] * len(ks), [Ledger() for _ in ks])
    thetas = train(metered, began, Recipe.from_data(data, "a recipe"), [0.1] * len(ks), Span(0, 6), observer)
    assert observer.looks >= 6
    # A mask of few weights may cut every path through the network; a larger one moves.
    moved = [not torch.equal(theta, one.start) for theta, one in zip(thetas, began, strict=True)]
    large = [one.k >= 20 and not isinstance(one.operator, MovingMask) for one in began]
    assert all(did for did, should in zip(moved, large, strict=True) if should)


def test_every_method_that_makes_a_mask_is_known_for_what_it_leaves_at_zero_and_what_as_initialized() -> None:
    masks = set()
    for case, (name, _) in enumerate(CASES):
        one, problem = prepared(case, 20, 1), PROBLEMS[tasks_of(name)[0]]
        initial, still = problem.initial(1), out_of_reach(one)
        if is_mask(one):
            masks.add(name)
            assert isinstance(one, AffineSubspace)
        if name in ZEROED | MOVING:
            assert not bits(one.offset).any()
        if name in FROZEN:
            assert torch.equal(bits(one.offset)[still], bits(initial)[still])
        if name in CHOSEN:
            chosen = torch.where(one.offset == 0, 0.0, initial)
            assert torch.equal(bits(one.offset), bits(chosen))
        if name in BESIDE:
            assert torch.equal(bits(one.map(one.start))[biases(problem)], bits(initial)[biases(problem)])
    assert masks >= ZEROED | FROZEN | CHOSEN | MOVING
