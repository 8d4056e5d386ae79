"""Tensor decomposition: error, least-squares steps and samples of them against computations of one's own, and TensorLy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensorly.cp_tensor import CPTensor
from tensorly.decomposition import parafac
from torch import Tensor

from lowdim_bench import problems
from lowdim_bench.engine import Span, train
from lowdim_bench.errors import UserError
from lowdim_bench.landscape import diagnose, predict
from lowdim_bench.methods import parse_choice
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import Ledger, MeteredProblem, RowSampling
from lowdim_bench.problems.networks.base import split
from lowdim_bench.problems.row_sampling import draw_rows, leverage_scores, likely_rows, row_numbers
from lowdim_bench.problems.tensors import TensorProblem, khatri_rao, planted_tensor
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.specs import Task, load_task
from lowdim_bench.specs.tensors import PlantedTensor
from lowdim_bench.trial import run_pack
from tests.problems.small import BLOBS, TENSOR, make_task, small_problem

TASK = make_task(TENSOR)
SHAPE, RANK = (7, 6, 5), 3
D = RANK * sum(SHAPE)


def problem(task: Task = TASK) -> TensorProblem:
    made = small_problem(task)
    assert isinstance(made, TensorProblem)
    return made


PROBLEM = problem()


def planted(**changes: Any) -> PlantedTensor:
    plain = {"kind": "planted_tensor", "shape": [9, 8, 7, 6], "rank": 3, **changes}
    return PlantedTensor.from_data(plain, "a tensor of the tests")


def factors_of(weights: Tensor, made: TensorProblem = PROBLEM) -> list[Tensor]:
    return [part[0].double() for part in split(made.blocks, weights.unsqueeze(0))]


def outer(factors: Sequence[Tensor]) -> Tensor:
    """The sum of outer products, written anew."""
    letters = "abcdef"[: len(factors)]
    return torch.einsum(",".join(f"{one}r" for one in letters) + "->" + letters, *factors)


def unfolded(tensor: Tensor, mode: int) -> Tensor:
    return tensor.movedim(mode, 0).flatten(1)


def without(factors: Sequence[Tensor], mode: int) -> list[Tensor]:
    return [factor for place, factor in enumerate(factors) if place != mode]


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


FACTORS = [
    torch.randn(size, 2, generator=torch.Generator().manual_seed(size), dtype=torch.float64) for size in (4, 5, 3)
]
FACTORS[1][2] *= 8  # so that some rows have most of the leverage
DESIGN = khatri_rao(FACTORS)


def test_leverage_scores_are_the_diagonal_of_the_projection() -> None:
    matrix = FACTORS[1]
    hat = matrix @ torch.linalg.pinv(matrix)
    torch.testing.assert_close(leverage_scores(matrix), hat.diagonal())
    deficient = torch.cat([matrix, matrix[:, :1] * 2], dim=1)
    torch.testing.assert_close(leverage_scores(deficient), hat.diagonal())


@pytest.mark.parametrize("above", [0.3, 0.05, 0.01, 1e-9])
def test_likely_rows_are_all_that_are_likely(above: float) -> None:
    chances = [leverage_scores(factor) / 2 for factor in FACTORS]
    expected = {
        places: float(chances[0][places[0]] * chances[1][places[1]] * chances[2][places[2]])
        for places in product(range(4), range(5), range(3))
    }
    found, chance = likely_rows(chances, above)
    assert {tuple(row.tolist()) for row in found} == {places for places, value in expected.items() if value > above}
    assert chance.tolist() == pytest.approx([expected[tuple(row.tolist())] for row in found])


SAMPLINGS = {
    "leverage": RowSampling(20),
    "repeats": RowSampling(20, combine=False),
    "hybrid": RowSampling(20, deterministic=True),
    "uniform": RowSampling(20, "uniform"),
}


@pytest.mark.parametrize("name", SAMPLINGS)
def test_weighted_samples_have_the_whole_problem_as_their_expected_value(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    grams = []
    for _ in range(2000):
        rows = draw_rows(FACTORS, SAMPLINGS[name], generator)
        some = DESIGN[row_numbers(rows.places, (4, 5, 3))]
        grams.append(some.T @ (some * rows.weights.unsqueeze(1)))
    found, expected = torch.stack(grams), DESIGN.T @ DESIGN
    error = (found.mean(dim=0) - expected).abs() / (found.std(dim=0) / 2000**0.5)
    assert float(error.max()) < 5
    assert float((found.std(dim=0) / 2000**0.5).max()) < 0.05 * float(expected.max())


def test_combined_repeats_are_fewer_rows_with_the_same_solution() -> None:
    """Of each sample, and so of the expected one."""
    target = torch.randn(60, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def solution(rows: Any) -> Tensor:
        places, root = row_numbers(rows.places, (4, 5, 3)), rows.weights.sqrt().unsqueeze(1)
        return torch.linalg.lstsq(DESIGN[places] * root, target[places] * root).solution

    for seed in range(20):
        combined, repeated = (
            draw_rows(FACTORS, RowSampling(200, combine=combine), torch.Generator().manual_seed(seed))
            for combine in (True, False)
        )
        assert len(combined.weights) < len(DESIGN)
        assert len(repeated.weights) == 200
        assert float(combined.weights.sum()) == pytest.approx(float(repeated.weights.sum()))
        torch.testing.assert_close(solution(combined), solution(repeated))


def test_a_hybrid_sample_holds_every_likely_row_once_with_weight_one() -> None:
    sampling = RowSampling(20, deterministic=True)
    rows = draw_rows(FACTORS, sampling, torch.Generator().manual_seed(3))
    likely, chance = likely_rows([leverage_scores(factor) / 2 for factor in FACTORS], 1 / 20)
    assert 0 < len(likely) < 20
    assert torch.equal(rows.places[: len(likely)], likely)
    assert rows.weights[: len(likely)].tolist() == [1.0] * len(likely)
    others = row_numbers(rows.places[len(likely) :], (4, 5, 3)).tolist()
    assert not set(others) & set(row_numbers(likely, (4, 5, 3)).tolist())
    assert 0 < float(chance.sum()) < 1
    # Nothing is left to draw where few rows are all there is.
    alone = draw_rows([factor[:1] for factor in FACTORS], sampling, torch.Generator())
    assert (alone.places.tolist(), alone.weights.tolist()) == ([[0, 0, 0]], [1.0])


def dominated(sizes: Sequence[int], scale: float) -> list[Tensor]:
    """Factors (n, 3) whose first three rows have nearly all of the leverage: the others are `scale` times as large."""
    generator = torch.Generator().manual_seed(5)
    factors = [torch.randn(size, 3, generator=generator, dtype=torch.float64) for size in sizes]
    for factor in factors:
        factor[:3] = torch.eye(3) + 0.3
        factor[3:] *= scale
    return factors


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scale", [1e-2, 1e-3, 5e-4, 1e-5])
def test_a_hybrid_sample_ends_however_little_the_likely_rows_leave(scale: float) -> None:
    sampling = RowSampling(1024, deterministic=True)
    rows = draw_rows(dominated((60, 60, 20), scale), sampling, torch.Generator().manual_seed(0))
    dominant = (rows.places < 3).all(dim=1)
    assert int(dominant.sum()) == 27
    assert rows.weights[dominant].tolist() == [1.0] * 27
    assert 27 <= len(rows.weights) <= 1024
    assert bool((rows.weights > 0).all() & rows.weights.isfinite().all())


@pytest.mark.parametrize("scale", [0.03, 0.2, 1.0])
def test_what_few_draws_leave_of_a_hybrid_sample_has_the_whole_problem_as_its_expected_value(scale: float) -> None:
    """Also where most samples have none of the unlikely rows, or where there are no likely ones."""
    sizes, sampling = (6, 5, 4), RowSampling(40, deterministic=True)
    factors = dominated(sizes, scale)
    design, generator = khatri_rao(factors), torch.Generator().manual_seed(2)
    likely, _ = likely_rows([leverage_scores(factor) / 3 for factor in factors], 1 / 40)
    unlikely = design.clone()
    unlikely[row_numbers(likely, sizes)] = 0.0
    grams, empty = [], 0
    for _ in range(500):
        rows = draw_rows(factors, sampling, generator)
        places, weights = rows.places[len(likely) :], rows.weights[len(likely) :]
        some = design[row_numbers(places, sizes)]
        grams.append(some.T @ (some * weights.unsqueeze(1)))
        empty += not len(places)
    found, expected = torch.stack(grams), unlikely.T @ unlikely
    error = (found.mean(dim=0) - expected).abs() / (found.std(dim=0) / 500**0.5)
    assert float(error.max()) < 5
    if scale == 0.03:
        assert 100 < empty < 400


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
