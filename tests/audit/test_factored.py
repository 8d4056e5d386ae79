"""Maps that are not affine under audit: as many degrees of freedom as numbers, and nothing hidden beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lowdim_bench import audit
from lowdim_bench.errors import AuditFailure
from lowdim_bench.parametrizations import (
    FACTOR_MAPS,
    AffineSubspace,
    BasisAdapters,
    FactoredWeights,
    FactorMap,
    LowRankUpdate,
    SignedHash,
    VectorAdapters,
)
from lowdim_bench.problems import Origin
from lowdim_bench.problems.networks import Mlp
from lowdim_bench.records import Audit, Spending

NETWORK = Mlp(6, [5], 3)
OPTIONS: dict[str, dict[str, Any]] = {
    "basis_adapters": {"rank": 2},
    "tensor_train": {"cores": 2},
    "layer_scaled_subspace": {"operator": "hadamard"},
}


def origin(seed: int = 7, network: Mlp = NETWORK) -> Origin:
    return Origin(network.blocks, network.initial(torch.Generator().manual_seed(1)), seed, torch.abs)


def made(kind: str = "low_rank_update", k: int = 20, seed: int = 7) -> FactoredWeights:
    return FactoredWeights.of(FACTOR_MAPS[kind](k, origin(seed), **OPTIONS.get(kind, {})), origin().initial)


def measure(subspace: FactoredWeights, k: int = 20, spent: Spending = Spending()) -> Audit:  # noqa: B008 - frozen
    return audit.measure(subspace, k, origin(), spent)


each_kind = pytest.mark.parametrize("kind", FACTOR_MAPS)


@each_kind
def test_what_the_trial_was_given_makes_it_free(kind: str) -> None:
    measured = measure(made(kind))
    assert not measured.affine
    assert measured.track == "open"
    assert measured.side_information_bits == 0
    assert 14 <= measured.measured_k <= 20
    assert measured.rank_evidence == "exact"


@each_kind
def test_a_foreign_seed_costs_64_bits(kind: str) -> None:
    assert measure(made(kind, seed=8)).side_information_bits == 64


@each_kind
def test_whatever_else_was_altered_is_priced(kind: str) -> None:
    for name in made(kind).operator.tensors():
        altered = made(kind)
        tensor = altered.operator.tensors()[name]
        if tensor.is_floating_point():
            tensor.view(-1)[-1] += 0.5
        elif name != "places":
            continue
        else:
            tensor.copy_(tensor.flip(0))
        stored = sum(8 * one.nbytes for one in altered.operator.tensors().values())
        assert measure(altered).side_information_bits >= stored, name


def test_a_trained_start_and_a_trained_offset_are_priced() -> None:
    honest = made()
    start = honest.start.clone()
    start[3] += 0.5
    assert measure(FactoredWeights(honest.offset, honest.operator, start)).side_information_bits > 32
    offset = honest.offset.clone()
    offset[[3, 4]] += 0.5
    assert measure(FactoredWeights(offset, honest.operator, honest.start)).side_information_bits > 64


def test_more_or_fewer_numbers_than_the_trial_allows_are_refused() -> None:
    for prepared in (19, 21):
        with pytest.raises(AuditFailure, match=f"the trial allows k = 20 numbers, but the method prepared {prepared}"):
            measure(made(k=prepared))
    claiming = made(k=30)
    claiming.operator.k = 20
    with pytest.raises(AuditFailure, match=r"the trial allows k = 20 numbers|cannot be evaluated"):
        measure(claiming)


def test_trained_numbers_beside_the_k_are_refused() -> None:
    """More places than numbers: `start` fits, the map does not."""
    hidden = made()
    hidden.operator.places = torch.arange(25)
    with pytest.raises(AuditFailure, match="25 trained entries cannot have k = 20"):
        measure(hidden)


def test_only_the_projects_own_maps_are_admitted() -> None:
    class Decoder(LowRankUpdate):  # pyright: ignore[reportGeneralTypeIssues]
        pass

    class Own(FactoredWeights):
        pass

    with pytest.raises(
        AuditFailure, match="prepared a FactoredWeights with a Decoder; admitted is AffineSubspace with one"
    ):
        measure(FactoredWeights.of(Decoder(20, origin()), origin().initial))
    with pytest.raises(AuditFailure, match="prepared a Own with a LowRankUpdate"):
        measure(Own.of(LowRankUpdate(20, origin()), origin().initial))
    mixed: Any = SignedHash(20, 53, 7, torch.device("cpu"))
    with pytest.raises(AuditFailure, match="prepared a FactoredWeights with a SignedHash"):
        measure(FactoredWeights(origin().initial, mixed))
    swapped: Any = made().operator
    with pytest.raises(AuditFailure, match="prepared a AffineSubspace with a LowRankUpdate"):
        audit.measure(AffineSubspace(origin().initial, swapped), 20, origin(), Spending())


def test_a_decoder_in_place_of_a_method_of_the_map_is_refused() -> None:
    patched: Any = made()
    patched.operator.assemble = lambda phi: phi.new_zeros(53)
    with pytest.raises(AuditFailure, match="the method replaced assemble of its LowRankUpdate"):
        measure(patched)


HONEST = LowRankUpdate.assemble


def unpacked(self: FactorMap, phi: Tensor) -> Tensor:
    """Two numbers out of each: what a step far below the visible one adds."""
    return HONEST(self, phi) + HONEST(self, (phi.detach() * 1e4).remainder(1.0))  # pyright: ignore[reportArgumentType]


def rounded(self: FactorMap, phi: Tensor) -> Tensor:
    return HONEST(self, phi) + torch.round(HONEST(self, phi.detach()) * 8)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("decoder", [unpacked, rounded])
def test_a_decoder_of_more_numbers_than_k_is_not_smooth(
    decoder: Callable[[FactorMap, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    subspace = made()
    monkeypatch.setattr(LowRankUpdate, "assemble", decoder)
    with pytest.raises(AuditFailure, match="the map is not smooth"):
        measure(subspace)


def test_a_map_that_remembers_is_not_pure(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def growing(self: LowRankUpdate, phi: Tensor) -> Tensor:
        calls.append(1)
        return HONEST(self, phi) * len(calls)

    subspace = made()
    monkeypatch.setattr(LowRankUpdate, "assemble", growing)
    with pytest.raises(AuditFailure, match="not pure"):
        measure(subspace)


def test_shapes_of_another_network_are_not_free() -> None:
    chosen = VectorAdapters(20, origin())
    chosen.blocks = tuple(reversed(NETWORK.blocks))
    assert measure(FactoredWeights.of(chosen, origin().initial)).side_information_bits > 0


def test_a_rank_that_is_only_sampled_is_k() -> None:
    network = Mlp(40, [30], 10)
    given = origin(7, network)
    chosen = BasisAdapters(400, given, rank=8)
    measured = audit.measure(FactoredWeights.of(chosen, given.initial), 400, given, Spending())
    assert (measured.measured_k, measured.rank_evidence) == (400, "sampled")


def test_only_theta_may_change_during_training() -> None:
    subspace = made("vector_adapters")
    before = subspace.fingerprint()
    audit.check_unmoved(subspace, before)
    for tensor in subspace.operator.tensors().values():
        tensor.view(-1)[0] += 1
        with pytest.raises(AuditFailure, match="the map itself changed"):
            audit.check_unmoved(subspace, before)
        tensor.view(-1)[0] -= 1
