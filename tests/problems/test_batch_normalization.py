"""Batch normalization: training by the batch's own statistics, evaluation by those of the training set at the same weights."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torchvision.models import resnet18

from lowdim_bench import problems
from lowdim_bench.errors import MethodFailure, UserError
from lowdim_bench.landscape import average, linear_path
from lowdim_bench.problems.classification import ClassificationProblem
from lowdim_bench.problems.networks import BatchNormalizedConvNet, PackedNetwork, build_network
from lowdim_bench.problems.networks.batch_normalized import BatchNormalizedNetwork
from lowdim_bench.problems.networks.torchvision_models import TorchvisionModel
from lowdim_bench.specs.problem import BatchNormalization, Classification, ConvNetwork, TorchvisionNetwork
from tests.problems.small import BLOBS, make_task, merged, small_images

SHAPE, CLASSES = (2, 9, 8), 4
NORMALIZED = {"kind": "convnet", "channels": [3], "normalization": {"kind": "batch"}}


def convnet(*channels: int, examples: int = 2048) -> BatchNormalizedConvNet:
    spec = ConvNetwork(
        kind="convnet",
        channels=channels,
        normalization=BatchNormalization(kind="batch", statistics_examples=examples),
    )
    built = build_network(spec, SHAPE, CLASSES)
    assert isinstance(built, BatchNormalizedConvNet)
    return built


def torch_convnet(*channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in zip([SHAPE[0], *channels], channels, strict=False):
        layers += [
            nn.Conv2d(before, after, 3, padding="same", bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.AvgPool2d(2),
        ]
    side = 2 ** len(channels)
    features = channels[-1] * (SHAPE[1] // side) * (SHAPE[2] // side)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, CLASSES)).double()


def parameters(module: nn.Module, network: PackedNetwork, flat: Tensor) -> dict[str, Tensor]:
    """A module's own parameters, from a flat vector."""
    names = [name for name, _ in module.named_parameters()]
    values = [flat[block.start : block.stop].view(block.shape) for block in network.blocks]
    return {name: value.T if value.ndim == 2 else value for name, value in zip(names, values, strict=True)}


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [one for one in module.modules() if isinstance(one, nn.BatchNorm2d)]


def draw(network: PackedNetwork, count: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(3, network.full_dimension, generator=generator, dtype=torch.float64) * 0.5
    inputs = torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)
    return weights, inputs, torch.randint(0, CLASSES, (count,), generator=generator)


def test_parameters_are_counted_without_statistics() -> None:
    network = convnet(3, 5)
    assert network.full_dimension == 2 * 3 * 9 + 2 * 3 + 3 * 5 * 9 + 2 * 5 + 5 * 2 * 2 * CLASSES + CLASSES
    assert network.full_dimension == sum(p.numel() for p in torch_convnet(3, 5).parameters())
    assert [block.role for block in network.blocks[:3]] == ["weight", "norm_scale", "bias"]


@pytest.mark.parametrize("everything", [True, False], ids=["all examples", "own examples"])
def test_training_is_that_of_torch_s_modules(everything: bool) -> None:
    network, module = convnet(3, 5), torch_convnet(3, 5).train()
    weights, inputs, labels = draw(network)
    picked = torch.stack([torch.randperm(20, generator=torch.Generator().manual_seed(row))[:11] for row in range(3)])
    loss, gradient = network.loss_and_gradient(weights, inputs, labels, None if everything else picked)
    for row, flat in enumerate(weights):
        seen = torch.arange(20) if everything else picked[row]
        leaf = flat.clone().requires_grad_()
        logits = functional_call(module, parameters(module, network, leaf), (inputs[seen],))
        expected = functional.cross_entropy(logits, labels[seen])
        (slope,) = torch.autograd.grad(expected, leaf)
        torch.testing.assert_close(loss[row], expected.detach(), rtol=1e-10, atol=0)
        torch.testing.assert_close(gradient[row], slope, rtol=0, atol=1e-10 * float(slope.abs().max()))


def test_an_evaluation_with_statistics_set_by_hand_is_that_of_torch_s_modules() -> None:
    network, module = convnet(3, 5), torch_convnet(3, 5).eval()
    weights, inputs, _ = draw(network)
    by_hand = torch.rand(16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    first, second = norms(module)
    assert first.running_mean is not None
    assert first.running_var is not None
    assert second.running_mean is not None
    assert second.running_var is not None
    first.running_mean.copy_(by_hand[:3])
    first.running_var.copy_(by_hand[3:6])
    second.running_mean.copy_(by_hand[6:11])
    second.running_var.copy_(by_hand[11:])
    logits = network.evaluate(network.split(weights), inputs.unsqueeze(0), by_hand.expand(3, -1))
    for row, flat in enumerate(weights):
        expected = functional_call(module, parameters(module, network, flat), (inputs,))
        torch.testing.assert_close(logits[row], expected, rtol=1e-10, atol=1e-12)


def test_statistics_are_those_that_torch_s_modules_see_of_the_first_examples() -> None:
    network, module = convnet(3, 5, examples=13), torch_convnet(3, 5).train()
    weights, inputs, labels = draw(network)
    for one in norms(module):
        one.momentum = 1.0  # running averages forget all but the last batch
    found = network.statistics(weights, inputs)
    for row, flat in enumerate(weights):
        functional_call(module, parameters(module, network, flat), (inputs[:13],))
        expected = []
        for one, values in zip(norms(module), (13 * 9 * 8, 13 * 4 * 4), strict=True):
            assert one.running_mean is not None
            assert one.running_var is not None
            expected += [one.running_mean, one.running_var * (values - 1) / values]  # torch keeps the unbiased one
        torch.testing.assert_close(found[row], torch.cat(expected), rtol=1e-10, atol=1e-12)
    # A test set is normalized by the training set's statistics.
    logits = network.evaluate(network.split(weights), inputs[13:].unsqueeze(0), found)
    losses = [functional.cross_entropy(one, labels[13:]) for one in logits]
    loss, accuracy = network.measure(weights, inputs[13:], labels[13:], inputs)
    assert loss.tolist() == pytest.approx([float(one) for one in losses])
    assert accuracy.tolist() == pytest.approx((logits.argmax(dim=2) == labels[13:]).double().mean(dim=1).tolist())


def test_the_loss_of_a_training_set_is_the_one_that_full_gradients_go_down() -> None:
    """And products with the Hessian are of that loss, its statistics moving with the weights."""
    network = convnet(3)
    weights, inputs, labels = draw(network)
    step = 1e-7 * torch.randn(weights.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    up, down = (network.measure(weights + sign * step, inputs, labels)[0] for sign in (1, -1))
    loss, slope = network.loss_and_gradient(weights, inputs, labels, None)
    torch.testing.assert_close(network.measure(weights, inputs, labels)[0], loss, rtol=1e-12, atol=0)
    torch.testing.assert_close((up - down) / 2, (slope * step).sum(dim=1), rtol=1e-4, atol=1e-13)
    slopes = [network.loss_and_gradient(weights + sign * step, inputs, labels, None)[1] for sign in (1, -1)]
    product = network.hessian_vector(weights, step, inputs, labels, None)
    torch.testing.assert_close(product, (slopes[0] - slopes[1]) / 2, rtol=1e-3, atol=1e-11)


def small_problem(changes: dict[str, Any] | None = None) -> ClassificationProblem:
    task = make_task(merged(BLOBS, merged({"problem": {"network": NORMALIZED}}, changes or {})))
    problem = problems.build(task, small_images())
    assert isinstance(problem, ClassificationProblem)
    return problem


def test_an_evaluation_remembers_nothing_and_depends_on_no_neighbour() -> None:
    problem = small_problem()
    weights = torch.stack([problem.initial(replicate) for replicate in range(3)])
    before = problem.train_metrics(weights)
    problem.loss_and_gradient(3 * weights, torch.arange(12).expand(3, -1))
    problem.train_metrics(-weights)
    after = problem.train_metrics(weights)
    assert torch.equal(before.loss, after.loss)
    for row in range(3):
        assert torch.equal(problem.train_metrics(weights[row : row + 1].clone()).loss, before.loss[row : row + 1])
    assert torch.equal(problem.test_predictions(weights)[0], problem.test_predictions(weights[:1])[0])
    found = (problem.test_predictions(weights) == problem._test_labels).double().mean(dim=1)
    assert problem.test_accuracy(weights).tolist() == pytest.approx(found.tolist())


def test_statistics_are_taken_anew_at_every_point_of_a_path_and_at_averages() -> None:
    """Of weights between two others, torch's own layers normalize the training set as one batch."""
    problem = small_problem()
    ends = torch.stack([3 * problem.initial(0), 3 * problem.initial(1)])
    kernel, scale, shift, head, bias = problem.network.split(ends.mean(dim=0, keepdim=True).double())
    values = functional.conv2d(problem.inputs.double(), kernel[0], padding=1)
    values = functional.batch_norm(values, None, None, scale[0], shift[0], training=True)
    logits = functional.avg_pool2d(values.relu(), 2).flatten(1) @ head[0] + bias[0]
    expected = float(functional.cross_entropy(logits, problem.labels))
    path = linear_path(problem, ends[0], ends[1], points=3)
    assert path.losses[1] == pytest.approx(expected, rel=1e-5)
    assert average(problem, ends).loss == pytest.approx(expected, rel=1e-5)
    # Statistics of an end, or averaged between the ends, are other numbers.
    inputs = problem.inputs.unsqueeze(0)
    of_ends = problem.network.statistics(ends, problem.inputs)
    assert of_ends is not None
    middle = problem.network.split(ends.mean(dim=0, keepdim=True))
    for held in (of_ends[:1], of_ends.mean(dim=0, keepdim=True)):
        stale = functional.cross_entropy(problem.network.evaluate(middle, inputs, held)[0], problem.labels)
        assert abs(float(stale) - expected) > 0.01 * expected


def test_the_scale_of_a_normalized_convolution_does_not_matter() -> None:
    problem = small_problem()
    weights = problem.initial(0)
    scaled = weights.clone()
    kernel = problem.blocks[0]
    scaled[kernel.start : kernel.stop] *= 3
    one, other = problem.train_metrics(torch.stack([weights, scaled])).loss
    assert float(one) == pytest.approx(float(other), rel=1e-4)
    flow = problem.synaptic_flow(weights), problem.synaptic_flow(scaled)
    assert float(flow[1].sum()) == pytest.approx(3 * float(flow[0].sum())), "no normalization in a synaptic flow"


def test_a_single_example_cannot_be_normalized() -> None:
    problem = small_problem()
    with pytest.raises(MethodFailure, match="a single example, but this network normalizes batches"):
        problem.loss_and_gradient(problem.initial(0).unsqueeze(0), torch.zeros(1, 1, dtype=torch.int64))
    with pytest.raises(UserError, match=r"batch normalization needs a full_training.batch_size of at least 2"):
        make_task(BLOBS, {"problem": {"network": NORMALIZED}, "full_training": {"batch_size": 1}})
    with pytest.raises(ValidationError):
        BatchNormalization(kind="batch", statistics_examples=1)


@pytest.fixture(scope="module")
def resnet() -> TorchvisionModel:
    spec = TorchvisionNetwork(kind="torchvision", model="resnet18", statistics_examples=9)
    built = build_network(spec, (3, 16, 16), CLASSES)
    assert isinstance(built, TorchvisionModel)
    return built


@pytest.fixture(scope="module")
def module(resnet: TorchvisionModel) -> tuple[nn.Module, Tensor]:
    """torchvision's own module, and its parameters as a flat vector, in float64."""
    torch.manual_seed(0)
    own = resnet18(num_classes=CLASSES).double()
    return own, torch.cat([(p.T if p.ndim == 2 else p).detach().flatten() for p in own.parameters()])


def images(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(count, 3, 16, 16, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, CLASSES, (count,), generator=generator)


@pytest.mark.parametrize(("model", "classes", "count"), [("resnet18", 10, 11_181_642), ("resnet50", 1000, 25_557_032)])
def test_torchvision_s_networks_have_as_many_parameters_as_torchvision_says(
    model: Any, classes: int, count: int
) -> None:
    network = build_network(TorchvisionNetwork(kind="torchvision", model=model), (3, 32, 32), classes)
    assert network.full_dimension == count
    assert network.blocks[-2].shape == (512 if model == "resnet18" else 2048, classes)


def test_resnet18_trains_as_torchvision_s_module_does(
    resnet: TorchvisionModel, module: tuple[nn.Module, Tensor]
) -> None:
    own, flat = module
    inputs, labels = images(6)
    loss, gradient = resnet.loss_and_gradient(flat.unsqueeze(0), inputs, labels, None)
    own.train()
    own.zero_grad()
    expected = functional.cross_entropy(own(inputs), labels)
    expected.backward()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-9)
    slopes = [p.grad for p in own.parameters()]
    slope = torch.cat([(one.T if one.ndim == 2 else one).flatten() for one in slopes if one is not None])
    torch.testing.assert_close(gradient[0], slope, rtol=0, atol=1e-8 * float(slope.abs().max()))


def test_resnet18_is_evaluated_as_torchvision_s_module_is(
    resnet: TorchvisionModel, module: tuple[nn.Module, Tensor]
) -> None:
    """Its statistics are those of one batch of the first examples, for which its running averages are set to forget."""
    own, flat = module
    inputs, _ = images(12)
    sizes: dict[nn.Module, int] = {}
    watched = norms(own)
    hooks = [
        one.register_forward_pre_hook(lambda norm, given: sizes.update({norm: given[0].numel() // given[0].shape[1]}))
        for one in watched
    ]
    for one in watched:
        one.momentum = 1.0
    with torch.no_grad():
        own.train()(inputs[:9])
        for hook in hooks:
            hook.remove()
        for one in watched:
            assert one.running_var is not None
            one.running_var *= (sizes[one] - 1) / sizes[one]
        expected = own.eval()(inputs)
        found = resnet.statistics(flat.unsqueeze(0), inputs)
        logits = resnet.evaluate(resnet.split(flat.unsqueeze(0)), inputs.unsqueeze(0), found)
    torch.testing.assert_close(logits[0], expected, rtol=1e-8, atol=1e-9)
    assert not own.training


def test_resnet18_starts_as_torchvision_starts_it_from_the_task_s_seeds(resnet: TorchvisionModel) -> None:
    state = torch.get_rng_state()
    one, again, other = (resnet.initial(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state), "torch's global state is left as it was"
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    for block in resnet.blocks:
        values = one[block.start : block.stop]
        if block.role == "norm_scale":
            assert bool((values == 1).all())
        elif len(block.shape) == 4:  # torchvision's: He et al. 2015, by the fan-out
            deviation = math.sqrt(2 / (block.shape[0] * block.shape[2] * block.shape[3]))
            assert float(values.std()) == pytest.approx(deviation, rel=0.05)
            assert block.fan_in == math.prod(block.shape[1:])


def test_threads_do_not_get_into_each_other_s_way(resnet: TorchvisionModel) -> None:
    """Verification looks at several certificates at a time."""
    weights = torch.stack([resnet.initial(torch.Generator().manual_seed(seed)) for seed in range(4)])
    inputs, labels = images(12)

    def measure(row: int) -> Tensor:
        return resnet.measure(weights[row : row + 1].clone(), inputs.float(), labels)[0]

    def initial(seed: int) -> Tensor:
        return resnet.initial(torch.Generator().manual_seed(seed))

    alone = [measure(row) for row in range(4)]
    with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        together = list(pool.map(measure, list(range(4)) * 3))
        drawn = list(pool.map(initial, range(4)))
    assert together == alone * 3
    assert torch.equal(torch.stack(drawn), weights)


def test_resnet18_without_normalization_flows(resnet: TorchvisionModel) -> None:
    """Where nothing is negative it is positively homogeneous in each layer, so that each gets the same flow through it."""
    flow = resnet.synaptic_flow(resnet.initial(torch.Generator().manual_seed(1)), (3, 8, 8))
    assert bool((flow >= 0).all())
    by_name = {block.name: float(flow[block.start : block.stop].sum()) for block in resnet.blocks}
    assert by_name["conv1.weight"] == pytest.approx(by_name["bn1.weight"], rel=1e-9)
    assert by_name["fc.weight"] == pytest.approx(by_name["conv1.weight"], rel=1e-9), "with biases of zero"


def test_grey_images_are_given_in_all_colours_and_others_refused(resnet: TorchvisionModel) -> None:
    grey = images(4)[0][:, :1]
    parts = resnet.split(resnet.initial(torch.Generator().manual_seed(1)).double().unsqueeze(0))
    coloured = resnet.forward(parts, grey.repeat(1, 3, 1, 1).unsqueeze(0))
    torch.testing.assert_close(resnet.forward(parts, grey.unsqueeze(0)), coloured, rtol=1e-8, atol=1e-9)
    with pytest.raises(UserError, match="takes images of 1 or 3 channels; the data has 2"):
        build_network(TorchvisionNetwork(kind="torchvision", model="resnet18"), (2, 8, 8), 10)
    with pytest.raises(ValidationError, match="resnet18"):
        TorchvisionNetwork.model_validate({"kind": "torchvision", "model": "vgg16"})


def test_all_of_them_are_networks_that_normalize_batches(resnet: TorchvisionModel) -> None:
    assert isinstance(resnet, BatchNormalizedNetwork)
    spec, plain = small_problem().task.problem, make_task(BLOBS).problem
    assert isinstance(spec, Classification)
    assert isinstance(plain, Classification)
    assert (spec.normalizes_batches, plain.normalizes_batches) == (True, False)
