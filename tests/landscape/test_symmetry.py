"""Neurons permuted, split and merged: what has to stay the same, and what is known to change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from lowdim_bench import problems
from lowdim_bench.errors import UserError
from lowdim_bench.landscape import Curvature, align, embed, linear_path, merge_duplicates, symmetry
from lowdim_bench.problems import Block, Problem
from lowdim_bench.problems.classification import ClassificationProblem
from tests.problems.small import BLOBS, QUADRATIC, WELL, make_task, merged, small_images, small_problem


def network(*hidden: int) -> Problem:
    return small_problem(make_task(merged(BLOBS, {"problem": {"network": {"hidden": list(hidden)}}})))


def convolutional(*channels: int, batch: bool) -> Problem:
    spec = {"kind": "convnet", "channels": list(channels), "normalization": {"kind": "batch"} if batch else None}
    return problems.build(make_task(merged(BLOBS, {"problem": {"network": spec}})), small_images())


both_kinds = pytest.mark.parametrize("batch", [False, True], ids=["plain", "batch normalization"])


def loss(problem: Problem, weights: torch.Tensor) -> float:
    return float(problem.train_metrics(weights.unsqueeze(0)).loss[0])


def test_permuted_neurons_are_found_and_the_barrier_is_gone() -> None:
    problem = network(5, 4)
    weights = problem.initial(0)
    shuffled = weights
    for layer, size in ((0, 5), (1, 4)):
        shuffled = symmetry.permute(problem, shuffled, layer, np.random.default_rng(layer).permutation(size))
    assert loss(problem, shuffled) == pytest.approx(loss(problem, weights), rel=1e-6)
    assert not torch.equal(shuffled, weights)
    aligned, found = align(problem, weights, shuffled)
    assert torch.equal(aligned, weights)
    assert found.similarity == pytest.approx(float(weights.double() @ weights.double()))
    assert found.similarity > found.similarity_before
    assert 0 < found.moved <= found.neurons == 9
    assert found.loss_change < 1e-6
    assert linear_path(problem, weights, aligned).loss_barrier == pytest.approx(0, abs=1e-6)


def drawn(problem: Problem, replicate: int) -> torch.Tensor:
    """Weights at which every number of a block is another, scales and biases too."""
    generator = torch.Generator().manual_seed(replicate)
    return problem.initial(replicate) + 0.3 * torch.randn(problem.full_dimension, generator=generator)


@both_kinds
def test_permuted_channels_are_found_and_the_loss_is_the_same(batch: bool) -> None:
    problem = convolutional(4, 3, batch=batch)
    assert symmetry.hidden_layers(problem.blocks) == {0: 4, 1: 3}
    weights = drawn(problem, 0)
    shuffled = symmetry.permute(problem, weights, 0, np.array([2, 0, 3, 1]))
    shuffled = symmetry.permute(problem, shuffled, 1, np.array([1, 2, 0]))
    assert loss(problem, shuffled) == pytest.approx(loss(problem, weights), rel=1e-6)
    aligned, found = align(problem, weights, shuffled)
    assert torch.equal(aligned, weights)
    assert found.neurons == found.moved == 7
    assert found.loss_change < 1e-6
    assert linear_path(problem, weights, aligned).loss_barrier == pytest.approx(0, abs=1e-6)


def test_a_channel_takes_its_pixels_with_it() -> None:
    """One pooling of 4 x 4 pixels: the dense layer sees 2 x 2 of each of 2 channels, one channel after the other."""
    problem = convolutional(2, batch=False)
    head = problem.blocks[-2]
    assert (head.shape, head.neurons) == ((8, 3), (0, None))
    weights = drawn(problem, 0)
    swapped = symmetry.permute(problem, weights, 0, np.array([1, 0]))
    before, after = (one[head.start : head.stop].view(2, 4, 3) for one in (weights, swapped))
    assert torch.equal(after, before.flip(0))


@both_kinds
def test_a_channel_can_be_split_and_merged_again(batch: bool) -> None:
    narrow, wide = (convolutional(channels, 3, batch=batch) for channels in (2, 3))
    weights = drawn(narrow, 0)
    found = embed(narrow, wide, weights)
    assert found.wide_loss == pytest.approx(found.loss, rel=1e-6)
    split = symmetry.split_neuron(narrow, wide, weights, layer=0, neuron=1, share=0.25)
    whole, merged_ones = merge_duplicates(wide, split)
    assert (merged_ones.neurons, merged_ones.distinct) == (6, 5)
    assert loss(wide, whole) == pytest.approx(loss(narrow, weights), rel=1e-6)


@both_kinds
def test_a_channel_before_the_dense_layer_can_be_split_too(batch: bool) -> None:
    narrow, wide = (convolutional(2, channels, batch=batch) for channels in (3, 4))
    split = symmetry.split_neuron(narrow, wide, drawn(narrow, 0), layer=1, neuron=0)
    assert merge_duplicates(wide, split)[1].distinct == 5


def test_one_hidden_layer_is_matched_as_well_as_any_order_can() -> None:
    from itertools import permutations

    problem = network(4)
    one, other = problem.initial(0), problem.initial(1)
    _, found = align(problem, one, other)
    best = max(
        float(one.double() @ symmetry.permute(problem, other, 0, np.array(order)).double())
        for order in permutations(range(4))
    )
    assert found.similarity == pytest.approx(best)


def test_blocks_that_lie_about_neurons_are_found_out() -> None:
    problem = network(5, 5)
    wrong = [
        Block(
            b.name,
            b.role,
            b.shape,
            b.start,
            b.fan_in,
            tuple(None if axis == 0 else n for axis, n in enumerate(b.neurons)),
        )
        if b.name == "layer1.weight"
        else b
        for b in problem.blocks
    ]
    problem.blocks = tuple(wrong)
    with pytest.raises(symmetry.SymmetryError, match=r"Correct `Block\.neurons`"):
        align(problem, problem.initial(0), problem.initial(1))


def test_a_problem_without_neurons_is_refused() -> None:
    well = small_problem(make_task(WELL))
    with pytest.raises(UserError, match="says along which axes they lie"):
        align(well, well.initial(0), well.initial(1))


@pytest.mark.parametrize("share", [0.5, 0.25, 1.5])
def test_a_split_neuron_changes_the_gradient_as_the_chain_rule_has_it(share: float) -> None:
    """Incoming: share g and (1 - share) g instead of g; outgoing: g twice."""
    narrow, wide, weights = network(1), network(2), network(1).initial(0)
    found = embed(narrow, wide, weights, share=share)
    assert found.wide_loss == pytest.approx(found.loss, rel=1e-6)
    gradient = narrow.loss_and_gradient(weights.unsqueeze(0), None)[1][0].double()
    incoming, outgoing, bias = gradient[:7].norm() ** 2, gradient[7:10].norm() ** 2, gradient[10:].norm() ** 2
    wanted = (share**2 + (1 - share) ** 2) * incoming + 2 * outgoing + bias
    assert found.wide_gradient_norm == pytest.approx(float(wanted.sqrt()), rel=1e-4)
    assert found.gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-5)


def test_the_curvature_after_a_neuron_is_split_in_halves_is_known() -> None:
    """Moves of both halves alike are moves of the one neuron, by a linear map. Moves of one half against the other change no
    output to first order; to second order incoming ones (7) and outgoing ones (3) do together, by B = mean of x phi' (p - y).
    So their block has the singular values of B, with both signs, for eigenvalues: a saddle wherever B is not zero."""
    narrow, wide, weights = network(1), network(2), network(1).initial(0)
    assert isinstance(narrow, ClassificationProblem)
    numbers = weights.double().numpy()
    inputs = np.concatenate([narrow.inputs.double().numpy(), np.ones((len(narrow.inputs), 1))], axis=1)
    before = inputs @ numbers[:7]
    logits = np.maximum(before, 0)[:, None] * numbers[7:10] + numbers[10:]
    errors = softmax(logits, axis=1) - np.eye(3)[narrow.labels.numpy()]
    singular = np.linalg.svd((inputs * (before > 0)[:, None]).T @ errors / len(inputs), compute_uv=False)
    alike = np.sqrt(np.repeat([0.5, 2.0, 1.0], [7, 3, 3]))
    of_one = np.linalg.eigvalsh(alike[:, None] * Curvature(narrow, weights).matrix() * alike)
    wanted = np.sort(np.concatenate([of_one, singular, -singular, np.zeros(4)]))
    split = symmetry.split_neuron(narrow, wide, weights, layer=0, neuron=0)
    np.testing.assert_allclose(np.linalg.eigvalsh(Curvature(wide, split).matrix()), wanted, atol=1e-5)
    assert singular[0] > 0.01
    assert embed(narrow, wide, weights).wide_smallest_eigenvalue == pytest.approx(wanted[0], abs=1e-5)


def test_the_smallest_eigenvalue_is_the_same_by_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = network(5)
    weights = problem.initial(0)
    dense = symmetry.smallest_eigenvalue(problem, weights)
    assert dense < 0
    monkeypatch.setattr(symmetry, "EXACT_DIMENSION", 10)
    assert symmetry.smallest_eigenvalue(problem, weights) == pytest.approx(dense, abs=1e-3)


def test_units_of_a_quadratic_network_can_be_split_too() -> None:
    narrow = small_problem(make_task(QUADRATIC))
    wide = small_problem(make_task(merged(QUADRATIC, {"problem": {"hidden": 4}})))
    found = embed(narrow, wide, narrow.initial(0))
    assert found.wide_loss == pytest.approx(found.loss, rel=1e-5)


def test_a_wide_network_must_be_one_neuron_wider() -> None:
    with pytest.raises(ValueError, match="one more in layer 0"):
        embed(network(3), network(5), network(3).initial(0))


def test_duplicates_are_merged_and_neurons_without_effect_left_out() -> None:
    narrow, wide = network(4), network(5)
    weights = narrow.initial(0)
    assert merge_duplicates(narrow, weights)[1].distinct == 4
    split = symmetry.split_neuron(narrow, wide, weights, layer=0, neuron=2)
    whole, found = merge_duplicates(wide, split)
    assert (found.neurons, found.distinct) == (5, 4)
    assert loss(wide, whole) == pytest.approx(loss(narrow, weights), rel=1e-6)
    near = split.clone()
    near[4] *= 1.001  # an incoming weight of the copy, which is the last neuron
    assert merge_duplicates(wide, near)[1].distinct == 5
    assert merge_duplicates(wide, near, tolerance=0.01)[1].distinct == 4
