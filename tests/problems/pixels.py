"""What holds for every network that labels pixels or arenas: checks that the tests of both tasks share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lowdim_bench import problems
from lowdim_bench.problems.pixel_labelling import PixelProblem
from lowdim_bench.specs import Task


def pixel_problem(task: Task) -> PixelProblem:
    built = problems.build(task, problems.load_arrays(task, Path()))
    assert isinstance(built, PixelProblem)
    return built


def check_losses_and_gradients(one: PixelProblem, reference: Callable[[PixelProblem, Tensor, Tensor], Tensor]) -> None:
    """Against autograd in float64 through `reference`: outputs (B, n) of one parameter vector (D,) and images (B, inputs)."""
    arrays = problems.load_arrays(one.task, Path())
    images = torch.from_numpy(arrays["x_train"]).double() * 2 - 1
    labels = torch.from_numpy(arrays["y_train"] > 0).double() * 2 - 1
    weights = torch.stack([one.initial(0), one.initial(1)])
    examples = torch.tensor([[3, 3, 7, 0], [1, 59, 2, 5]])
    for some in (examples, None):
        losses, gradients = one.loss_and_gradient(weights, some)
        for row, vector in enumerate(weights.double()):
            vector.requires_grad_()
            own = slice(None) if some is None else some[row]
            loss = (reference(one, vector, images[own]) - labels[own]).square().mean()
            (expected,) = torch.autograd.grad(loss, vector)
            scale = float(expected.abs().max())
            torch.testing.assert_close(gradients[row].double(), expected, rtol=1e-3, atol=1e-5 * scale)
            assert float(losses[row]) == pytest.approx(float(loss.detach()), rel=1e-5)


def check_rows_do_not_mix(one: PixelProblem) -> None:
    """Rows beside one that is not a number have the bits that they have alone."""
    examples = torch.tensor([[3, 3, 7, 0], [0, 0, 0, 0], [1, 59, 2, 5]])
    weights = torch.stack([one.initial(0), torch.full((one.full_dimension,), torch.nan), one.initial(1)])
    losses, gradients = one.loss_and_gradient(weights, examples)
    metrics = one.train_metrics(weights)
    for row in (0, 2):
        alone = one.loss_and_gradient(weights[[row]], examples[[row]])
        assert torch.equal(losses[row], alone[0][0])
        assert torch.equal(gradients[row], alone[1][0])
        assert float(metrics.loss[row]) == float(one.train_metrics(weights[[row]]).loss[0])
    assert losses[1].isnan()
    assert metrics.loss[1].isnan()
