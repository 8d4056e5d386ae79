"""Each claim decides planted numbers as it should: an effect as claimed, its opposite, and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pytest

from lowdim_bench import claims
from lowdim_bench.claims.base import Claim, Part
from lowdim_bench.claims.trainings import Trainings
from lowdim_bench.claims.verdicts import weakest

World = Literal["as claimed", "opposite", "noise"]
Plant = Callable[[Part, World, np.random.Generator], Mapping[str, Any]]


def trained(part: Part, accuracy: Callable[[int], float], reached: Callable[[int, str], bool]) -> Mapping[str, Any]:
    assert isinstance(part, Trainings)
    return {
        str(k): {
            "loss": 1.0,
            "accuracy": accuracy(k),
            "reached": {t.name: 5 if reached(k, t.name) else None for t in part.task.targets},
        }
        for k in part.ks
    }


def ranked(*order: str) -> Plant:
    """Parts from worst to best in accuracy; parts with the same first word rank alike."""

    def plant(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
        rank = next(place for place, names in enumerate(order) if part.name in names.split())
        if world == "noise":
            return trained(part, lambda k: rng.uniform(), lambda k, t: False)
        sign = 1 if world == "as claimed" else -1
        return trained(part, lambda k: 0.5 + sign * 0.1 * rank + rng.normal(0, 0.002), lambda k, t: False)

    return plant


def transition(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
    """Harder targets need one octave more each."""
    assert isinstance(part, Trainings)
    names = [target.name for target in part.task.targets]
    if world == "as claimed":
        return trained(part, lambda k: 0.5, lambda k, t: k >= 32 * 2 ** names.index(t))
    if world == "opposite":  # success as likely at every k, and harder targets at smaller k
        lucky = {name: rng.uniform() < 0.5 for name in names}
        return trained(part, lambda k: 0.5, lambda k, t: lucky[t] and k >= 512 // 2 ** names.index(t))
    first = {name: rng.choice(part.ks) for name in names}
    return trained(part, lambda k: 0.5, lambda k, t: k >= first[t])


def burnt_in(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
    first = {"random": 256, "burn-in-32": 64, "burn-in-128": 1}[part.name]
    if world == "opposite":
        first = {"random": 4, "burn-in-32": 64, "burn-in-128": 512}[part.name]
    if world == "noise":
        first = int(rng.choice([1, 512]))
    return trained(part, lambda k: 0.5, lambda k, t: k >= first)


def lottery(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
    if world == "noise":
        return trained(part, lambda k: rng.uniform(), lambda k, t: False)
    high, low = (0.9, 0.2) if world == "as claimed" else (0.2, 0.9)
    level = {"lottery": high}.get(part.name, low)
    falls = -0.1 if world == "as claimed" else 0.1
    return trained(part, lambda k: level + falls * (k >= 128) + rng.normal(0, 0.002), lambda k, t: False)


def theory(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
    exact = 100 + rng.normal(0, 0.5)
    formula = exact if part.name == "isotropic-0.01" else 2.5 * exact
    if world == "opposite":
        return {"simulated": exact, "equivalent": exact + 50, "formula": exact + 50}
    if world == "noise":
        return {"simulated": exact, "equivalent": exact + rng.normal(0, 100), "formula": formula}
    return {"simulated": exact, "equivalent": exact, "formula": formula}


def invariance(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
    moved = "same-target" in part.name
    if world == "opposite":
        moved = not moved and not part.name.endswith("plain")
    return {"simulated": 100 + 100 * moved + rng.normal(0, 300 if world == "noise" else 1)}


def stable(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
    if part.name == "pairs":
        high = {"as claimed": 0.001, "opposite": 0.3, "noise": float(rng.choice([0, 0.04]))}[world]
        return {"0": {"error_barrier": high + rng.uniform(0, 1e-4), "loss_barrier": high}}
    better = 0.1 * (world == "opposite" and part.name == "rewound")
    return trained(part, lambda k: 0.8 + better + rng.normal(0, 0.002 if world != "noise" else 0.1), lambda k, t: False)


def spawned(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
    barriers = {"as claimed": [1.0, 0.1, 0.01], "opposite": [0.01, 0.1, 1.0], "noise": rng.uniform(size=3)}[world]
    noisy = [float(barrier + rng.uniform(0, 0.001)) for barrier in barriers]
    return {step: {"loss_barrier": one} for step, one in zip(("0", "50", "200"), noisy, strict=True)}


def aligned(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
    width = {"width-8": 1.0, "width-32": 0.5, "width-128": 0.25}[part.name]
    if world == "noise":
        return {"raw": rng.uniform(), "aligned": rng.uniform()}
    raw = (width if world == "as claimed" else 1 / width) + rng.uniform(0, 0.001)
    return {"raw": raw, "aligned": raw * (0.1 if world == "as claimed" else 0.9)}


def straight(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
    monotone = (part.name == "sgd") == (world == "as claimed")
    return {"monotone": bool(rng.uniform() < 0.9) if world == "noise" and part.name == "sgd" else monotone}


def redrawn(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
    better = (part.name != "fixed") == (world == "as claimed")
    noise = rng.uniform() if world == "noise" else rng.normal(0, 0.01)
    return trained(part, lambda k: 0.5 + 0.2 * better + noise, lambda k, t: False)


def families(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
    if part.name.startswith("grid"):
        steps = int(part.name.split("-")[1])
        wrong = {"as claimed": steps, "opposite": 0, "noise": steps}[world]
        return {"images": {str(length): [200 * (length <= wrong), 200] for length in range(1, 26)}}
    if part.name.startswith(("all-rows", "sampled")):
        assert isinstance(part, Trainings)
        worse = part.name.startswith("sampled") * {"as claimed": 0.001, "opposite": 0.05, "noise": rng.normal()}[world]
        return {str(part.ks[0]): {"loss": 0.1 + worse + rng.normal(0, 1e-4), "accuracy": None, "reached": {}}}
    ends = {"as claimed": part.name == "norm", "opposite": part.name != "norm", "noise": rng.uniform() < 0.8}[world]
    return trained(part, lambda k: 0.5, lambda k, t: bool(ends))


PLANTS: dict[int, Plant] = {
    1: transition, 2: transition, 3: burnt_in, 4: lottery, 5: ranked("random", "ticket"), 6: theory, 7: invariance,
    8: ranked("random", "reinitialized", "ticket"), 9: stable, 10: spawned, 11: aligned, 12: straight,
    14: redrawn, 15: families,
}  # fmt: skip


def initial_masks(part: Part, world: World, rng: np.random.Generator) -> Mapping[str, Any]:
    order = ("layerwise_random_mask", "initial_magnitude_mask erk_mask", "grasp_mask snip_mask", "synflow_mask")
    planted = dict(ranked(*order)(part, world, rng))
    if world == "as claimed":  # alike at mild sparsity
        assert isinstance(part, Trainings)
        planted[str(part.ks[1])] = planted[str(part.ks[1])] | {"accuracy": 0.9 + rng.normal(0, 0.002)}
    return planted


PLANTS[13] = initial_masks


def decide(claim: Claim, world: World) -> str:
    rng = np.random.default_rng(1)
    plant = PLANTS[claim.number]
    return weakest(claim.checks({p.name: [plant(p, world, rng) for _ in p.seeds] for p in claim.parts()})).verdict


def test_every_claim_is_planted() -> None:
    assert set(PLANTS) == set(claims.CLAIMS)


@pytest.mark.parametrize("number", claims.CLAIMS)
def test_what_is_as_claimed_is_reproduced(number: int) -> None:
    assert decide(claims.claim(number, "cpu"), "as claimed") == "reproduced"


@pytest.mark.parametrize("number", claims.CLAIMS)
def test_the_opposite_is_contradicted(number: int) -> None:
    assert decide(claims.claim(number, "cpu"), "opposite") == "contradicted"


@pytest.mark.parametrize("number", claims.CLAIMS)
def test_noise_reproduces_nothing_and_little_of_it_leaves_much_open(number: int) -> None:
    assert decide(claims.claim(number, "cpu"), "noise") != "reproduced"
    claim, rng = claims.claim(number, "cpu").model_copy(update={"replicates": 2}), np.random.default_rng(2)
    found = {part.name: [PLANTS[number](part, "noise", rng) for _ in part.seeds] for part in claim.parts()}
    assert any(check.verdict == "undecided" for check in claim.checks(found))


def test_the_octave_of_a_transition_is_chosen_on_other_seeds_than_it_is_judged_on() -> None:
    """Where half of the seeds rise at 64 and the others at 128, the first half's octave is no evidence for the second."""
    claim = claims.claim(1, "cpu")
    (part,) = claim.parts()
    half = part.replicates // 2
    found = [trained(part, lambda k: 0.5, lambda k, t, first=first: k >= first) for first in [64] * half + [256] * half]
    assert weakest(claim.checks({part.name: found})).verdict == "contradicted"
    assert weakest(claim.checks({part.name: found[:half] * 2})).verdict == "reproduced"
