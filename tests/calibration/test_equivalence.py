"""The equivalence check finds known factors on k, with intervals that widen and narrow as they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lowdim_bench.calibration import equivalence
from lowdim_bench.calibration.equivalence import around, check_operators, compare_operators, rough_threshold
from lowdim_bench.errors import UserError
from lowdim_bench.parametrizations import RANDOM_OPERATORS, DenseBasis
from tests.problems.small import BLOBS, WELL, make_task, small_problem

KS = [10, 12, 14, 17]
WELL_TASK = make_task(
    WELL,
    {
        "problem": {"dimension": 60, "spectrum": {"kind": "power", "exponent": 0.0}},
        "training": {"steps": 120, "evaluate_every": 40},
        "targets": [{"metric": "train_loss", "at_most": 0.7}],
        "threshold": {"k_max": 60},
    },
)


def made_up(factor: float, seeds: int, noise: float, slope: float = -2.0) -> equivalence.Equivalence:
    """The check of losses (seeds, KS) of a known law: k ** slope, as if k were `factor` times smaller."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(seeds, 1))  # what init and batches do to both alike
    logs = [
        slope * np.log(np.array(KS) / by) + shared + noise * rng.normal(size=(seeds, len(KS))) for by in (1.0, factor)
    ]
    task = make_task(BLOBS)
    return equivalence._equivalence(task, "signed_hash", KS, np.exp(logs[0]), np.exp(logs[1]))


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.19])
def test_a_known_factor_is_found_and_covered(factor: float) -> None:
    exact = made_up(factor, 10, noise=0.0)
    assert exact.multiplier == pytest.approx(factor)
    assert exact.low == pytest.approx(factor)
    assert exact.slope == pytest.approx(-2.0)
    noisy = made_up(factor, 40, noise=0.2)
    assert noisy.low < factor < noisy.high
    assert noisy.high / noisy.low < 1.15
    assert noisy.verdict == ("yes" if factor == 1.0 else "no")


def test_an_interval_that_crosses_what_is_allowed_decides_nothing() -> None:
    found = made_up(0.95, 40, noise=0.2)
    assert found.low < 0.95 < found.high
    assert found.verdict == "undecided"


def test_an_operator_that_diverges_where_the_dense_one_does_not_is_none() -> None:
    exact = np.exp(np.array([[3.0, 2.0, 1.0, 0.0]] * 20) + np.linspace(0, 1, 20)[:, None])
    broken = exact.copy()
    broken[3, 0] = np.nan
    task = make_task(BLOBS)
    assert equivalence._equivalence(task, "signed_hash", KS, exact, exact).verdict == "yes"
    found = equivalence._equivalence(task, "signed_hash", KS, exact, broken)
    assert (found.seeds, found.diverged, found.verdict) == (19, 1, "no")
    assert equivalence._equivalence(task, "signed_hash", KS, broken, exact).diverged == 0


def test_the_interval_narrows_with_the_seeds_and_what_pairs_them_does_not_widen_it() -> None:
    few, many = made_up(1.0, 20, noise=0.3), made_up(1.0, 320, noise=0.3)
    assert 2.5 < np.log(few.high / few.low) / np.log(many.high / many.low) < 6.5
    assert few.high / few.low < 1.2  # `shared` alone would make it about 1.5


def test_coverage_of_the_interval() -> None:
    rng = np.random.default_rng(1)
    task, held = make_task(BLOBS), 0
    for _ in range(100):
        logs = -2 * np.log(KS) + 0.2 * rng.normal(size=(2, 40, len(KS)))
        found = equivalence._equivalence(task, "signed_hash", KS, *np.exp(logs))
        held += found.low <= 1 <= found.high
    assert 87 <= held <= 100


def test_a_loss_that_does_not_fall_with_k_tells_no_factor() -> None:
    with pytest.raises(UserError, match="does not fall between k = 10 and 17"):
        made_up(1.0, 20, noise=0.2, slope=0.0)


def test_seeds_that_diverged_are_left_out_and_counted() -> None:
    losses = np.exp(np.random.default_rng(0).normal(size=(6, len(KS))) * 0.01 - 2 * np.log(KS))
    broken = losses.copy()
    broken[2, 1] = np.nan
    found = equivalence._equivalence(make_task(BLOBS), "signed_hash", KS, losses, broken)
    assert found.seeds == 5
    assert found.multiplier == pytest.approx(1.0)
    with pytest.raises(UserError, match="diverge"):
        equivalence._equivalence(make_task(BLOBS), "signed_hash", KS, losses, np.full_like(losses, np.inf))


def test_trainings_in_half_as_many_dimensions_need_twice_the_k(monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(k: int, full_dimension: int, seed: int, device: torch.device) -> DenseBasis:
        columns = DenseBasis.gaussian((k + 1) // 2, full_dimension, seed, device).columns
        return DenseBasis(columns.repeat_interleave(2, dim=0)[:k])

    monkeypatch.setitem(RANDOM_OPERATORS, "hadamard", halved)
    seen: list[tuple[int, int]] = []
    found = compare_operators(
        small_problem(WELL_TASK),
        WELL_TASK,
        ["hadamard", "shared_gaussian"],
        [12, 16, 20],
        24,
        lambda *at: seen.append(at),
    )
    assert [row.operator for row in found] == ["hadamard", "shared_gaussian"]
    assert 1.6 < found[0].multiplier < 2.6
    assert found[0].verdict == "no"
    assert found[1].low < 1 < found[1].high
    assert seen[-1] == (3 * 3 * 24, 3 * 3 * 24)
    assert seen == sorted(seen)


def test_the_same_check_gives_the_same_numbers() -> None:
    problem = small_problem(WELL_TASK)
    first, again = (compare_operators(problem, WELL_TASK, ["signed_hash"], [12, 20], 6) for _ in range(2))
    assert first == again


def test_by_default_it_compares_about_the_threshold() -> None:
    problem = small_problem(WELL_TASK)
    assert 11 <= rough_threshold(problem, WELL_TASK) <= 23  # the loss is 1 - k / D, so 0.7 is reached at 18, after 16
    assert around(18, 60) == [13, 15, 18, 22, 26]
    assert around(1, 60) == [1]
    assert around(55, 60)[-1] == 60
    unreachable = make_task(WELL, {"targets": [{"metric": "train_loss", "at_most": 1e-30}]})
    with pytest.raises(UserError, match="Say where"):
        rough_threshold(small_problem(unreachable), unreachable)


@pytest.mark.parametrize(
    ("operators", "ks", "reason"),
    [
        (["chunks"], [3, 4], "no stand-in for a random subspace"),
        (["hadamrd"], [3, 4], "Input should be"),
        (["gaussian"], [3, 4], "what the others are compared with"),
        (["hadamard"], [3], "at least two"),
        (["hadamard"], [3, 61], "more than the 60 parameters"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_trained(
    operators: list[str], ks: list[int], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=reason):
        check_operators(WELL_TASK, tmp_path, operators, ks, 4)
