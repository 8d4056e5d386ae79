"""The audit measures: what a method says of itself, its k, its seed, its kind, moves nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lowdim_bench import audit
from lowdim_bench.errors import AuditFailure, MethodFailure
from lowdim_bench.parametrizations import (
    RANDOM_OPERATORS,
    AffineSubspace,
    Coordinates,
    DenseBasis,
    FullSpace,
    Operator,
    SignedHash,
    SubsampledHadamard,
    operators,
)
from lowdim_bench.problems import Block, Origin
from lowdim_bench.records import Audit, Spending

CPU = torch.device("cpu")
D = 40
SEED = 77
INITIAL = torch.randn(D, generator=torch.Generator().manual_seed(1))
INITIAL[::8] = 0.0  # biases start at zero
ZERO = torch.zeros(D)


def origin(initial: Tensor) -> Origin:
    """Of a network that is one layer."""
    size = len(initial)
    return Origin((Block("w", "weight", (size,), 0, size),), initial, SEED, torch.abs)


ORIGIN = origin(INITIAL)
NONE = Spending()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def measure(
    operator: Operator,
    k: int | None = None,
    offset: Tensor = INITIAL,
    spent: Spending = NONE,
    start: Tensor | None = None,
) -> Audit:
    subspace = AffineSubspace(offset, operator) if start is None else AffineSubspace(offset, operator, start)
    return audit.measure(subspace, operator.k if k is None else k, ORIGIN, spent)


def bits(operator: Operator, offset: Tensor = INITIAL) -> float:
    return measure(operator, offset=offset).side_information_bits


def hashed(k: int = 5, seed: int = SEED) -> SignedHash:
    return SignedHash(k, D, seed, CPU)


def drawn(kind: str, k: int = 5, seed: int = SEED) -> Operator:
    return RANDOM_OPERATORS[kind](k, D, seed, CPU)


@pytest.mark.parametrize("kind", RANDOM_OPERATORS)
@pytest.mark.parametrize("k", [1, 5, D])
def test_a_subspace_of_the_trials_seed_through_initial_weights_is_free(kind: str, k: int) -> None:
    measured = measure(drawn(kind, k))
    assert measured.affine
    assert measured.measured_k == (k if kind != "hadamard" or k < D else measured.measured_k)
    assert measured.rank_evidence == "exact"
    assert measured.side_information_bits == 0
    assert measured.track == "cold"


# How many dimensions


@pytest.mark.parametrize("k", [1, 5, D - 1])
def test_a_method_that_trains_everything_is_found_out_whatever_k_it_claims(k: int) -> None:
    full = AffineSubspace.full_space(INITIAL)
    with pytest.raises(AuditFailure, match=f"the trial allows k = {k} numbers, but the method prepared {D}"):
        audit.measure(full, k, ORIGIN, NONE)
    claiming = FullSpace(D)
    claiming.k = k
    with pytest.raises(AuditFailure, match=r"cannot be evaluated|has rank 40, more than|ends in"):
        audit.measure(AffineSubspace(ZERO, claiming), k, ORIGIN, NONE)


@pytest.mark.parametrize("prepared", [4, 6])
def test_too_many_and_too_few_numbers_are_refused(prepared: int) -> None:
    with pytest.raises(AuditFailure, match=f"the trial allows k = 5 numbers, but the method prepared {prepared}"):
        measure(hashed(prepared), k=5)


def test_a_map_that_claims_fewer_numbers_than_it_has_is_refused() -> None:
    for operator in (drawn("gaussian", 9), hashed(9), drawn("hadamard", 9)):
        operator.k = 5
        with pytest.raises(AuditFailure):
            measure(operator, k=5)


def test_a_k_changed_after_the_fact_is_refused() -> None:
    subspace = AffineSubspace(INITIAL, hashed(5))
    subspace.operator.k = 4
    for k in (4, 5):
        with pytest.raises(AuditFailure, match=f"the trial allows k = {k} numbers"):
            audit.measure(subspace, k, ORIGIN, NONE)


def test_a_rank_above_k_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SignedHash, "rank", lambda self: 6)
    with pytest.raises(AuditFailure, match="the map has rank 6, more than the trial's k = 5"):
        measure(hashed(5))


def test_the_rank_is_measured_where_columns_depend_on_each_other() -> None:
    columns = torch.randn(5, D, generator=torch.Generator().manual_seed(0))
    assert measure(DenseBasis(columns.clone())).measured_k == 5
    columns[3] = columns[0] - 2 * columns[1]
    assert measure(DenseBasis(columns.clone())).measured_k == 4
    columns[1:] = columns[0]
    assert measure(DenseBasis(columns)).measured_k == 1


def test_dependent_columns_are_found_also_where_only_a_sample_is_looked_at() -> None:
    wide, initial = 500, torch.zeros(500)
    factors = normal(300, 200), normal(200, wide, seed=1)
    low = AffineSubspace(initial, DenseBasis(factors[0] @ factors[1]))
    with pytest.raises(AuditFailure, match="columns of the basis depend on each other"):
        audit.measure(low, 300, origin(initial), NONE)
    for kind in ("gaussian", "hadamard"):
        subspace = AffineSubspace(initial, RANDOM_OPERATORS[kind](300, wide, SEED, CPU))
        measured = audit.measure(subspace, 300, origin(initial), NONE)
        assert (measured.measured_k, measured.rank_evidence) == (300, "sampled")
    measured = audit.measure(AffineSubspace(initial, SignedHash(300, wide, SEED, CPU)), 300, origin(initial), NONE)
    assert (measured.measured_k, measured.rank_evidence) == (300, "exact")


def test_a_network_of_another_size_is_refused() -> None:
    foreign = AffineSubspace(torch.zeros(D + 1), SignedHash(5, D + 1, SEED, CPU))
    with pytest.raises(AuditFailure, match="the map ends in 41 parameters; the network has 40"):
        audit.measure(foreign, 5, ORIGIN, NONE)


# What kind of map


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_wherever_they_are(value: float) -> None:
    offset, start, columns = INITIAL.clone(), torch.zeros(5), normal(5, D)
    offset[3], start[2], columns[1, 1] = value, value, value
    for subspace in (
        AffineSubspace(offset, hashed()),
        AffineSubspace(INITIAL, hashed(), start),
        AffineSubspace(INITIAL, DenseBasis(columns)),
    ):
        with pytest.raises(AuditFailure, match="not finite"):
            audit.measure(subspace, 5, ORIGIN, NONE)


def replaced(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The maps of one entry a row, with theta and what they made of it put through a change."""
    original = operators.PackedHash.forward

    def forward(self: operators.PackedHash, theta: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        return offset + change(theta, original(self, theta.clone()))

    monkeypatch.setattr(operators.PackedHash, "forward", forward)


def test_a_map_with_a_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    replaced(monkeypatch, lambda theta, weights: weights + len(calls) * 1e-3 * (calls.append(1) is None))
    with pytest.raises(AuditFailure, match="not pure"):
        measure(hashed())


@pytest.mark.parametrize(
    "change",
    [
        lambda theta, weights: weights**2,
        lambda theta, weights: weights.relu(),
        lambda theta, weights: weights * (1 + 0.01 * theta.norm()),
        lambda theta, weights: weights + 0.01 * theta.abs().sum(),
        lambda theta, weights: torch.where(weights.abs() > 1, torch.zeros_like(weights), weights),
    ],
    ids=["square", "relu", "scaled", "bent", "cut"],
)
def test_a_map_that_is_not_affine_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor, Tensor], Tensor]
) -> None:
    measure(hashed())
    replaced(monkeypatch, change)
    with pytest.raises(AuditFailure, match="not affine"):
        measure(hashed())


def test_a_map_that_raises_is_the_methods_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(theta: Tensor, weights: Tensor) -> Tensor:
        raise RuntimeError("out of range")

    replaced(monkeypatch, fail)
    with pytest.raises(AuditFailure, match="the map cannot be evaluated: out of range"):
        measure(hashed())
    assert issubclass(AuditFailure, MethodFailure)


def test_only_the_projects_own_maps_are_admitted() -> None:
    class OwnOperator(SignedHash):  # pyright: ignore[reportGeneralTypeIssues]
        pass

    class OwnSubspace(AffineSubspace):
        pass

    with pytest.raises(AuditFailure, match="prepared a AffineSubspace with a OwnOperator; admitted is"):
        measure(OwnOperator(5, D, SEED, CPU))
    with pytest.raises(AuditFailure, match="prepared a OwnSubspace with a SignedHash; admitted is"):
        audit.measure(OwnSubspace(INITIAL, hashed()), 5, ORIGIN, NONE)


# What it cost to know


def test_a_foreign_seed_costs_64_bits() -> None:
    for kind in RANDOM_OPERATORS:
        assert bits(drawn(kind, seed=SEED + 1)) == 64
    assert bits(Coordinates.random(5, D, SEED, CPU), ZERO) == 0
    assert bits(Coordinates.random(5, D, SEED + 1, CPU), ZERO) == 64


@pytest.mark.parametrize("k", [1, 5, D])
def test_a_stored_basis_costs_32_bits_a_number(k: int) -> None:
    columns = torch.randn(k, D, generator=torch.Generator().manual_seed(0))
    assert bits(DenseBasis(columns)) == 32 * k * D


@pytest.mark.parametrize(
    "kind", ["dense", "gaussian", "orthonormal", "full_space", "signed_hash", "coordinates", "free"]
)
def test_a_stored_basis_does_not_become_free_by_naming_the_trials_seed_or_another_kind(kind: str) -> None:
    trained = torch.linalg.qr(torch.randn(D, 5, generator=torch.Generator().manual_seed(0))).Q.T.contiguous()
    assert bits(DenseBasis(trained, seed=SEED, kind=kind)) == 32 * 5 * D


def test_a_drawn_basis_that_was_changed_afterwards_is_a_stored_one() -> None:
    for kind in ("gaussian", "orthonormal"):
        basis = drawn(kind)
        assert isinstance(basis, DenseBasis)
        assert bits(basis) == 0
        basis.columns[2, 3] += 1e-3
        assert bits(basis) == 32 * 5 * D
    changed = hashed()
    changed.tensors()["code"][0, 3] ^= 1
    assert bits(changed) >= D
    changed_transform = SubsampledHadamard(5, D, SEED, CPU)
    changed_transform.tensors()["column"][0] = (changed_transform.tensors()["column"].max() + 1) % 64
    assert bits(changed_transform) >= D


@pytest.mark.parametrize("k", [1, 2, 13, D - 1, D])
def test_a_chosen_mask_costs_as_many_bits_as_name_it(k: int) -> None:
    chosen = Coordinates(torch.randperm(D, generator=torch.Generator().manual_seed(0))[:k], D)
    expected = math.log2(math.comb(D, k))
    assert bits(chosen, ZERO) == pytest.approx(expected, abs=1e-9)
    claimed = Coordinates(chosen.indices, D, seed=SEED)
    assert bits(claimed, ZERO) == pytest.approx(expected, abs=1e-9)


@given(of=st.integers(0, 3000), data=st.data())
def test_the_bits_of_a_subset_are_the_logarithm_of_a_binomial_coefficient(of: int, data: st.DataObject) -> None:
    chosen = data.draw(st.integers(0, of))
    exact = math.comb(of, chosen)
    scale = max(0, exact.bit_length() - 60)
    expected = math.log2(exact >> scale) + scale
    assert audit.subset_bits(of, chosen) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_the_bits_of_a_large_subset() -> None:
    entropy = -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))
    assert audit.subset_bits(272_474, 27_247) == pytest.approx(272_474 * entropy, rel=1e-4)
    assert audit.subset_bits(272_474, 1) == pytest.approx(math.log2(272_474), abs=1e-6)


def test_zeros_that_are_the_mask_again_are_free() -> None:
    mask = Coordinates.random(13, D, SEED, CPU)
    inside = torch.zeros(D, dtype=torch.bool).index_fill(0, mask.indices, True)
    for offset in (
        ZERO,  # pruned weights are zero
        INITIAL,  # frozen where they started
        torch.where(inside, ZERO, INITIAL),  # frozen where they started, with the trained ones taken out
        torch.where(inside, INITIAL, ZERO),  # pruned, with the trained ones left in
    ):
        assert bits(mask, offset) == 0


def test_other_zeros_are_a_mask_of_their_own() -> None:
    offset = INITIAL.clone()
    offset[[1, 2, 3]] = 0
    nonzero = int((INITIAL != 0).sum())
    expected = math.log2(math.comb(nonzero, 3))
    assert bits(hashed(), offset) == pytest.approx(expected)
    assert bits(Coordinates.random(13, D, SEED, CPU), offset) == pytest.approx(expected)
    assert bits(hashed(), ZERO) == 0


@pytest.mark.parametrize("count", [1, 7, D])
def test_an_offset_that_smuggles_numbers_in_pays_for_them_and_their_places(count: int) -> None:
    offset = INITIAL.clone()
    offset[D - count :] += 1.0
    assert bits(hashed(), offset) == pytest.approx(32 * count + math.log2(math.comb(D, count)))


def test_burn_in_pays_for_all_weights_that_moved_and_none_that_did_not() -> None:
    moved = INITIAL + 0.1
    moved[:10] = INITIAL[:10]
    assert bits(hashed(), moved) == pytest.approx(32 * 30 + math.log2(math.comb(D, 30)))
    assert measure(FullSpace(D), offset=ZERO, start=moved).side_information_bits == 0  # trained over; k = D says it all


@pytest.mark.parametrize("count", [1, 5])
def test_an_answer_in_where_theta_starts_pays_for_its_numbers_and_their_places(count: int) -> None:
    start = torch.zeros(5)
    start[:count] = 0.25
    measured = measure(hashed(), start=start)
    assert measured.side_information_bits == pytest.approx(32 * count + math.log2(math.comb(5, count)))
    assert measured.track == "prepared"


def test_a_mask_starts_at_initial_weights_for_free_and_pays_for_rewound_ones() -> None:
    mask = Coordinates.random(7, D, SEED, CPU)
    assert measure(mask, offset=ZERO, start=INITIAL[mask.indices]).side_information_bits == 0
    rewound = INITIAL[mask.indices] + 0.5
    assert measure(mask, offset=ZERO, start=rewound).side_information_bits == 32 * 7


def test_which_weights_of_a_mask_start_at_zero_is_a_mask_of_its_own() -> None:
    mask = Coordinates.random(20, D, SEED, CPU)
    told = INITIAL[mask.indices]
    there = int((told != 0).sum())
    some = torch.where(torch.arange(20) % 3 == 0, torch.zeros(20), told)
    zeroed = int(((some == 0) & (told != 0)).sum())
    assert measure(mask, offset=ZERO, start=some).side_information_bits == pytest.approx(
        math.log2(math.comb(there, zeroed))
    )
    assert measure(mask, offset=ZERO, start=some).track == "prepared"
    assert measure(mask, offset=ZERO, start=torch.zeros(20)).side_information_bits == 0


def test_a_seed_of_ones_own_is_no_cold_start() -> None:
    assert measure(hashed()).track == "cold"
    assert measure(hashed(seed=SEED + 1)).track == "prepared"


@pytest.mark.parametrize(
    ("spent", "track"),
    [
        (Spending(), "cold"),
        (Spending(gradient_evaluations=1), "prepared"),
        (Spending(evaluations=1, examples=70), "prepared"),
        (Spending(evaluations=1), "prepared"),  # on a well, which has no examples
    ],
)
def test_who_asked_the_problem_anything_is_prepared(spent: Spending, track: str) -> None:
    assert measure(hashed(), spent=spent).track == track


# Afterwards


def test_a_map_that_changed_during_training_is_found() -> None:
    subspaces = [
        AffineSubspace(INITIAL.clone(), hashed()),
        AffineSubspace(INITIAL.clone(), DenseBasis(normal(5, D))),
        AffineSubspace(INITIAL.clone(), Coordinates(torch.arange(5), D)),
        AffineSubspace(INITIAL.clone(), SubsampledHadamard(5, D, SEED, CPU)),
    ]
    for subspace in subspaces:
        for tensor in subspace.tensors().values():
            before = subspace.fingerprint()
            audit.check_unmoved(subspace, before)
            tensor.view(-1)[0] += 1
            with pytest.raises(AuditFailure, match="the map itself changed during training"):
                audit.check_unmoved(subspace, before)
