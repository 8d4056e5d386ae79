"""Networks are what the papers say: their parameters, losses and gradients agree with independent implementations."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from lowdim_bench.errors import UserError
from lowdim_bench.problems.networks import PackedNetwork, build_network
from lowdim_bench.specs.problem import ConvNetwork, MlpNetwork, Network, ResNetwork

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


def mlp(*hidden: int) -> MlpNetwork:
    return MlpNetwork(kind="mlp", hidden=hidden)


def conv(*channels: int) -> ConvNetwork:
    return ConvNetwork(kind="convnet", channels=channels)


RESNET = ResNetwork(kind="resnet")


@pytest.mark.parametrize(
    ("network", "shape", "classes", "count"),
    [
        (mlp(32), (1, 8, 8), 10, 2_410),
        (mlp(32), (64,), 10, 2_410),
        (mlp(), (64,), 10, 650),
        (mlp(200, 200), MNIST, 10, 199_210),
        (mlp(300, 100), MNIST, 10, 266_610),
        (conv(16, 32), MNIST, 10, 20_490),
        (conv(16, 32), CIFAR, 10, 25_578),
        (conv(32, 64, 64), MNIST, 10, 61_514),
        (conv(32, 64, 64), CIFAR, 10, 66_570),
        (conv(32, 64, 64, 128), MNIST, 10, 130_890),
        (conv(32, 64, 64, 128), CIFAR, 10, 135_306),
        (RESNET, CIFAR, 10, 272_474),
        (RESNET, CIFAR, 100, 278_324),
    ],
)
def test_networks_have_as_many_parameters_as_the_papers_say(
    network: Network, shape: tuple[int, ...], classes: int, count: int
) -> None:
    built = build_network(network, shape, classes)
    assert built.full_dimension == count
    assert built.blocks[0].start == 0
    assert all(before.stop == after.start for before, after in zip(built.blocks, built.blocks[1:], strict=False))
    assert len({block.name for block in built.blocks}) == len(built.blocks)


class Residual(nn.Module):
    def __init__(self, before: int, after: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm0 = nn.GroupNorm(groups, after)
        self.conv1 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.GroupNorm(groups, after))

    def forward(self, values: Tensor) -> Tensor:
        branch = self.norm1(self.conv1(torch.relu(self.norm0(self.conv0(values)))))
        return torch.relu(branch + self.shortcut(values))


def reference_mlp(inputs: int, hidden: Sequence[int], classes: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in zip([inputs, *hidden], [*hidden, classes], strict=True):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def reference_conv(image: tuple[int, int, int], channels: Sequence[int], classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in zip([image[0], *channels], channels, strict=False):
        layers += [nn.Conv2d(before, after, 3, padding="same"), nn.ReLU(), nn.AvgPool2d(2)]
    side = 2 ** len(channels)
    features = channels[-1] * (image[1] // side) * (image[2] // side)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, classes))


def reference_resnet(channels: int, widths: Sequence[int], blocks: int, groups: int, classes: int) -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(channels, widths[0], 3, padding=1, bias=False),
        nn.GroupNorm(groups, widths[0]),
        nn.ReLU(),
    ]
    before = widths[0]
    for group, after in enumerate(widths):
        for block in range(blocks):
            layers.append(Residual(before, after, 2 if group and not block else 1, groups))
            before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def reference_losses(
    module: nn.Module, network: PackedNetwork, weights: Tensor, inputs: Tensor, labels: Tensor
) -> Tensor:
    """Losses of a torch module whose parameters, in their order, come from our flat vectors."""
    losses = []
    for row, flat in enumerate(weights):
        names = [name for name, _ in module.named_parameters()]
        values = [flat[block.start : block.stop].view(block.shape) for block in network.blocks]
        # torch keeps dense weights as (outputs, inputs), we as (inputs, outputs)
        parameters = {n: v.T if block.role == "weight" and v.ndim == 2 else v
                      for n, v, block in zip(names, values, network.blocks, strict=True)}  # fmt: skip
        logits = functional_call(module, parameters, (inputs[row if len(inputs) > 1 else 0],))
        losses.append(functional.cross_entropy(logits, labels[row]))
    return torch.stack(losses)


CASES: dict[str, tuple[Any, tuple[int, ...], Callable[[], nn.Module]]] = {
    "linear": (mlp(), (7,), lambda: reference_mlp(7, [], 4)),
    "mlp": (mlp(6, 5), (7,), lambda: reference_mlp(7, [6, 5], 4)),
    "mlp on images": (mlp(6), (2, 3, 3), lambda: reference_mlp(18, [6], 4)),
    "deep mlp": (mlp(5, 5, 5, 5), (7,), lambda: reference_mlp(7, [5, 5, 5, 5], 4)),
    "convnet": (conv(3, 5), (2, 9, 8), lambda: reference_conv((2, 9, 8), [3, 5], 4)),
    "resnet": (
        ResNetwork(kind="resnet", blocks_per_group=2, widths=(4, 6, 8), norm_groups=2),
        (3, 8, 8),
        lambda: reference_resnet(3, [4, 6, 8], 2, 2, 4),
    ),
    "resnet whose first width changes": (
        ResNetwork(kind="resnet", blocks_per_group=1, widths=(4, 4, 8), norm_groups=4),
        (1, 8, 8),
        lambda: reference_resnet(1, [4, 4, 8], 1, 4, 4),
    ),
}


def draw(
    network: PackedNetwork, shape: tuple[int, ...], dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three parameter vectors, twenty labelled examples, and eleven of these for each vector."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(3, network.full_dimension, generator=generator, dtype=torch.float64) * 0.3
    inputs = torch.randn(20, *shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (20,), generator=generator)
    picked = torch.stack([torch.randperm(20, generator=generator)[:11] for _ in range(3)])
    return weights.to(dtype), inputs.to(dtype), labels, picked


def expected_of(case: str, network: PackedNetwork, everything: bool) -> tuple[Tensor, Tensor]:
    """Losses and gradients in float64 by autograd of torch's own modules."""
    weights, inputs, labels, picked = draw(network, CASES[case][1])
    seen = torch.arange(20).expand(3, -1) if everything else picked
    leaf = weights.requires_grad_()
    losses = reference_losses(CASES[case][2](), network, leaf, inputs[seen], labels[seen])
    return losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]


PRECISIONS = {"float64": (torch.float64, 1e-10), "float32, compiled where there are kernels": (torch.float32, 2e-5)}


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS.values(), ids=PRECISIONS)
@pytest.mark.parametrize("everything", [True, False], ids=["all examples", "own examples"])
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_agree_with_autograd_of_torch_modules(
    case: str, everything: bool, dtype: torch.dtype, tolerance: float
) -> None:
    spec, shape, _ = CASES[case]
    network = build_network(spec, shape, 4)
    expected, slope = expected_of(case, network, everything)
    weights, inputs, labels, picked = draw(network, shape, dtype)
    before = weights.clone(), inputs.clone()
    loss, gradient = network.loss_and_gradient(weights, inputs, labels, None if everything else picked)
    assert loss.dtype == gradient.dtype == dtype
    torch.testing.assert_close(loss.double(), expected, rtol=tolerance, atol=0)
    torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=tolerance * float(slope.abs().max()))
    assert not gradient.requires_grad
    assert torch.equal(weights, before[0])
    assert torch.equal(inputs, before[1])


NARROW_RESNET = """
import torch
from lowdim_bench.problems.networks import build_network
from lowdim_bench.specs.problem import ResNetwork

torch.set_num_threads(1)
network = build_network(ResNetwork(kind="resnet", blocks_per_group=1, widths=(4, 8, 12), norm_groups=2), (3, 16, 16), 4)
generator = torch.Generator().manual_seed(5)
weights = torch.randn(2, network.full_dimension, generator=generator, dtype=torch.float64) * 0.3
inputs, labels = torch.randn(32, 3, 16, 16, generator=generator, dtype=torch.float64), torch.arange(32) % 4
slope = network.loss_and_gradient(weights, inputs, labels, None)[1]
for _ in range(20):
    gradient = network.loss_and_gradient(weights.float(), inputs.float(), labels, None)[1]
    torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=2e-5 * float(slope.abs().max()))
"""


def test_a_residual_network_of_few_channels_trains_where_registers_are_short() -> None:
    # github.com/uxlfoundation/oneDNN/issues/6035: with AVX2 alone, torch's way back through 1 x 1 convolutions with a stride
    # wrote beyond its memory. The variable makes it choose as such a processor does.
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", NARROW_RESNET], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS.values(), ids=PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_measures_agree_with_torch_modules(case: str, dtype: torch.dtype, tolerance: float) -> None:
    spec, shape, _ = CASES[case]
    network = build_network(spec, shape, 4)
    weights, inputs, labels, _ = draw(network, shape, dtype)
    loss, accuracy = network.measure(weights, inputs, labels)
    expected, _ = expected_of(case, network, everything=True)
    logits = network.forward(network.split(weights.double()), inputs.double().unsqueeze(0))
    right = (logits.argmax(dim=2) == labels).double().mean(dim=1)
    assert loss.dtype == accuracy.dtype == torch.float64
    torch.testing.assert_close(loss, expected, rtol=tolerance, atol=0)
    torch.testing.assert_close(accuracy, right, rtol=1e-12, atol=0)


def test_a_row_gets_the_same_bits_in_every_pack() -> None:
    for spec, shape, _ in CASES.values():
        network = build_network(spec, shape, 4)
        weights, inputs, labels, picked = draw(network, shape, torch.float32)
        loss, gradient = network.loss_and_gradient(weights, inputs, labels, picked)
        measured = network.measure(weights, inputs, labels)
        for row in range(3):
            only = slice(row, row + 1)
            own = weights[only].clone()  # not where it lies in the pack: bits may depend on alignment
            alone = network.loss_and_gradient(own, inputs, labels, picked[only])
            assert torch.equal(loss[only], alone[0])
            assert torch.equal(gradient[only], alone[1])
            for value, expected in zip(network.measure(own, inputs, labels), measured, strict=True):
                assert torch.equal(value, expected[only])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_that_is_not_finite_leaves_the_others_as_they_are(value: float, dtype: torch.dtype) -> None:
    for spec, shape, _ in CASES.values():
        network = build_network(spec, shape, 4)
        weights, inputs, labels, picked = draw(network, shape, dtype)
        loss, gradient = network.loss_and_gradient(weights, inputs, labels, picked)
        measured, _ = network.measure(weights, inputs, labels)
        broken = weights.clone()
        broken[1] = value
        loss_beside, gradient_beside = network.loss_and_gradient(broken, inputs, labels, picked)
        measured_beside, _ = network.measure(broken, inputs, labels)
        assert not loss_beside[1].isfinite()
        assert not gradient_beside[1].isfinite().all()
        assert not measured_beside[1].isfinite()
        for row in (0, 2):
            torch.testing.assert_close(loss_beside[row], loss[row])
            torch.testing.assert_close(gradient_beside[row], gradient[row])
            torch.testing.assert_close(measured_beside[row], measured[row])


@pytest.mark.parametrize(("spec", "shape"), [(mlp(200, 200), MNIST), (conv(32, 64, 64), CIFAR), (RESNET, CIFAR)])
def test_initial_weights_are_lecun_normal_biases_zero_and_scales_one(spec: Network, shape: tuple[int, ...]) -> None:
    network = build_network(spec, shape, 10)
    weights = network.initial(torch.Generator().manual_seed(1))
    standard = []
    for block in network.blocks:
        values = weights[block.start : block.stop]
        if block.role == "weight":
            fan_in = block.shape[0] if len(block.shape) == 2 else math.prod(block.shape[1:])
            assert block.fan_in == fan_in
            standard.append(values * math.sqrt(fan_in))
            assert float(standard[-1].std()) == pytest.approx(1, abs=4 / math.sqrt(2 * len(values)))
        else:
            assert bool((values == (1.0 if block.role == "norm_scale" else 0.0)).all())
    pooled = torch.cat(standard).numpy().astype(np.float64)
    # flax: normal, cut at two deviations before it is rescaled to variance 1 / fan-in
    deviation = 1 / stats.truncnorm.std(-2, 2)
    assert np.abs(pooled).max() <= 2 * deviation * (1 + 1e-6)
    assert pooled.std() == pytest.approx(1, abs=0.02)
    assert stats.kstest(pooled[:20_000], stats.truncnorm(-2, 2, scale=deviation).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("spec", "shape", "reason"),
    [
        (conv(4), (64,), "A convnet needs images"),
        (RESNET, (64,), "A resnet needs images"),
        (conv(4, 4, 4, 4), (1, 8, 8), "4 poolings need images of at least 16 pixels a side"),
        (ResNetwork(kind="resnet", widths=(16, 32, 60)), CIFAR, "must divide every width"),
    ],
)
def test_a_network_that_does_not_fit_its_data_is_refused(spec: Network, shape: tuple[int, ...], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        build_network(spec, shape, 10)
