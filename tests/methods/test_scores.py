"""Scores that prune before training, against independent computations in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lowdim_bench import problems
from lowdim_bench.methods import MethodChoice
from lowdim_bench.parametrizations import AffineSubspace, Coordinates
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems.classification import ClassificationProblem
from lowdim_bench.problems.networks.base import Block
from lowdim_bench.records import Trial
from tests.problems.small import ARENAS, BLOBS, PIXELS, QUADRATIC, WELL, make_task, small_images, small_problem

TASKS = {
    "mlp": make_task(BLOBS),
    "convnet": make_task(BLOBS, {"problem": {"network": {"kind": "convnet", "channels": [2, 3]}}}),
    "resnet": make_task(
        BLOBS,
        {"problem": {"network": {"kind": "resnet", "blocks_per_group": 1, "widths": [2, 2, 4], "norm_groups": 2}}},
    ),
}
PROBLEMS = {name: problems.build(task, small_images()) for name, task in TASKS.items() if name != "mlp"}
PROBLEMS["mlp"] = small_problem(TASKS["mlp"])


def prepared(network: str, name: str, k: int, **parameters: Any) -> AffineSubspace:
    method = MethodChoice(name=name, parameters=parameters).build()
    (item,) = prepare_pack(PROBLEMS[network], TASKS[network], method, [Trial(k=k, replicate=0, round=0)])
    assert isinstance(item.subspace, AffineSubspace), item.failure
    return item.subspace


def kept(subspace: AffineSubspace) -> list[int]:
    assert isinstance(subspace.operator, Coordinates)
    return subspace.operator.indices.tolist()


def layers(network: str) -> list[nn.Parameter]:
    """The initial weights as leaves of their own, float64."""
    problem = PROBLEMS[network]
    flat = problem.initial(0).double()
    return [nn.Parameter(flat[block.start : block.stop].view(block.shape).clone()) for block in problem.blocks]


def logits(parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Of the fully connected and the plain convolutional network, written again with functions of torch.nn."""
    values = inputs
    for weight, bias in zip(parts[:-2:2], parts[1:-2:2], strict=True):
        if weight.ndim == 4:
            values = functional.avg_pool2d(functional.conv2d(values, weight, bias, padding=1).relu(), 2)
        else:
            values = functional.linear(values.flatten(1), weight.T, bias).relu()
    return functional.linear(values.flatten(1), parts[-2].T, parts[-1])


def mean_loss(network: str, parts: Sequence[Tensor], examples: Tensor, temperature: float = 1.0) -> Tensor:
    problem = PROBLEMS[network]
    assert isinstance(problem, ClassificationProblem)
    found = logits(parts, problem.inputs[examples].double()) / temperature
    return functional.cross_entropy(found, problem.labels[examples])


def first_examples(network: str, count: int) -> Tensor:
    order = problems.BatchOrder(PROBLEMS[network], [0], count).examples(0)
    assert order is not None
    return order[0]


def flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().flatten() for part in parts])


def is_top(chosen: list[int], scores: Tensor) -> bool:
    """Whether what was kept scores at least what was not, but for the rounding of float32."""
    inside = torch.zeros(len(scores), dtype=torch.bool)
    inside[chosen] = True
    return bool(scores[inside].min() >= scores[~inside].max() - 1e-5 * scores.abs().max())


@pytest.mark.parametrize("network", ["mlp", "convnet"])
@pytest.mark.parametrize("k", [3, 11, 25])
def test_snip_keeps_the_largest_products_of_gradient_and_weight(network: str, k: int) -> None:
    parts = layers(network)
    gradients = torch.autograd.grad(mean_loss(network, parts, first_examples(network, 40)), parts)
    scores = flat([(part * gradient).abs() for part, gradient in zip(parts, gradients, strict=True)])
    chosen = kept(prepared(network, "snip_mask", k, examples=40))
    assert is_top(chosen, scores)
    assert len(chosen) == k


@pytest.mark.parametrize("network", ["mlp", "convnet"])
@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_grasp_keeps_the_largest_products_of_weight_and_hessian_gradient(network: str, temperature: float) -> None:
    parts = layers(network)
    loss = mean_loss(network, parts, first_examples(network, 40), temperature)
    gradients = torch.autograd.grad(loss, parts, create_graph=True)
    inner = sum((gradient * gradient.detach()).sum() for gradient in gradients)
    assert isinstance(inner, Tensor)
    products = torch.autograd.grad(inner, parts, allow_unused=True)
    scores = flat(
        [
            part * (torch.zeros_like(part) if product is None else product)
            for part, product in zip(parts, products, strict=True)
        ]
    )
    assert (scores < 0).any()
    for k in (3, 11):
        assert is_top(kept(prepared(network, "grasp_mask", k, examples=40, temperature=temperature)), scores)


@pytest.mark.parametrize("network", ["mlp", "convnet", "resnet"])
def test_products_with_the_hessian_are_differences_of_gradients(network: str) -> None:
    problem = PROBLEMS[network]
    generator = torch.Generator().manual_seed(0)
    weights = torch.stack([problem.initial(row) for row in range(2)]).double()
    vectors = torch.randn(weights.shape, generator=generator, dtype=torch.float64)
    assert isinstance(problem, ClassificationProblem)
    inputs = problem.inputs.double()
    examples = torch.stack([torch.arange(12), torch.arange(20, 32)])

    def gradient(at: Tensor) -> Tensor:
        return problem.network.loss_and_gradient(at, inputs, problem.labels, examples)[1]

    step = 1e-6
    expected = (gradient(weights + step * vectors) - gradient(weights - step * vectors)) / (2 * step)
    found = problem.hessian_vector(weights.float(), vectors.float(), examples)
    torch.testing.assert_close(found.double(), expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))


def flow_through(network: str, parts: Sequence[Tensor]) -> Tensor:
    """R of Tanaka et al. 2020, by networks of torch.nn without activations."""
    sizes = [part.abs() for part in parts]
    if network == "mlp":
        values = torch.ones(1, 6, dtype=torch.float64)
        return functional.linear(functional.linear(values, sizes[0].T, sizes[1]), sizes[2].T, sizes[3]).sum()
    values = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    for weight, bias in zip(sizes[:-2:2], sizes[1:-2:2], strict=True):
        values = functional.avg_pool2d(functional.conv2d(values, weight, bias, padding=1), 2)
    return functional.linear(values.flatten(1), sizes[-2].T, sizes[-1]).sum()


@pytest.mark.parametrize("network", ["mlp", "convnet"])
def test_synflow_keeps_what_its_algorithm_keeps(network: str) -> None:
    size = PROBLEMS[network].full_dimension
    for k in (2, 7, 20):
        parts, alive, scores = layers(network), torch.ones(size, dtype=torch.float64), torch.empty(size)
        for done in range(1, 101):
            with torch.no_grad():
                for part, block in zip(parts, PROBLEMS[network].blocks, strict=True):
                    part.mul_(alive[block.start : block.stop].view(block.shape))
            gradients = torch.autograd.grad(flow_through(network, parts), parts)
            scores = flat([(part * gradient).abs() for part, gradient in zip(parts, gradients, strict=True)])
            count = max(k, round(size * (k / size) ** (done / 100)))
            threshold = scores.sort(descending=True).values[count - 1]
            alive = (scores >= threshold).double() if threshold > 0 else alive * 0 + (scores > 0)
        chosen = kept(prepared(network, "synflow_mask", k))
        found = scores[torch.tensor(chosen)]  # ties at zero, where layers are used up, are for the lower index
        assert int((found > 0).sum()) == min(k, int((scores > 0).sum()))
        assert {place for place in chosen if scores[place] > 0} <= set(alive.nonzero()[:, 0].tolist())


def test_synflow_of_a_residual_network_sees_normalization_as_its_affine_map() -> None:
    """One residual group of one block without a shortcut, by hand: (1 + b a) through the stem, then the mean and the head."""
    task = make_task(
        BLOBS,
        {"problem": {"network": {"kind": "resnet", "blocks_per_group": 1, "widths": [1, 1, 1], "norm_groups": 1}}},
    )
    problem = problems.build(task, small_images())
    weights = problem.initial(0)
    scores = problem.synaptic_flow(weights)
    assert scores.dtype == torch.float64
    of = {block.name: scores[block.start : block.stop] for block in problem.blocks}
    total = of["head.weight"].sum()
    # R is linear in the stem's kernel, in its scale and, as biases are zero, in the head's weights: the same R three times.
    assert float(of["stem.conv.weight"].sum()) == pytest.approx(float(total))
    assert float(of["stem.norm.scale"].sum()) == pytest.approx(float(total))
    shifts = [name for name in of if name.endswith((".shift", ".bias"))]
    assert all(not of[name].any() for name in shifts)


def test_the_flow_is_conserved_from_layer_to_layer_and_looks_at_no_data() -> None:
    problem = PROBLEMS["mlp"]
    scores = problem.synaptic_flow(problem.initial(0))
    of = {block.name: float(scores[block.start : block.stop].sum()) for block in problem.blocks}
    assert of["layer0.weight"] == pytest.approx(of["layer1.weight"], rel=1e-12)
    other = small_problem(make_task(BLOBS))
    assert isinstance(other, ClassificationProblem)
    other.inputs.mul_(-3).add_(1)
    assert torch.equal(other.synaptic_flow(problem.initial(0)), scores)


def test_fish_keeps_the_largest_mean_squared_gradients_of_single_examples() -> None:
    examples = first_examples("mlp", 12)
    parts = layers("mlp")
    fisher = torch.zeros(PROBLEMS["mlp"].full_dimension, dtype=torch.float64)
    for one in examples:
        gradients = torch.autograd.grad(mean_loss("mlp", parts, one.unsqueeze(0)), parts)
        fisher += flat(gradients) ** 2 / 12
    for k in (1, 9, 30):
        subspace = prepared("mlp", "fish_mask", k, examples=12)
        assert is_top(kept(subspace), fisher)
        # All others stay where they were initialized, not at zero.
        assert torch.equal(subspace.map(subspace.start), PROBLEMS["mlp"].initial(0))


@pytest.mark.parametrize("without", [WELL, QUADRATIC], ids=lambda base: base["name"])
def test_fish_is_refused_where_there_are_no_single_examples(without: dict[str, Any]) -> None:
    """The square of the full gradient would rank parameters as its size does, which is not their Fisher information."""
    task = make_task(without)
    method = MethodChoice(name="fish_mask").build()
    (item,) = prepare_pack(small_problem(task), task, method, [Trial(k=3, replicate=0, round=0)])
    assert item.subspace is None
    assert "squares the gradients of single examples, and this problem has none" in item.failure


@pytest.mark.parametrize("squared", [WELL, QUADRATIC, PIXELS, ARENAS], ids=lambda base: base["name"])
def test_grasp_divides_nothing_by_a_temperature_where_no_softmax_is_smoothed(squared: dict[str, Any]) -> None:
    """Its scores are w * (Hg) at the weights themselves, as differences of gradients give them, at any temperature."""
    task = make_task(squared)
    problem = small_problem(task)
    weights = problem.initial(0).unsqueeze(0)
    examples = problems.BatchOrder(problem, [0], 40).examples(0)
    _, gradient = problem.loss_and_gradient(weights, examples)
    step = 1e-2 / gradient.norm()
    ahead, behind = (problem.loss_and_gradient(weights + sign * step * gradient, examples)[1] for sign in (1, -1))
    scores = (weights * (ahead - behind) / (2 * step))[0]
    for temperature in (1.0, 200.0):
        method = MethodChoice(name="grasp_mask", parameters={"examples": 40, "temperature": temperature}).build()
        (item,) = prepare_pack(problem, task, method, [Trial(k=5, replicate=0, round=0)])
        assert isinstance(item.subspace, AffineSubspace), item.failure
        inside = torch.zeros(len(scores), dtype=torch.bool)
        inside[kept(item.subspace)] = True
        assert scores[inside].min() >= scores[~inside].max() - 1e-2 * scores.abs().max()


def test_error_norms_are_those_of_each_example() -> None:
    problem = PROBLEMS["convnet"]
    assert isinstance(problem, ClassificationProblem)
    weights = torch.stack([problem.initial(0), problem.initial(1)])
    found = problem.error_norms(weights)
    assert found.shape == (2, 70)
    parts = layers("convnet")
    wrong = logits(parts, problem.inputs.double()).softmax(dim=1) - functional.one_hot(problem.labels, 3)
    torch.testing.assert_close(found[0].double(), wrong.norm(dim=1).detach(), rtol=1e-4, atol=1e-5)


def test_a_score_for_weights_alone_keeps_every_bias() -> None:
    biases = {
        place
        for block in PROBLEMS["convnet"].blocks
        if block.role == "bias"
        for place in range(block.start, block.stop)
    }
    for name in ("snip_mask", "grasp_mask"):
        assert biases < set(kept(prepared("convnet", name, len(biases) + 4, scope="weights")))


def test_blocks_are_what_this_test_takes_them_for() -> None:
    assert all(isinstance(block, Block) for problem in PROBLEMS.values() for block in problem.blocks)
    assert [len(problem.blocks) for problem in (PROBLEMS["mlp"], PROBLEMS["convnet"])] == [4, 6]
