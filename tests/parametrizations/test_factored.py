"""Maps that are not affine: each against its definition written anew in float64, with autograd's own derivative."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from lowdim_bench.parametrizations import (
    ADMITTED,
    FACTOR_MAPS,
    BasisAdapters,
    FactoredWeights,
    FactorMap,
    LayerScaledSubspace,
    LowRank,
    LowRankUpdate,
    Pack,
    SubsampledHadamard,
    TensorTrain,
    VectorAdapters,
)
from lowdim_bench.parametrizations.factored.base import matrices
from lowdim_bench.parametrizations.factored.tensor_train import Train, balanced_factors
from lowdim_bench.problems import Block, Origin
from lowdim_bench.problems.networks import ConvNet, Mlp, PackedNetwork

CPU = torch.device("cpu")
MLP = Mlp(6, [5], 3)
CONV = ConvNet((1, 4, 4), (2,), 3)
CASES: dict[str, dict[str, Any]] = {
    "low_rank": {},
    "low_rank_update": {},
    "vector_adapters": {},
    "basis_adapters": {"rank": 2},
    "tensor_train": {"cores": 2},
    "layer_scaled_subspace": {"operator": "hadamard"},
}
each_kind = pytest.mark.parametrize("kind", CASES)


def origin(network: PackedNetwork = MLP, seed: int = 7) -> Origin:
    initial = network.initial(torch.Generator().manual_seed(seed)) + 0.01  # biases that are not zero
    return Origin(network.blocks, initial, seed, torch.abs)


def made(kind: str, k: int, network: PackedNetwork = MLP, seed: int = 7) -> FactorMap:
    return FACTOR_MAPS[kind](k, origin(network, seed), **CASES[kind])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stored(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A matrix (outputs, inputs) as its block stores it."""
    return (matrix.T if len(shape) == 2 else matrix).reshape(-1)


class Reader:
    """Takes the next numbers of a vector."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers, self.at = numbers, 0

    def __call__(self, *shape: int) -> Tensor:
        self.at += math.prod(shape)
        return self.numbers[self.at - math.prod(shape) : self.at].reshape(shape)


# Each by its definition: all entries of the factors (n,), the map with its constants, the sizes of the layers.


def products(entries: Tensor, sides: Sequence[tuple[int, int]], ranks: Sequence[int]) -> tuple[list[Tensor], Tensor]:
    read = Reader(entries)
    found = [read(out, rank) @ read(rank, ins) for (out, ins), rank in zip(sides, ranks, strict=True)]
    return found, entries[read.at :]


def of_low_rank(entries: Tensor, chosen: FactorMap, sides: Sequence[tuple[int, int]]) -> tuple[list[Tensor], Tensor]:
    assert isinstance(chosen, LowRank | LowRankUpdate)
    return products(entries, sides, [min(side[0], side[1], RANK) for side in sides])


def of_vector_adapters(
    entries: Tensor, chosen: FactorMap, sides: Sequence[tuple[int, int]]
) -> tuple[list[Tensor], Tensor]:
    tall, wide = (chosen.constants[name].double() for name in ("tall", "wide"))
    outers, inners = entries[: sum(out for out, _ in sides)], Reader(entries[sum(out for out, _ in sides) :])
    read = Reader(outers)
    found = [
        torch.diag(read(out)) @ tall[:out] @ torch.diag(inners(len(wide))) @ wide[:, :ins] / math.sqrt(ins)
        for out, ins in sides
    ]
    return found, entries[:0]


def of_basis_adapters(
    entries: Tensor, chosen: FactorMap, sides: Sequence[tuple[int, int]]
) -> tuple[list[Tensor], Tensor]:
    read, found = Reader(entries), []
    for layer, (out, ins) in enumerate(sides):
        rank = min(2, out, ins)
        tall = sum(b * basis.view(out, rank) for b, basis in _pairs(read, chosen.constants[f"bases{2 * layer}"]))
        wide = sum(a * basis.view(rank, ins) for a, basis in _pairs(read, chosen.constants[f"bases{2 * layer + 1}"]))
        assert isinstance(tall, Tensor)
        assert isinstance(wide, Tensor)
        found.append(tall @ wide)
    return found, entries[:0]


def _pairs(read: Reader, bases: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(read(len(bases)), bases.double(), strict=True))


def of_tensor_train(
    entries: Tensor, chosen: FactorMap, sides: Sequence[tuple[int, int]]
) -> tuple[list[Tensor], Tensor]:
    read, found = Reader(entries), []
    for out, ins in sides:
        (m0, m1), (n1, n0) = balanced_factors(out, 2), balanced_factors(ins, 2)
        rank = min(RANK, m0 * n0, m1 * n1)
        first, second = read(m0, n0, rank), read(rank, m1, n1)
        found.append(torch.einsum("abr,rcd->acbd", first, second).reshape(out, ins))
    return found, entries[read.at :]


DEFINITIONS: dict[str, Callable[..., tuple[list[Tensor], Tensor]]] = {
    "low_rank": of_low_rank,
    "low_rank_update": of_low_rank,
    "vector_adapters": of_vector_adapters,
    "basis_adapters": of_basis_adapters,
    "tensor_train": of_tensor_train,
}
RANK = 2
"""Of low rank and of bonds at the k that are looked at."""


def by_definition(kind: str, chosen: FactorMap, network: PackedNetwork, theta: Tensor) -> Tensor:
    """M(theta) in float64."""
    entries = chosen.anchor.double().clone()
    entries = entries.index_put((chosen.places,), theta)
    if kind == "layer_scaled_subspace":
        layers = [block.name.split(".")[0] for block in network.blocks]
        names = sorted(set(layers), key=layers.index)
        count = len(names)
        basis = SubsampledHadamard(chosen.k - count, network.full_dimension, 7, CPU).matrix().double()
        moved = basis @ entries[count:]
        scales = [entries[names.index(layer)] for layer in layers]
        return torch.cat([s * moved[b.start : b.stop] for s, b in zip(scales, network.blocks, strict=True)])
    shapes = [block.shape for block in network.blocks if block.role == "weight"]
    sides = [(s[1], s[0]) if len(s) == 2 else (s[0], math.prod(s[1:])) for s in shapes]
    matrices, others = DEFINITIONS[kind](entries, chosen, sides)
    left, rest, parts = iter(matrices), Reader(others), []
    for block in network.blocks:
        if block.role == "weight":
            parts.append(stored(next(left), block.shape))
        elif chosen.from_initial:
            parts.append(torch.zeros(math.prod(block.shape), dtype=torch.float64))
        else:
            parts.append(rest(math.prod(block.shape)))
    return torch.cat(parts)


# k at which the least common rank is RANK, and all entries are not yet trained.
KS = {
    "low_rank": {"mlp": 40, "conv": 42},
    "low_rank_update": {"mlp": 30, "conv": 40},
    "vector_adapters": {"mlp": 21, "conv": 12},
    "basis_adapters": {"mlp": 23, "conv": 12},
    "tensor_train": {"mlp": 35, "conv": 30},
    "layer_scaled_subspace": {"mlp": 20, "conv": 20},
}
NETWORKS = {"mlp": MLP, "conv": CONV}


@each_kind
@pytest.mark.parametrize("name", NETWORKS)
def test_map_and_pull_back_are_those_of_the_definition(kind: str, name: str) -> None:
    network, k = NETWORKS[name], KS[kind][name]
    chosen = made(kind, k, network)
    subspace = FactoredWeights.of(chosen, origin(network).initial)
    theta, gradient = subspace.start + normal(k), normal(network.full_dimension, seed=1)
    offset = origin(network).initial if chosen.from_initial else torch.zeros(network.full_dimension)

    def definition(wide: Tensor) -> Tensor:
        return offset.double() + by_definition(kind, chosen, network, wide)

    weights, pull_back = torch.func.vjp(definition, theta.double())[:2]
    torch.testing.assert_close(subspace.map(theta), weights.float(), rtol=1e-5, atol=1e-5)
    pulled = Pack.of([subspace]).pull_back(theta.unsqueeze(0), gradient.unsqueeze(0))[0]
    torch.testing.assert_close(pulled, pull_back(gradient.double())[0].float(), rtol=1e-4, atol=1e-5)
    assert float(pulled.abs().min()) > 0, "every one of the k numbers moves something"


RANGES: dict[str, Callable[[Sequence[Block]], tuple[int, int]]] = {
    "low_rank": lambda blocks: (1, LowRank.largest_k(blocks)),
    "low_rank_update": lambda blocks: (1, LowRankUpdate.largest_k(blocks)),
    "vector_adapters": lambda blocks: (1, VectorAdapters.largest_k(blocks)),
    "basis_adapters": lambda blocks: (1, BasisAdapters.largest_k(blocks, rank=2)),
    "tensor_train": lambda blocks: (1, TensorTrain.largest_k(blocks, cores=2)),
    "layer_scaled_subspace": lambda blocks: (LayerScaledSubspace.smallest_k(blocks), blocks[-1].stop),
}


@each_kind
@pytest.mark.parametrize("name", NETWORKS)
def test_exactly_k_numbers_are_trained_at_every_k(kind: str, name: str) -> None:
    network = NETWORKS[name]
    lowest, largest = RANGES[kind](network.blocks)
    assert largest <= network.full_dimension
    for k in range(lowest, largest + 1):
        chosen = made(kind, k, network)
        assert len(chosen.start) == len(chosen.places.unique()) == chosen.k == k
        assert torch.equal(chosen.start, chosen.anchor[chosen.places])


@each_kind
def test_adapters_begin_at_the_initial_weights(kind: str) -> None:
    subspace = FactoredWeights.of(made(kind, 25), origin().initial)
    begins = subspace.map(subspace.start)
    if subspace.operator.from_initial:
        assert torch.equal(begins, origin().initial)
    else:
        assert not torch.equal(begins, origin().initial)


@each_kind
def test_no_trial_of_a_pack_feels_its_neighbours(kind: str) -> None:
    subspaces = [FactoredWeights.of(made(kind, k, seed=k), origin(seed=k).initial) for k in (20, 3, 31, 11)]
    whole = Pack.of(subspaces)
    theta, gradient = torch.zeros(4, 31), normal(4, 53, seed=1)
    for row, one in enumerate(subspaces):
        theta[row, : one.k] = one.start + 0.3 * normal(one.k, seed=row)
    mapped, pulled = whole.map(theta), whole.pull_back(theta, gradient)
    some = whole.keep(torch.tensor([3, 1]))
    assert some.dimensions == (11, 3)
    assert torch.equal(some.map(theta[[3, 1]]), mapped[[3, 1]])
    for row, one in enumerate(subspaces):
        alone = Pack.of([one])
        assert torch.equal(one.map(theta[row, : one.k]), mapped[row])
        assert torch.equal(
            alone.pull_back(theta[row : row + 1, : one.k], gradient[row : row + 1])[0], pulled[row, : one.k]
        )
        assert not pulled[row, one.k :].any()


# What is known of them


def rank(chosen: FactorMap) -> tuple[int, bool]:
    return chosen.rank_of_sketch(chosen.sketched_jacobian(chosen.start + normal(chosen.k))[1])


@pytest.mark.parametrize("r", [1, 2])
def test_products_of_rank_r_are_a_manifold_of_known_dimension(r: int) -> None:
    """r (m + n) entries, of which r * r are the choice of a basis (Vandereycken 2013, proposition 2.1)."""
    entries, dimension = r * (6 + 5 + 5 + 3), r * (6 + 5 - r) + r * (5 + 3 - r)
    assert rank(LowRankUpdate(entries, origin())) == (dimension, True)
    assert rank(LowRank(entries + 8, origin())) == (dimension + 8, True)


def test_vera_can_be_scaled_between_its_vectors() -> None:
    assert rank(VectorAdapters(8 + 2 * 4, origin())) == (8 + 2 * 4 - 2, True)


def test_a_scale_of_a_layer_can_be_exchanged_for_all_of_its_directions() -> None:
    assert rank(made("layer_scaled_subspace", 20)) == (20 - 1, True)


def test_lora_of_full_rank_contains_full_training_of_its_layers() -> None:
    chosen = LowRankUpdate(5 * 11 + 3 * 8, origin())
    wanted = normal(53)
    entries = torch.zeros(79)
    start = 0
    for block, rank_ in ((MLP.blocks[0], 5), (MLP.blocks[2], 3)):
        change = wanted[block.start : block.stop].view(block.shape).T  # (outputs, inputs)
        factor = torch.cat([torch.eye(rank_).reshape(-1), change.reshape(-1)])
        entries[start : start + len(factor)] = factor
        start += len(factor)
    found = chosen(entries[chosen.places])
    for block in MLP.blocks:
        expected = wanted[block.start : block.stop] if block.role == "weight" else torch.zeros(math.prod(block.shape))
        torch.testing.assert_close(found[block.start : block.stop], expected)


def test_low_rank_training_of_full_rank_begins_at_the_initial_weights() -> None:
    chosen = LowRank(8 + 5 * 11 + 3 * 8, origin())
    torch.testing.assert_close(chosen(chosen.start), origin().initial, rtol=1e-5, atol=1e-6)


def test_low_rank_training_begins_at_the_nearest_matrix_of_its_rank() -> None:
    chosen = LowRank(8 + 2 * 19, origin())
    first = chosen(chosen.start)[:30].view(6, 5).double()
    wanted = origin().initial[:30].view(6, 5).double()
    tail = torch.linalg.svdvals(wanted)[2:]
    assert int(torch.linalg.matrix_rank(first, rtol=1e-5)) == 2
    assert float((first - wanted).norm()) == pytest.approx(float(tail.norm()), rel=1e-5)  # Eckart and Young 1936


def decomposed(matrix: Tensor, train: Train) -> Tensor:
    """The cores' entries of a matrix (outputs, inputs), by one SVD a bond (Oseledets 2011, algorithm 1)."""
    cores = len(train.outputs)
    order = [axis for core in range(cores) for axis in (core, cores + core)]
    rest = matrix.view(*train.outputs, *train.inputs).permute(order).reshape(1, -1)
    entries: list[Tensor] = []
    for before, outputs, inputs, after in train.shapes()[:-1]:
        left, values, right = torch.linalg.svd(rest.reshape(before * outputs * inputs, -1), full_matrices=False)
        entries.append(left[:, :after].reshape(-1))
        rest = values[:after, None] * right[:after]
    return torch.cat([*entries, rest.reshape(-1)])


@pytest.mark.parametrize("cores", [2, 3, 4])
def test_a_tensor_train_of_full_rank_is_any_matrix(cores: int) -> None:
    blocks = [block for block in MLP.blocks if block.role == "weight"]
    wanted = normal(53).double()
    trains = [Train.of(layer, cores, 99) for layer in matrices(MLP.blocks)]
    for block, train in zip(blocks, trains, strict=True):
        matrix = wanted[block.start : block.stop].view(block.shape).T
        torch.testing.assert_close(train.matrix(decomposed(matrix.contiguous(), train)), matrix, rtol=1e-9, atol=1e-9)


def test_tensor_trains_begin_at_the_variance_of_the_initial_weights() -> None:
    network = Mlp(64, [48], 10)
    squares = []
    for seed in range(40):
        chosen = TensorTrain(400, origin(network, seed), cores=3)
        squares.append(float(chosen(chosen.start)[: 64 * 48].square().mean()))
    assert sum(squares) / len(squares) == pytest.approx(1 / 64, rel=0.25)


@pytest.mark.parametrize(
    ("number", "count", "factors"),
    [(64, 3, [4, 4, 4]), (10, 3, [5, 2, 1]), (7, 2, [7, 1]), (12, 2, [4, 3]), (1, 2, [1, 1])],
)
def test_numbers_are_cut_into_even_factors(number: int, count: int, factors: list[int]) -> None:
    assert balanced_factors(number, count) == factors


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: LowRank(88, origin()), "have 1 to 87 numbers for this network, not 88"),
        (lambda: LowRankUpdate(0, origin()), "have 1 to 19 numbers for this network, not 0"),
        (lambda: LowRankUpdate(5, origin(), rank=2), "take the options none, not rank"),
        (lambda: BasisAdapters(5, origin()), "take the options rank, not none"),
        (lambda: BasisAdapters(5, origin(), rank=0), "a whole number of at least 1, not 0"),
        (lambda: TensorTrain(5, origin(), cores=9), "has 2 to 8 cores, not 9"),
        (lambda: LayerScaledSubspace(2, origin(), operator="hadamard"), "2 scales leave no direction"),
        (lambda: LayerScaledSubspace(9, origin(), operator="gaussian"), "valid are hadamard, signed_hash"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], FactorMap], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()


def test_bases_that_would_not_fit_in_memory_are_refused() -> None:
    wide = origin(Mlp(4000, [2000], 10))
    largest = BasisAdapters.largest_k(wide.blocks, rank=8)
    assert largest < 2000
    with pytest.raises(ValueError, match="numbers; at most 16777216 are drawn"):
        BasisAdapters(largest + 50, wide, rank=8)


def test_every_kind_is_admitted_and_none_beside_it() -> None:
    assert set(ADMITTED[FactoredWeights]) == set(FACTOR_MAPS.values())
    assert FACTOR_MAPS.keys() == CASES.keys()
