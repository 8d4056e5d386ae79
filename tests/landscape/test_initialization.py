"""Signals in random networks and convexity at a point, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from lowdim_bench.landscape import goldilocks, normalized_chaos, transient_chaos
from lowdim_bench.problems import Block, Metrics
from lowdim_bench.problems.differentiated import DifferentiatedProblem
from tests.problems.small import WELL, make_task, small_problem


class Saddle(DifferentiatedProblem):
    """L(w) = sum_i sign_i w_i^2 / 2."""

    def __init__(self, signs: Sequence[float]) -> None:
        self._signs = torch.tensor(signs)
        block = Block("w", "weight", (len(signs),), 0, len(signs))
        super().__init__(make_task(WELL), [block], None, torch.device("cpu"))

    def losses(self, parts: Sequence[Tensor], examples: Tensor | None) -> Tensor:
        return 0.5 * (parts[0] ** 2 * self._signs).sum(dim=1)

    def initial(self, replicate: int) -> Tensor:
        return torch.ones(len(self._signs))

    def train_metrics(self, weights: Tensor) -> Metrics:
        return Metrics(self.losses([weights], None).double(), None)

    def test_accuracy(self, weights: Tensor) -> None:
        return None


@pytest.mark.parametrize(
    ("weight_variance", "bias_variance", "q_star", "chi_1"),
    [
        (1.5, 0.2, 0.8, 0.75),  # q = 0.75 q + 0.2
        (1.0, 0.0, 0.0, 0.5),
        (2.0, 0.0, 1.0, 1.0),  # every q is a fixed point, and the iteration starts at 1
        (3.0, 0.0, math.inf, 1.5),
    ],
)
def test_relu_has_closed_forms(weight_variance: float, bias_variance: float, q_star: float, chi_1: float) -> None:
    found = transient_chaos("relu", weight_variance, bias_variance)
    assert found.q_star == pytest.approx(q_star, rel=1e-9)
    assert found.chi_1 == pytest.approx(chi_1)


def test_tanh_is_ordered_below_one_and_chaotic_above() -> None:
    ordered = transient_chaos("tanh", 0.5)
    assert ordered.q_star == 0
    assert ordered.chi_1 == pytest.approx(0.5), "tanh is the identity near zero"
    chaotic = transient_chaos("tanh", 2.25, 0.09)
    assert chaotic.q_star == pytest.approx(2.25 * _mean(np.tanh, chaotic.q_star) + 0.09, rel=1e-6)
    assert chaotic.chi_1 == pytest.approx(2.25 * _mean(lambda h: 1 / np.cosh(h) ** 2, chaotic.q_star), rel=1e-6)
    assert chaotic.chi_1 > 1


def _mean(function: object, q: float) -> float:
    """E[function(sqrt(q) z)^2] by adaptive quadrature."""
    density = lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    return quad(lambda z: function(math.sqrt(q) * z) ** 2 * density(z), -12, 12)[0]  # type: ignore[operator]


def test_a_wide_random_layer_stretches_as_chi_says() -> None:
    """Finite differences through one layer of 1,500 neurons; a mean over so many scatters by some percent."""
    rng = np.random.default_rng(0)
    found = transient_chaos("tanh", 2.25, 0.09)
    weights = rng.normal(scale=1.5 / math.sqrt(1500), size=(1500, 1500))
    before = rng.normal(scale=math.sqrt(found.q_star), size=1500)
    step = 1e-4 * rng.normal(size=1500)
    moved = weights @ (np.tanh(before + step) - np.tanh(before))
    assert (moved**2).sum() / (step**2).sum() == pytest.approx(found.chi_1, rel=0.2)


def test_normalized_relu_layers_are_chaotic() -> None:
    """E[phi'^2] = 1/2 and Var[phi] = 1/2 - 1/(2 pi) for z ~ N(0, 1)."""
    found = normalized_chaos("relu")
    assert (found.q_star, found.chi_1) == pytest.approx((1, math.pi / (math.pi - 1)), rel=1e-9)


@pytest.mark.parametrize("deviation", [0.3, 2.0])
def test_a_wide_normalized_layer_stretches_as_chi_says_whatever_its_weights(deviation: float) -> None:
    """Finite differences through one layer of 600 neurons, normalized over a batch of 400; some percent of scatter."""
    rng = np.random.default_rng(0)
    weights = rng.normal(scale=deviation / math.sqrt(600), size=(600, 600))
    before = rng.normal(size=(400, 600))
    step = 1e-4 * rng.normal(size=(400, 600))

    def through(values: np.ndarray) -> np.ndarray:
        raw = np.maximum(values, 0) @ weights
        return (raw - raw.mean(axis=0)) / raw.std(axis=0)

    assert through(before).var() == pytest.approx(1)
    moved = through(before + step) - through(before)
    assert (moved**2).sum() / (step**2).sum() == pytest.approx(normalized_chaos("relu").chi_1, rel=0.05)


def test_the_edge_of_chaos_and_negative_variances_are_refused() -> None:
    with pytest.raises(ArithmeticError, match="did not settle"):
        transient_chaos("tanh", 1.0)
    with pytest.raises(ValueError, match="negative"):
        transient_chaos("relu", -1.0)


def test_a_bowl_is_as_convex_as_can_be() -> None:
    """H = 2 I: the trace is 2 D, the norm 2 sqrt(D), and signs measure both without error."""
    bowl = small_problem(make_task(WELL, {"problem": {"spectrum": {"kind": "power", "exponent": 0.0}}}))
    found = goldilocks(bowl, bowl.initial(0), 2, 5, np.random.default_rng(0))
    assert (found.trace, found.frobenius) == pytest.approx((24, 2 * math.sqrt(12)), rel=1e-5)
    assert found.ratio == pytest.approx(math.sqrt(12), rel=1e-5)
    assert found.positive == 1
    assert found.radius == pytest.approx(1, rel=1e-5), "the loss |w|^2 starts at 1"


def test_a_saddle_has_its_inertia() -> None:
    saddle = Saddle([1, 1, 1, -1])
    found = goldilocks(saddle, saddle.initial(0), 4, 10, np.random.default_rng(0))
    assert found.positive == 0.75, "a slice of all dimensions keeps the signs of the eigenvalues (Sylvester)"
    assert (found.trace, found.frobenius, found.ratio) == pytest.approx((2, 2, 1))
    flat = Saddle([0, 0])
    assert math.isnan(goldilocks(flat, flat.initial(0), 2, 2, np.random.default_rng(0)).ratio)
