"""Tensor decomposition: tensors, the error, and least-squares steps against computations of one's own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowdim_bench import problems
from lowdim_bench.errors import UserError
from lowdim_bench.landscape import diagnose, predict
from lowdim_bench.problems import RowSampling
from lowdim_bench.problems.networks.base import split
from lowdim_bench.problems.tensors import khatri_rao, planted_tensor
from lowdim_bench.specs import Task, load_task
from tests.problems.small import BLOBS, TENSOR, make_task
from tests.problems.tensors import PROBLEM, SHAPE, TASK, D, factors_of, outer, planted, unfolded, without


@pytest.mark.parametrize("kind", ["gaussian", "uniform", "concentrated"])
def test_a_planted_tensor_has_its_rank_and_its_noise(kind: str) -> None:
    clean = torch.from_numpy(planted_tensor(planted(factors=kind))).double()
    for mode in range(4):
        values = torch.linalg.svdvals(unfolded(clean, mode))
        assert float(values[2]) > 1e-3 * float(values[0]) > 1e3 * float(values[3])
    noisy = torch.from_numpy(planted_tensor(planted(factors=kind, noise=0.3, shape=[30, 30, 30], rank=2))).double()
    # What lies outside the two strongest directions of an unfolding is noise, and nearly all of it.
    values = torch.linalg.svdvals(unfolded(noisy, 0)).square()
    assert float((values[2:].sum() / values.sum()).sqrt()) == pytest.approx(0.3 / 1.09**0.5, rel=0.06)


def test_planted_tensors_come_from_their_own_digest() -> None:
    one, again = planted_tensor(planted()), planted_tensor(planted())
    assert np.array_equal(one, again)
    assert not np.allclose(one, planted_tensor(planted(draw=1)))


def test_the_digits_are_one_tensor_of_all_images() -> None:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    tensor = problems.load_arrays(load_task("tensor-digits"), Path())["tensor"]
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, bunch.images)


def test_the_error_is_that_of_the_whole_tensor() -> None:
    weights = torch.stack([PROBLEM.initial(replicate) for replicate in range(3)])
    tensor = PROBLEM.tensor.double()
    expected = [float((tensor - outer(factors_of(row))).norm() / tensor.norm()) for row in weights]
    assert PROBLEM.train_metrics(weights).loss.tolist() == pytest.approx(expected, rel=1e-9)
    loss, gradient = PROBLEM.loss_and_gradient(weights, None)
    assert loss.tolist() == pytest.approx([error**2 for error in expected], rel=1e-4)
    for row, found in zip(weights, gradient, strict=True):
        point = row.double().requires_grad_()
        modelled = outer([part[0] for part in split(PROBLEM.blocks, point.unsqueeze(0))])
        (wanted,) = torch.autograd.grad((tensor - modelled).square().sum() / tensor.square().sum(), point)
        torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-6)


def test_examples_are_entries() -> None:
    examples = torch.tensor([[0, 17, 209], [3, 3, 100]])
    weights = torch.stack([PROBLEM.initial(0), PROBLEM.initial(1)])
    loss, gradient = PROBLEM.loss_and_gradient(weights, examples)
    for row in range(2):
        residual = (PROBLEM.tensor.double() - outer(factors_of(weights[row]))).flatten()[examples[row]]
        assert float(loss[row]) == pytest.approx(float(residual.square().mean()), rel=1e-4)
    assert gradient.shape == (2, D)


@pytest.mark.parametrize("step", [0, 1, 2, 4])
def test_a_step_solves_one_factor_exactly(step: int) -> None:
    weights = torch.stack([PROBLEM.initial(0), PROBLEM.initial(1)])
    mode = step % 3
    solution = PROBLEM.solve_block(weights, step, torch.ones_like(weights, dtype=torch.bool), [None, None])
    assert list(solution.rows) == [210 // SHAPE[mode]] * 2
    assert list(solution.examples) == [210, 210]
    for before, after in zip(weights, solution.weights, strict=True):
        factors, found = factors_of(before), factors_of(after)
        design = khatri_rao(without(factors, mode))
        wanted = torch.linalg.lstsq(design, unfolded(PROBLEM.tensor.double(), mode).T).solution.T
        torch.testing.assert_close(found[mode], wanted, rtol=1e-3, atol=1e-4)
        for place in range(3):
            assert place == mode or torch.equal(found[place], factors[place])


@given(st.integers(0, 2**32), st.integers(0, 2))
def test_a_step_solves_for_the_movable_numbers_alone(seed: int, mode: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = PROBLEM.initial(0).unsqueeze(0)
    movable = torch.rand(1, D, generator=generator) < 0.6
    factors = factors_of(weights[0])
    found = factors_of(PROBLEM.solve_block(weights, mode, movable, [None]).weights[0])[mode]
    free = split(PROBLEM.blocks, movable)[mode][0]
    design, target = khatri_rao(without(factors, mode)), unfolded(PROBLEM.tensor.double(), mode)
    for row, mask in enumerate(free):
        fixed = design[:, ~mask] @ factors[mode][row, ~mask]
        wanted = factors[mode][row].clone()
        if bool(mask.any()):
            wanted[mask] = torch.linalg.lstsq(design[:, mask], (target[row] - fixed).unsqueeze(1)).solution.squeeze(1)
        torch.testing.assert_close(found[row], wanted, rtol=2e-3, atol=1e-3)


def test_a_column_that_nothing_depends_on_is_zero() -> None:
    weights = PROBLEM.initial(0).unsqueeze(0)
    part = split(PROBLEM.blocks, weights)[1]
    part[:, :, 2] = 0.0  # a view
    found = factors_of(PROBLEM.solve_block(weights, 0, torch.ones(1, D, dtype=torch.bool), [None]).weights[0])
    assert not bool(found[0][:, 2].any())
    assert bool(found[0][:, :2].all())
    everything = PROBLEM.solve_block(torch.zeros(1, D), 0, torch.ones(1, D, dtype=torch.bool), [RowSampling(4)])
    assert not bool(everything.weights.any())


@pytest.mark.parametrize(
    ("base", "changes", "reason"),
    [
        (BLOBS, {"training": {"optimizer": {"kind": "alternating_least_squares"}}}, "is for tensor_decomposition"),
        (TENSOR, {"training": {"batch_size": 8}}, "batch_size: null"),
        (TENSOR, {"full_training": {"batch_size": 8}}, "full_training: .* batch_size: null"),
        (
            TENSOR,
            {"targets": [{"metric": "train_accuracy", "at_least": 0.5}]},
            "a tensor decomposition has no accuracy",
        ),
        (TENSOR, {"problem": {"data": {"shape": [7, 6]}}}, "at least 3"),
        (TENSOR, {"problem": {"data": {"shape": [1000, 1000, 1000]}}}, "1,000,000,000 entries"),
        (TENSOR, {"futility": {}}, "not proven for tensor decompositions"),
    ],
)
def test_what_is_not_valid_is_said(base: dict[str, Any], changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        make_task(base, changes)


def test_the_landscape_is_that_of_networks() -> None:
    with pytest.raises(UserError, match="small-tensor decomposes a tensor, which no random subspace does"):
        predict(TASK, PROBLEM, [0])
    with pytest.raises(UserError, match="small-tensor decomposes a tensor; diagnostics are for networks"):
        diagnose(TASK, PROBLEM, None, [0, 1])


def own(path: Path, **arrays: np.ndarray) -> Task:
    stored: dict[str, Any] = {**arrays}
    np.savez(path, **stored)
    data = {"kind": "array_tensor", "path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return make_task(TENSOR, {"problem": {"data": data}})


def test_ones_own_tensor_is_read_from_the_data_root(tmp_path: Path) -> None:
    tensor = planted_tensor(planted(noise=0.2)).astype(np.float64)
    task = own(tmp_path / "mine.npz", x=tensor)
    arrays = problems.load_arrays(task, tmp_path)
    assert np.array_equal(arrays["tensor"], tensor.astype(np.float32))
    assert problems.layout(task, arrays)[-1].stop == problems.build(task, arrays).full_dimension == 90
    assert problems.forward_operations(task, arrays) == 4 * 3


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"y": np.ones((2, 2, 2))}, "lacks x"),
        ({"x": np.ones((2, 2))}, "three to six modes"),
        ({"x": np.full((2, 2, 2), np.nan)}, "fill in what is missing"),
        ({"x": np.zeros((2, 2, 2))}, "not zero throughout"),
        ({"x": np.full((2, 2, 2), "a")}, "must be real numbers"),
    ],
)
def test_what_is_no_tensor_is_refused(arrays: dict[str, np.ndarray], reason: str, tmp_path: Path) -> None:
    task = own(tmp_path / "mine.npz", **arrays)
    with pytest.raises(UserError, match=reason):
        problems.load_arrays(task, tmp_path)
