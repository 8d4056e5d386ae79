"""The pack's optimizers take the steps that torch's take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lowdim_bench.engine.optimizers import build_optimizer
from lowdim_bench.specs.task import Adam, Optimizer, Sgd

RATES = torch.tensor([[0.3], [0.01], [0.1]], dtype=torch.float64)
CASES: dict[str, tuple[Optimizer, Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (Adam(kind="adam"), torch.optim.Adam, {"betas": (0.9, 0.999), "eps": 1e-7}),
    "adam of other constants": (
        Adam(kind="adam", beta1=0.5, beta2=0.95, epsilon=1e-3),
        torch.optim.Adam,
        {"betas": (0.5, 0.95), "eps": 1e-3},
    ),
    "adam without memory": (
        Adam(kind="adam", beta1=0.0, beta2=0.0),
        torch.optim.Adam,
        {"betas": (0.0, 0.0), "eps": 1e-7},
    ),
    "sgd": (Sgd(kind="sgd"), torch.optim.SGD, {}),
    "momentum": (Sgd(kind="sgd", momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (Sgd(kind="sgd", momentum=0.9, nesterov=True), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


def gradients(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([1e-4, 1.0, 1e3, 0.0, 1e-9], dtype=torch.float64)
    return torch.randn(count, 3, 5, generator=generator, dtype=torch.float64) * sizes


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("spec", "kind", "options"), CASES.values(), ids=CASES)
def test_steps_are_those_of_torch_each_row_at_its_own_rate(
    spec: Optimizer,
    kind: Callable[..., torch.optim.Optimizer],
    options: dict[str, Any],
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    """In float32, where Adam is compiled, too; torch's stay in float64."""
    start = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theta = start.to(dtype)
    ours = build_optimizer(spec, theta)
    leaves = [row.clone().requires_grad_() for row in start]
    theirs = [kind([leaf], lr=float(rate), **options) for leaf, rate in zip(leaves, RATES, strict=True)]
    for step, gradient in enumerate(gradients(30)):
        rate = RATES * (1.0 if step % 3 else 0.5)  # a schedule
        ours.step(theta, gradient.to(dtype), rate.to(dtype))
        for row, (leaf, optimizer) in enumerate(zip(leaves, theirs, strict=True)):
            leaf.grad = gradient[row].clone()
            optimizer.param_groups[0]["lr"] = float(rate[row])
            optimizer.step()
        expected = torch.stack([leaf.detach() for leaf in leaves])
        torch.testing.assert_close(theta.double(), expected, rtol=tolerance, atol=tolerance / 100)


@pytest.mark.parametrize(("spec", "kind", "options"), CASES.values(), ids=CASES)
def test_rows_that_stay_keep_their_state(
    spec: Optimizer, kind: Callable[..., torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    start = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole, some = start.clone(), start.clone()
    of_whole, of_some = build_optimizer(spec, whole), build_optimizer(spec, some)
    rows = torch.tensor([2, 0])
    for step, gradient in enumerate(gradients(12)):
        of_whole.step(whole, gradient, RATES)
        if step == 5:
            of_some.keep(rows)
            some = some[rows]
        of_some.step(some, gradient if step < 5 else gradient[rows], RATES if step < 5 else RATES[rows])
    assert torch.equal(some, whole[rows])


def test_the_bias_of_adam_is_corrected_by_its_step() -> None:
    """The authors' released code divides by 1 - beta at every step, and so makes later steps a third as long."""
    theta = torch.zeros(1, 1)
    adam = build_optimizer(Adam(kind="adam"), theta)
    lengths = []
    for _ in range(200):
        before = theta.clone()
        adam.step(theta, torch.ones(1, 1), torch.full((1, 1), 0.1))
        lengths.append(float(before - theta))
    assert lengths == pytest.approx([0.1] * 200, rel=1e-4)


@pytest.mark.parametrize(
    "spec", [Adam(kind="adam"), Sgd(kind="sgd", momentum=0.9), Sgd(kind="sgd", momentum=0.9, nesterov=True)]
)
def test_what_is_forgotten_moves_nothing_any_more(spec: Optimizer) -> None:
    theta = torch.zeros(2, 4)
    optimizer, rate = build_optimizer(spec, theta), torch.full((2, 1), 0.1)
    for _ in range(3):
        optimizer.step(theta, torch.ones(2, 4), rate)
    which = torch.tensor([[True, False, False, True], [False, False, True, False]])
    optimizer.forget(which)
    theta.masked_fill_(which, 0.0)
    optimizer.step(theta, torch.zeros(2, 4), rate)
    assert torch.equal(theta == 0, which)
