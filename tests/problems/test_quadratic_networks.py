"""Quadratic networks: losses, gradients and optimum agree with the examples themselves, and widths count as they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lowdim_bench import problems
from lowdim_bench.audit import measure
from lowdim_bench.engine import Span, train
from lowdim_bench.errors import UserError
from lowdim_bench.methods.width import Width
from lowdim_bench.parametrizations import AffineSubspace, Coordinates
from lowdim_bench.parametrizations.draws import draw_mask
from lowdim_bench.problems import Ledger, MeteredProblem
from lowdim_bench.problems.networks.base import split
from lowdim_bench.problems.quadratic_networks import QuadraticNetworkProblem, planted_examples
from lowdim_bench.records import Spending
from lowdim_bench.specs.problem import PlantedPolynomial, QuadraticNetwork
from tests.problems.small import QUADRATIC, make_task

PLANTED = ("identity", "mixed_signs", "gaussian", "low_rank", "random_labels")
VARIANTS = ("plain", "norm", "orthogonal")


def problem(
    planted: str = "gaussian", layers: int = 1, variant: str = "plain", hidden: int = 3, steps: int = 12, **data: Any
) -> QuadraticNetworkProblem:
    data = {"planted": planted, "degree": 2 * layers, "dimension": 4, "examples": 90} | data
    changes = {
        "problem": {"data": data, "quadratic_layers": layers, "variant": variant, "hidden": hidden},
        "training": {"steps": steps},
    }
    return QuadraticNetworkProblem(make_task(QUADRATIC, changes), torch.device("cpu"))


def outputs(one: QuadraticNetworkProblem, weights: Tensor, x: Tensor) -> Tensor:
    """y(x) (N,) of one parameter vector, neuron by neuron as the paper writes it."""
    spec = one.task.problem
    assert isinstance(spec, QuadraticNetwork)
    parts = {block.name: part[0] for block, part in zip(one.blocks, split(one.blocks, weights[None]), strict=True)}
    for layer in range(spec.quadratic_layers):
        units, into = parts[f"layer{layer}.units"], parts[f"layer{layer}.outputs"]
        y = (x @ units).square() @ into
        if spec.variant == "norm":
            y = y + parts[f"layer{layer}.norm"] * x.square().sum(dim=1, keepdim=True)
        x = y
    return x.squeeze(1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layers", [1, 2])
def test_the_loss_is_the_normalized_residual_of_all_examples_above_the_optimum(layers: int, variant: str) -> None:
    one = problem("random_labels", layers, variant)
    x, y = torch.from_numpy(one.inputs), torch.from_numpy(one.values)
    weights = torch.stack([one.initial(0), 0.5 * one.initial(1) + 0.1])
    found = one.train_metrics(weights)
    for row, vector in enumerate(weights.double()):
        residual = (outputs(one, vector, x) - y).square().sum() / y.square().sum()
        assert float(found.loss[row]) == pytest.approx(float(residual) - one.optimum, rel=1e-9)
    assert found.accuracy is None
    assert one.test_accuracy(weights) is None
    assert one.example_count is None


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layers", [1, 2])
def test_gradients_are_those_of_the_examples_in_float64(layers: int, variant: str) -> None:
    one = problem("gaussian", layers, variant)
    x, y = torch.from_numpy(one.inputs), torch.from_numpy(one.values)
    weights = torch.stack([one.initial(0), one.initial(1)])
    losses, gradients = one.loss_and_gradient(weights, None)
    for row, vector in enumerate(weights.double()):
        vector.requires_grad_()
        loss = (outputs(one, vector, x) - y).square().mean()
        if variant == "orthogonal":
            for block, part in zip(one.blocks, split(one.blocks, vector[None]), strict=True):
                if block.name.endswith("units"):
                    loss = loss + (part[0] @ part[0].T - torch.eye(block.shape[0])).square().sum()
        (expected,) = torch.autograd.grad(loss, vector)
        torch.testing.assert_close(
            gradients[row].double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
        )
        assert float(losses[row]) == pytest.approx(float(loss.detach()) - one.optimum, rel=1e-4)


def test_products_with_the_hessian_are_slopes_of_the_gradient() -> None:
    one = problem("gaussian", 2, "norm")
    weights, vectors = (torch.stack([one.initial(r).double() for r in rows]) for rows in ((0, 1), (2, 3)))
    up, down = (one.loss_and_gradient(weights + sign * 1e-5 * vectors, None)[1] for sign in (1, -1))
    torch.testing.assert_close(one.hessian_vector(weights, vectors, None), (up - down) / 2e-5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("degree", [2, 4])
@pytest.mark.parametrize("planted", PLANTED)
def test_planted_values_lie_within_reach_and_random_labels_do_not(planted: str, degree: int) -> None:
    one = problem(planted, degree // 2)
    if planted == "random_labels":
        dimension = 10 if degree == 2 else 35
        assert one.optimum == pytest.approx(1 - dimension / 90, abs=0.15)
    else:
        assert one.optimum < 1e-18
    assert (one.inputs[:, 0] == 1).all()
    assert (one.values**2).mean() == pytest.approx(1)


def test_the_optimum_is_that_of_the_normal_equations() -> None:
    one = problem("random_labels", dimension=3, examples=20)
    x, y = one.inputs, one.values
    features = np.stack([x[:, i] * x[:, j] for i in range(3) for j in range(i, 3)], axis=1)
    best = np.linalg.solve(features.T @ features, features.T @ y)
    assert one.optimum == pytest.approx(((features @ best - y) ** 2).mean(), rel=1e-10)


@pytest.mark.parametrize(("planted", "signs"), [("identity", [1, 1, 1, 1]), ("mixed_signs", [1, -1, 1, -1])])
def test_planted_identities_are_the_norm_and_its_mixture_of_signs(planted: Any, signs: list[int]) -> None:
    x, y = planted_examples(PlantedPolynomial(planted=planted, dimension=4, examples=50))
    expected = x**2 @ np.array(signs, float)
    np.testing.assert_allclose(y / y[0], expected / expected[0])


def test_the_data_are_a_function_of_what_is_asked_alone_so_variants_share_them() -> None:
    first = problem(variant="plain")
    np.testing.assert_array_equal(first.inputs, problem(variant="norm", hidden=7).inputs)
    np.testing.assert_array_equal(first.values, problem(variant="norm", hidden=7).values)
    assert not np.allclose(first.inputs, problem(draw=1).inputs)


@pytest.mark.parametrize(
    ("layers", "variant", "hidden", "count"),
    [(1, "plain", 20, 220), (1, "norm", 20, 221), (1, "norm", 10, 111), (2, "plain", 10, 2110), (2, "norm", 10, 2121)],
)
def test_full_dimensions(layers: int, variant: str, hidden: int, count: int) -> None:
    one = problem("identity", layers, variant, hidden, dimension=10, examples=20)
    assert one.full_dimension == count
    assert problems.layout(one.task, {})[-1].stop == count


@pytest.mark.parametrize(("layers", "dimension"), [(1, 4), (1, 10), (2, 4), (2, 9)])
def test_rows_of_a_pack_do_not_mix_and_have_the_same_bits_alone(layers: int, dimension: int) -> None:
    one = problem("gaussian", layers, "norm", hidden=6, dimension=dimension)
    bad = torch.full((one.full_dimension,), torch.nan)
    losses, gradients = one.loss_and_gradient(torch.stack([one.initial(0), bad, one.initial(1)]), None)
    for row, replicate in ((0, 0), (2, 1)):
        alone = one.loss_and_gradient(one.initial(replicate).unsqueeze(0), None)
        assert torch.equal(losses[row], alone[0][0])
        assert torch.equal(gradients[row], alone[1][0])
    assert losses[1].isnan()


# Width as the knob.


def narrower(one: QuadraticNetworkProblem, k: int) -> Coordinates:
    return draw_mask("width", k, one.origin(0, 5))


@pytest.mark.parametrize("variant", ["plain", "norm"])
def test_a_width_is_the_network_of_fewer_neurons(variant: str) -> None:
    """With H' neurons' worth of numbers, exactly the parameters of the first H' neurons, and the norm's, are trained."""
    one = problem(variant=variant, hidden=6)
    extra = int(variant == "norm")
    for width in (1, 4, 6):
        kept = torch.zeros(one.full_dimension)
        kept[narrower(one, width * 5 + extra).indices] = 1
        for block, (part,) in zip(one.blocks, split(one.blocks, kept[None]), strict=True):
            neurons = part if block.name.endswith("outputs") else part.T if block.name.endswith("units") else None
            if neurons is None:
                assert part.all()
            else:
                assert neurons[:width].all()
                assert not neurons[width:].any()


def test_a_width_needs_no_side_information_and_grows_by_nesting() -> None:
    one = problem(variant="norm", layers=2, hidden=5)
    seen: set[int] = set()
    for k in (1, 8, 30, one.full_dimension):
        kept = narrower(one, k)
        subspace = AffineSubspace.masked(one.initial(0), kept)
        audit = measure(subspace, k, one.origin(0, 5), Spending())
        assert (audit.measured_k, audit.side_information_bits, audit.track) == (k, 0.0, "cold")
        assert seen <= set(kept.indices.tolist())
        seen = set(kept.indices.tolist())


def test_a_width_of_a_network_that_does_not_name_its_neurons_is_refused() -> None:
    with pytest.raises(UserError, match="does not say which parameters belong to which neuron"):
        Width().k_range([problems.Block("w", "weight", (12,), 0, 12)])


@pytest.mark.slow
def test_the_norm_reaches_the_least_squares_optimum_where_the_plain_network_does_not() -> None:
    """Kazemipour et al. 2020: with mixed signs and as many neurons as inputs. d = 10, H = 10, 8 trials each."""
    reached = {}
    for variant in ("plain", "norm"):
        one = problem("mixed_signs", 1, variant, hidden=10, dimension=10, examples=1500, steps=1500)
        metered = MeteredProblem(one, range(8), [Ledger() for _ in range(8)])
        spaces = [AffineSubspace.full_space(one.initial(replicate)) for replicate in range(8)]
        thetas = train(metered, spaces, one.task.training, [0.01] * 8, Span(0, 1500))
        reached[variant] = int((one.train_metrics(torch.stack(thetas)).loss <= 0.005).sum())
    assert reached["norm"] >= 7
    assert reached["plain"] <= 1
