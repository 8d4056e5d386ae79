"""Masks and weight sharing that come from seed and initial weights: what they are, and that only forged ones cost bits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowdim_bench import audit, problems
from lowdim_bench.audit import subset_bits
from lowdim_bench.certificates import recipes
from lowdim_bench.engine import Span, train
from lowdim_bench.errors import MethodFailure, UserError
from lowdim_bench.isolation.subspaces import OperatorRecipe, decode, encode
from lowdim_bench.methods import MethodChoice
from lowdim_bench.parametrizations import AffineSubspace, Coordinates, LayeredHash, Pack
from lowdim_bench.parametrizations.draws import MASKS, draw_mask, is_as_drawn, redraw
from lowdim_bench.parametrizations.operators.layered import buckets_by_tensor
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import Block, Ledger, MeteredProblem, Origin
from lowdim_bench.problems.networks.base import Layout
from lowdim_bench.records import Spending, Trial, operations
from lowdim_bench.specs import Recipe, load_task
from lowdim_bench.trial import run_pack
from tests.problems.small import (
    BLOBS,
    BLOBS_DIMENSION,
    PIXELS,
    QUADRATIC,
    WELL,
    make_task,
    small_images,
    small_problem,
)

CPU = torch.device("cpu")
TASK = make_task(BLOBS)
PROBLEM = small_problem(TASK)
IMAGES = {"problem": {"network": {"kind": "resnet", "blocks_per_group": 1, "widths": [2, 2, 2], "norm_groups": 2}}}
IMAGE_PROBLEM = problems.build(make_task(BLOBS, IMAGES), small_images())
SEED = 77
ORIGIN = PROBLEM.origin(0, SEED)
IMAGE_ORIGIN = IMAGE_PROBLEM.origin(0, SEED)
DIGITS = Layout()
DIGITS.dense("layer0", 64, 32)
DIGITS.dense("layer1", 32, 10)


def origin_of(blocks: list[Block], seed: int = SEED) -> Origin:
    size = blocks[-1].stop
    return Origin(tuple(blocks), torch.ones(size), seed, torch.abs)


def per_tensor(mask: Coordinates, origin: Origin) -> list[int]:
    inside = torch.zeros(origin.full_dimension)
    inside[mask.indices] = 1
    return [int(inside[block.start : block.stop].sum()) for block in origin.blocks]


def bits(subspace: AffineSubspace, origin: Origin = ORIGIN) -> float:
    return audit.measure(subspace, subspace.k, origin, Spending()).side_information_bits


FEW = {"biases": 8, "last_layer": 18}
"""How many coordinates these draws know."""


@pytest.mark.parametrize(
    ("name", "k"), [(name, k) for name in MASKS for k in (1, 5, 8, 9, 20) if k <= FEW.get(name, k)]
)
def test_a_drawn_mask_costs_nothing_and_a_forged_one_all_its_bits(name: str, k: int) -> None:
    origin = IMAGE_ORIGIN if name == "normalizations" else ORIGIN
    size = origin.full_dimension
    drawn = draw_mask(name, k, origin)
    assert (drawn.k, drawn.seed, drawn.draw) == (k, SEED, name)
    assert bits(AffineSubspace.masked(origin.initial, drawn), origin) == 0
    other = next(place for place in range(size) if place not in drawn.indices.tolist())
    forged = Coordinates(torch.cat([drawn.indices[1:], torch.tensor([other])]), size, SEED, name)
    assert not is_as_drawn(forged, origin)
    assert bits(AffineSubspace.masked(origin.initial, forged), origin) == pytest.approx(math.log2(math.comb(size, k)))


@pytest.mark.parametrize("name", ["uniform", "uniform_per_tensor", "erdos_renyi_kernel", "biases", "last_layer"])
def test_a_draw_from_another_seed_costs_that_seed(name: str) -> None:
    mask = draw_mask(name, 5, replace(ORIGIN, seed=SEED + 1))
    assert bits(AffineSubspace.masked(ORIGIN.initial, mask)) == audit.BITS_PER_FOREIGN_SEED


def test_no_mask_is_drawn_under_an_unknown_name() -> None:
    mask = Coordinates(torch.arange(4), BLOBS_DIMENSION, SEED, "trained")
    assert bits(AffineSubspace.masked(ORIGIN.initial, mask)) == subset_bits(BLOBS_DIMENSION, 4)
    with pytest.raises(ValueError, match="no mask is drawn as 'trained'; known are uniform"):
        redraw("coordinates", "trained", 4, SEED, ORIGIN)
    with pytest.raises(ValueError, match="is drawn in one way, not as 'uniform'"):
        redraw("signed_hash", "uniform", 4, SEED, ORIGIN)
    with pytest.raises(ValueError, match="no operator of kind 'dense'"):
        redraw("dense", "", 4, SEED, ORIGIN)


@pytest.mark.parametrize("name", [name for name in MASKS if name.endswith("_of_weights")])
def test_a_draw_of_weights_keeps_every_bias_and_orders_weights_as_ever(name: str) -> None:
    biases = {place for block in PROBLEM.blocks if block.role == "bias" for place in range(block.start, block.stop)}
    for k in (8, 9, 30):
        kept = set(draw_mask(name, k, ORIGIN).indices.tolist())
        assert len(kept) == k
        assert biases <= kept
    whole = draw_mask(name.removesuffix("_of_weights"), 30, ORIGIN)
    if name != "synaptic_flow_of_weights":  # which scores anew as biases and weights go
        weights = set(whole.indices.tolist()) - biases
        assert weights == set(draw_mask(name, len(weights | biases), ORIGIN).indices.tolist()) - biases


@given(k=st.integers(1, 2410), seed=st.integers(0, 2**40))
def test_densities_per_tensor_are_those_of_the_formula_capped_and_shared_out_again(k: int, seed: int) -> None:
    origin = origin_of(DIGITS.blocks, seed)
    sizes = [2048, 32, 320, 10]
    for name, shares in (("uniform_per_tensor", sizes), ("erdos_renyi_kernel", [96, 32, 42, 10])):
        counts = per_tensor(draw_mask(name, k, origin), origin)
        assert sum(counts) == k
        # The factor at which the capped shares sum to k, by bisection.
        low, high = 0.0, 2410.0
        for _ in range(80):
            middle = (low + high) / 2
            total = sum(min(size, middle * share) for size, share in zip(sizes, shares, strict=True))
            low, high = (middle, high) if total < k else (low, middle)
        wanted = [min(size, low * share) for size, share in zip(sizes, shares, strict=True)]
        # Each is rounded by at most 1/2, and what that adds up to over four tensors may all fall to one that is not full.
        assert all(abs(count - want) <= 2.5 for count, want in zip(counts, wanted, strict=True))


def test_erk_densities_of_digits_at_two_per_cent_by_hand() -> None:
    """Sums of sides are 96, 32, 42 and 10, so that 48 weights are shared out 25.6, 8.5, 11.2 and 2.7."""
    origin = origin_of(DIGITS.blocks)
    counts = per_tensor(draw_mask("erdos_renyi_kernel", 48, origin), origin)
    assert [abs(count - want) < 1 for count, want in zip(counts, (25.6, 8.53, 11.2, 2.67), strict=True)] == [True] * 4
    # From eps = 1 on biases are full, and the weights share what is left 96 to 42.
    counts = per_tensor(draw_mask("erdos_renyi_kernel", 42 + 276, origin), origin)
    assert counts[1] + counts[3] == 42
    assert counts[0] == pytest.approx(192, abs=1)


def test_a_convolution_counts_its_sides_and_its_kernels() -> None:
    layout = Layout()
    layout.conv("conv", 8, 16, 3, bias=False)
    layout.dense("head", 64, 10)
    origin = origin_of(layout.blocks)
    counts = per_tensor(draw_mask("erdos_renyi_kernel", 114, origin), origin)
    assert sum(counts) == 114
    assert [count / 114 for count in counts] == pytest.approx([30 / 114, 74 / 114, 10 / 114], abs=0.01)


def test_random_coordinates_of_a_tensor_are_uniform() -> None:
    counts = torch.zeros(BLOBS_DIMENSION)
    for seed in range(400):
        counts[draw_mask("uniform_per_tensor", 20, replace(ORIGIN, seed=seed)).indices] += 1
    for block in PROBLEM.blocks:
        mean = float(counts[block.start : block.stop].mean())
        assert float((counts[block.start : block.stop] - mean).abs().max()) < 5 * math.sqrt(mean)


def test_the_largest_initial_weights_are_kept() -> None:
    kept = draw_mask("magnitude_at_init", 9, ORIGIN).indices
    inside = torch.zeros(BLOBS_DIMENSION, dtype=torch.bool)
    inside[kept] = True
    sizes = ORIGIN.initial.abs()
    assert sizes[inside].min() > sizes[~inside].max()


@pytest.mark.parametrize(
    ("method", "problem", "names"),
    [
        ("bias_only", PROBLEM, {"layer0.bias", "layer1.bias"}),
        ("last_layer_only", PROBLEM, {"layer1.weight", "layer1.bias"}),
        ("last_layer_only", IMAGE_PROBLEM, {"head.weight", "head.bias"}),
        ("normalization_only", IMAGE_PROBLEM, None),
    ],
)
def test_some_tensors_alone_move_and_all_others_stay_as_initialized(
    method: str, problem: problems.Problem, names: set[str] | None
) -> None:
    if names is None:
        names = {block.name for block in problem.blocks if ".norm" in block.name or "_norm" in block.name}
        assert len(names) % 2 == 0
        assert len(names) > 10
    chosen = MethodChoice(name=method).build()
    low, high = chosen.k_range(problem.blocks)
    assert low == 1
    assert high == sum(block.stop - block.start for block in problem.blocks if block.name in names)
    (item,) = prepare_pack(problem, problem.task, chosen, [Trial(k=high, replicate=0, round=0)])
    assert item.subspace is not None
    moved = item.subspace.map(item.subspace.start + 1) != item.subspace.map(item.subspace.start)
    assert {block.name for block in problem.blocks if bool(moved[block.start : block.stop].any())} == names
    assert int(moved.sum()) == high
    assert torch.equal(item.subspace.map(item.subspace.start), problem.initial(0))


def test_a_network_without_such_tensors_is_refused() -> None:
    for name, what in (("normalization_only", "scales and shifts of normalizations"), ("bias_only", "biases")):
        with pytest.raises(UserError, match=f"trains {what}, and the task's network has none"):
            MethodChoice(name=name).build().k_range([Block("w", "weight", (12,), 0, 12)])


@pytest.mark.parametrize("single", [WELL, QUADRATIC, PIXELS], ids=lambda base: base["name"])
def test_a_network_of_one_layer_has_no_last_one_to_train_alone(single: dict[str, Any]) -> None:
    problem = small_problem(make_task(single))
    with pytest.raises(UserError, match=f"has one layer: all its {problem.full_dimension} parameters would be trained"):
        MethodChoice(name="last_layer_only").build().k_range(problem.blocks)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.data())
def test_buckets_are_shared_out_to_tensors_by_size(sizes: list[int], data: st.DataObject) -> None:
    layout = Layout()
    for place, size in enumerate(sizes):
        layout.add(f"t{place}", "weight", (size,), size)
    k = data.draw(st.integers(len(sizes), sum(sizes)))
    counts = buckets_by_tensor(k, layout.blocks)
    assert sum(counts) == k
    assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
    exact = [1 + (k - len(sizes)) * (size - 1) / max(1, sum(sizes) - len(sizes)) for size in sizes]
    assert all(abs(count - want) < 1 for count, want in zip(counts, exact, strict=True))
    with pytest.raises(ValueError, match=f"share {len(sizes)} to {sum(sizes)} buckets, not {sum(sizes) + 1}"):
        buckets_by_tensor(sum(sizes) + 1, layout.blocks)


@pytest.mark.parametrize("k", [4, 11, 30, BLOBS_DIMENSION])
def test_hashed_nets_share_weights_of_one_tensor_with_signs(k: int) -> None:
    shared = LayeredHash.drawn(k, PROBLEM.blocks, SEED, CPU)
    subspace = AffineSubspace(torch.zeros(BLOBS_DIMENSION), shared, shared.start_at(ORIGIN.initial))
    measured = audit.measure(subspace, k, ORIGIN, Spending())
    assert (measured.measured_k, measured.side_information_bits, measured.track) == (k, 0, "cold")
    matrix = shared.matrix()
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(k))
    owners = [{int(place) for place in matrix[b.start : b.stop].nonzero()[:, 1]} for b in PROBLEM.blocks]
    assert sum(len(own) for own in owners) == k  # no bucket in two tensors
    start = subspace.map(subspace.start)
    for column in range(k):
        places = matrix[:, column].nonzero()[:, 0]
        assert (start[places].abs() - ORIGIN.initial[places[0]].abs()).abs().max() < 1e-6
        assert torch.allclose(start[places[0]], ORIGIN.initial[places[0]], atol=1e-6)
    theta = torch.randn(1, k, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(1, BLOBS_DIMENSION, generator=torch.Generator().manual_seed(1))
    pack = Pack.of([subspace])
    torch.testing.assert_close(pack.map(theta)[0], matrix @ theta[0])
    torch.testing.assert_close(pack.pull_back(theta, weights)[0], matrix.T @ weights[0])


@pytest.mark.parametrize(("optimizer", "power"), [({"kind": "adam"}, 0.5), ({"kind": "sgd"}, 1.0)])
def test_shared_weights_take_shorter_steps_than_in_hashed_nets(optimizer: dict[str, Any], power: float) -> None:
    """By sqrt(n) under Adam and by n under gradient descent, where n share a bucket, since columns have unit norm."""
    (item,) = prepare_pack(PROBLEM, TASK, MethodChoice(name="hashed_nets").build(), [Trial(k=11, replicate=0, round=0)])
    assert isinstance(item.subspace, AffineSubspace)
    data = {**TASK.full_training.model_dump(mode="json"), "optimizer": optimizer, "batch_size": None}
    metered = MeteredProblem(PROBLEM, [0], [Ledger()])
    (theta,) = train(metered, [item.subspace], Recipe.from_data(data, "a recipe"), [0.1], Span(0, 1))
    start = item.subspace.map(item.subspace.start)
    _, gradient = PROBLEM.loss_and_gradient(start.unsqueeze(0), None)
    matrix = item.subspace.operator.matrix()
    signs = matrix.sign()
    of_bucket = signs.T @ gradient[0]  # with respect to the one number that they are in the source
    in_source = -0.1 * (of_bucket.sign() if optimizer["kind"] == "adam" else of_bucket)
    expected = signs @ (in_source / signs.abs().sum(dim=0) ** power)
    torch.testing.assert_close(item.subspace.map(theta) - start, expected, rtol=1e-3, atol=1e-6)


def test_weight_sharing_that_was_chosen_costs_its_bits() -> None:
    drawn = LayeredHash.drawn(11, PROBLEM.blocks, SEED, CPU)
    code = drawn.code.clone()
    code[0, 0] ^= 1
    forged = AffineSubspace(torch.zeros(BLOBS_DIMENSION), LayeredHash(code, 11, SEED))
    assert bits(forged) == 32 * BLOBS_DIMENSION
    with pytest.raises(ValueError, match="every one of 11 buckets must hold a coordinate"):
        LayeredHash(torch.zeros_like(code), 11)


def test_a_start_from_other_initial_weights_of_the_seed_is_free_and_one_from_elsewhere_is_not() -> None:
    mask = draw_mask("uniform", 12, ORIGIN)
    free = AffineSubspace.masked(ORIGIN.reinitialized(), mask)
    assert bits(free) == 0
    again = ORIGIN.reinitialized()
    for block in PROBLEM.blocks:
        part = slice(block.start, block.stop)
        assert torch.equal(again[part].sort().values, ORIGIN.initial[part].sort().values)
    assert not torch.equal(again, ORIGIN.initial)
    assert not torch.equal(again, ORIGIN.reinitialized(1))
    foreign = AffineSubspace.masked(ORIGIN.reinitialized(1) + 1e-3, mask)
    assert bits(foreign) == 32 * 12


CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ("erk_mask", "layerwise_random_mask", "initial_magnitude_mask", "synflow_mask")),
    *((name, {}) for name in ("hashed_nets", "last_layer_only", "bias_only", "random_mask")),
    ("fish_mask", {}),
    ("imp", {"rate": 0.7, "control": "reinitialized"}),
]


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_certificates_and_untrusted_processes_tell_the_same_subspace_and_price(
    name: str, parameters: dict[str, Any]
) -> None:
    method = MethodChoice(name=name, parameters=parameters).build()
    (item,) = prepare_pack(PROBLEM, TASK, method, [Trial(k=7, replicate=2, round=0)])
    subspace = item.subspace
    assert isinstance(subspace, AffineSubspace), item.failure
    origin = PROBLEM.origin(2, item.seed)
    recipe, tensors = encode(subspace)
    travelled = decode(
        OperatorRecipe.model_validate_json(recipe.model_dump_json()), tensors, BLOBS_DIMENSION, CPU, 2**20
    )
    assert isinstance(travelled, AffineSubspace)
    assert travelled.fingerprint() == subspace.fingerprint()
    assert bits(travelled, origin) == bits(subspace, origin)
    operator, *_, stored = recipes(subspace, origin)
    drawn = not any(key.startswith("operator.") for key in stored)
    assert drawn == (bits(subspace, origin) == 0)
    assert (operator.seed == item.seed) == drawn


def test_what_comes_from_an_untrusted_process_is_checked() -> None:
    tensors = {"offset": torch.zeros(9), "start": torch.zeros(2)}
    for recipe, more, reason in (
        ({"kind": "layered_hash", "seed": 1}, {"operator": torch.full((1, 9), 9, dtype=torch.int32)}, "is not valid"),
        ({"kind": "coordinates", "seed": 1, "draw": "x"}, {"operator": torch.tensor([3, 9])}, "its mask is not valid"),
        ({"kind": "signed_hash", "seed": 1, "draw": "x"}, {"operator": torch.zeros(1)}, "only masks are drawn by name"),
        ({"kind": "layered_hash", "seed": 1}, {}, "came with the tensors"),
    ):
        with pytest.raises(MethodFailure, match=reason):
            decode(OperatorRecipe.model_validate({"k": 2} | recipe), tensors | more, 9, CPU, 2**20)


def test_a_certificate_of_a_drawn_mask_holds_theta_alone_and_makes_the_mask_again() -> None:
    from lowdim_bench.certificates import Certificate

    task = make_task(BLOBS, {"targets": [{"metric": "train_loss", "at_most": 50.0}]})
    problem = small_problem(task)
    for name in ("synflow_mask", "erk_mask", "hashed_nets"):
        found: list[bytes] = []
        (result,) = run_pack(
            problem,
            task,
            MethodChoice(name=name),
            [Trial(k=9, replicate=1, round=0)],
            lambda _, content, found=found: found.append(content),
        )
        assert result.certificate, (result.reason, result.uncertified)
        certificate = Certificate.from_bytes(found[0])
        assert set(certificate.tensors) <= {"theta", "start.values"}
        subspace = certificate.subspace(problem)
        assert problem.train_metrics(subspace.map(certificate.theta).unsqueeze(0)).loss[0] == (
            certificate.claim.train_loss
        )
        assert result.audit is not None
        assert result.audit.side_information_bits == 0


def test_the_digits_task_has_the_tensors_that_these_tests_assume() -> None:
    task = load_task("digits-mlp")
    blocks = problems.build(task, problems.load_arrays(task, None)).blocks  # pyright: ignore[reportArgumentType]
    assert [block.shape for block in blocks] == [block.shape for block in DIGITS.blocks]


def test_passes_without_data_are_compute_but_neither_data_nor_free_of_the_budget() -> None:
    spent = Spending(data_free_gradients=100)
    assert operations(spent, 10, 70) == operations(spent, 10, None) == 3000
    mask = AffineSubspace.masked(ORIGIN.initial, draw_mask("synaptic_flow", 9, ORIGIN))
    assert audit.measure(mask, 9, ORIGIN, spent).track == "cold"
    task = make_task(BLOBS, {"preparation": {"gradient_evaluations": 99}})
    method = MethodChoice(name="synflow_mask").build()
    (item,) = prepare_pack(small_problem(task), task, method, [Trial(k=9, replicate=0, round=0)])
    assert "it asked for 100 gradient and full evaluations; the task allows 99 a trial" in item.failure
