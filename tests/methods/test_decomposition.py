"""Decomposition by alternating least squares, of all rows and of samples: against TensorLy, by fit, and as trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tensorly.cp_tensor import CPTensor
from tensorly.decomposition import parafac
from torch import Tensor

from lowdim_bench.engine import Span, train
from lowdim_bench.errors import UserError
from lowdim_bench.methods import parse_choice
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import Ledger, MeteredProblem
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.specs import Task
from lowdim_bench.trial import run_pack
from tests.problems.small import BLOBS, TENSOR, make_task, small_problem
from tests.problems.tensors import PROBLEM, TASK, D, factors_of, outer, problem


def decomposed(
    task: Task, method: str, k: int, replicates: Sequence[int]
) -> tuple[list[float], list[Ledger], list[Tensor]]:
    """True relative errors at the end of the task's training, by replicate, with what it cost and the weights."""
    made = problem(task)
    trials = [Trial(k=k, replicate=replicate, round=0) for replicate in replicates]
    items = prepare_pack(made, task, parse_choice(method).build(), trials)
    subspaces = [item.subspace for item in items if item.subspace is not None]
    ledgers = [Ledger() for _ in trials]
    metered = MeteredProblem(made, list(replicates), ledgers)
    thetas = train(metered, subspaces, task.training, [1.0] * len(trials), Span(0, task.training.steps))
    weights = [subspace.map(theta) for subspace, theta in zip(subspaces, thetas, strict=True)]
    return made.train_metrics(torch.stack(weights)).loss.tolist(), ledgers, weights


def of_rank(rank: int, shape: Sequence[int], sweeps: int, **data: Any) -> Task:
    return make_task(
        TENSOR,
        {
            "problem": {"rank": rank, "data": {"shape": list(shape), "rank": rank, **data}},
            "training": {"steps": sweeps * len(shape)},
        },
    )


def test_sweeps_are_those_of_tensorly() -> None:
    """The same factors from the same start: TensorLy has its own loop, so it is what this one is held against."""
    task = of_rank(3, (9, 8, 7, 6), sweeps=6, noise=0.1)
    made = problem(task)
    (error,), _, (weights,) = decomposed(task, "cp_als", 90, [0])
    start = [factor.float().numpy() for factor in factors_of(made.initial(0), made)]
    decompose: Any = parafac  # its annotations name no start of one's own
    theirs = decompose(
        made.tensor.numpy(), 3, n_iter_max=6, init=CPTensor((np.ones(3, np.float32), start)), tol=0, linesearch=False
    )
    rebuilt = outer([torch.from_numpy(np.asarray(factor)).double() for factor in theirs.factors])
    tensor = made.tensor.double()
    assert error == pytest.approx(float((tensor - rebuilt).norm() / tensor.norm()), rel=1e-4)
    torch.testing.assert_close(outer(factors_of(weights, made)), rebuilt, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("method", ["cp_als", "cp_leverage,samples=400", "cp_uniform,samples=400"])
def test_a_tensor_without_noise_is_recovered_at_its_rank_and_not_below(method: str) -> None:
    task = of_rank(3, (14, 13, 12), sweeps=40, noise=0.0)
    at_rank, _, _ = decomposed(task, method, 3 * 39, range(6))
    below, _, _ = decomposed(task, method, 3 * 39 - 1, range(6))
    assert sorted(at_rank)[1] < 1e-3  # a start may end in a local minimum, not most of them
    assert min(below) > 0.05, "what lacks one number of its last component has none of it"


def test_leverage_samples_come_within_half_a_percent_of_the_fit_from_a_tenth_of_the_rows() -> None:
    task = of_rank(3, (30, 30, 30, 12), sweeps=15, noise=0.1, factors="uniform")
    k = 3 * 102
    fits, rows = {}, {}
    for method in ("cp_als", "cp_leverage", "cp_leverage,deterministic=true", "cp_leverage,combine=false"):
        errors, ledgers, _ = decomposed(task, method, k, range(4))
        fits[method], rows[method] = 1 - np.array(errors), ledgers[0].spent.rows
    assert np.median(fits["cp_als"]) == pytest.approx(1 - 0.1 / 1.01**0.5, abs=2e-3)
    for method, found in fits.items():
        assert np.median(found) > 0.995 * np.median(fits["cp_als"]), method
        assert method == "cp_als" or rows[method] < rows["cp_als"] / 10
    assert rows["cp_als"] == 15 * (3 * 30 * 30 * 12 + 30**3)
    assert rows["cp_leverage"] < rows["cp_leverage,combine=false"] == 60 * 1024
    # The draws are the same, and so are the solutions, but for rounding.
    np.testing.assert_allclose(fits["cp_leverage"], fits["cp_leverage,combine=false"], atol=1e-3)


def test_uniform_samples_miss_what_few_rows_tell() -> None:
    task = of_rank(2, (40, 40, 40), sweeps=12, noise=0.1, factors="concentrated", peak=30.0)
    methods = ("cp_leverage,samples=128", "cp_uniform,samples=128")
    by_leverage, uniform = (np.median(decomposed(task, method, 240, range(6))[0]) for method in methods)
    noise = 0.1 / 1.01**0.5  # the least error that there is
    assert 3 * (by_leverage - noise) < uniform - noise


def results(task: Task, method: str, k: int, replicates: int = 3) -> list[TrialResult]:
    trials = [Trial(k=k, replicate=replicate, round=0) for replicate in range(replicates)]
    return run_pack(problem(task), task, parse_choice(method), trials)


def test_trials_are_audited_metered_and_scored_by_the_true_fit() -> None:
    task = make_task(TENSOR, {"targets": [{"metric": "train_loss", "at_most": 1e-6}]})
    for method, most in (("cp_als", None), ("cp_leverage,samples=10", 10)):
        for result in results(task, method, 36):
            assert (result.status, result.audit and result.audit.measured_k) == ("trained", 36)
            assert result.audit is not None
            assert (result.audit.track, result.audit.side_information_bits) == ("cold", 0.0)
            assert result.training.gradient_evaluations == 12
            whole = 4 * (30 + 35 + 42)
            assert result.training.rows == whole if most is None else 12 <= result.training.rows <= 12 * most
            assert result.training.evaluations == 3
            # Each row is a fibre of its mode; evaluations look at all entries.
            assert most or result.training.examples == (12 + 3) * 210
    _, _, weights = decomposed(task, "cp_leverage,samples=10", 36, [0])
    last = results(task, "cp_leverage,samples=10", 36)[0].curve[-1].train_loss
    true = float((PROBLEM.tensor.double() - outer(factors_of(weights[0]))).norm() / PROBLEM.tensor.double().norm())
    assert last == pytest.approx(true, rel=1e-5)


def test_a_trial_has_the_same_bits_alone_and_in_a_pack() -> None:
    together = results(TASK, "cp_leverage,samples=10", 36)
    (alone,) = run_pack(PROBLEM, TASK, parse_choice("cp_leverage,samples=10"), [together[1].trial])
    assert alone.curve == together[1].curve
    assert together[0].curve != together[1].curve


@pytest.mark.parametrize("method", ["random_mask", "imp", "width", "dense"])
def test_any_mask_can_be_solved_for(method: str) -> None:
    k = D if method == "dense" else 40
    for result in results(TASK, method, k):
        assert result.status == "trained"
        assert result.curve[-1].train_loss is not None
        assert result.curve[-1].train_loss < 1


@pytest.mark.parametrize("method", ["random_subspace", "random_bases", "hashed_nets"])
def test_what_mixes_weights_is_refused_with_the_reason(method: str) -> None:
    for result in results(TASK, method, D if method == "random_bases" else 20):
        assert result.status == "failed"
        assert "trains by alternating least squares" in result.reason


def test_rows_are_chosen_for_least_squares_alone() -> None:
    by_gradients = make_task(TENSOR, {"training": {"optimizer": {"kind": "adam"}, "batch_size": 32}})
    assert {result.status for result in results(by_gradients, "random_subspace", 20)} == {"trained"}
    assert "trains by gradients" in results(by_gradients, "cp_leverage", 20)[0].reason
    with pytest.raises(UserError, match="decomposes a tensor, and the task has none"):
        parse_choice("cp_als").build().k_range(small_problem(make_task(BLOBS)).blocks)
