"""Directions that papers publish about masks at equal k, measured on the digits; and the arithmetic that tells them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import directions
from benchmarks.directions import Section
from lowdim_bench import problems
from lowdim_bench.records import CurvePoint, Trial, TrialResult

SEEDS = 16


def results(last: Sequence[float | None], accuracies: Sequence[float | None] | None = None) -> list[TrialResult]:
    """Made-up results whose curves end in these losses, with these test accuracies."""
    return [
        TrialResult(
            trial=Trial(k=3, replicate=seed, round=0),
            status="trained",
            curve=(CurvePoint(step=1, train_loss=2.0), CurvePoint(step=2, train_loss=loss)),
            test_accuracy=accuracy,
            seconds=0.0,
        )
        for seed, (loss, accuracy) in enumerate(zip(last, accuracies or [0.5] * len(last), strict=True))
    ]


def test_a_comparison_is_a_paired_t_interval() -> None:
    first, second = [0.5, 0.9, 0.4, 1.2], [0.8, 1.0, 0.9, 1.1]
    found = directions.comparison("one", "other", 3, results(first), results(second))
    expected = stats.ttest_rel(first, second).confidence_interval()
    assert (found.loss.low, found.loss.high) == pytest.approx((expected.low, expected.high))
    assert (found.loss.estimate, found.lower, found.seeds) == (pytest.approx(-0.2), 3, 4)
    assert not found.holds
    assert directions.comparison("one", "other", 3, results(first), results([2.0, 2.3, 2.1, 2.6])).holds
    assert directions.losses(results([None]))[0] == pytest.approx(np.log(10))


def test_where_the_statement_is_about_accuracy_that_decides() -> None:
    first, second = results([0.5, 0.9, 0.4], [0.9, 0.8, 0.85]), results([0.4, 0.8, 0.3], [0.7, 0.6, 0.66])
    found = directions.comparison("one", "other", 3, first, second, of_accuracy=True)
    expected = stats.ttest_rel([0.9, 0.8, 0.85], [0.7, 0.6, 0.66]).confidence_interval()
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((expected.low, expected.high))
    assert found.holds
    assert not directions.comparison("one", "other", 3, first, second).holds
    assert not directions.comparison("other", "one", 3, second, first, of_accuracy=True).holds
    assert directions.accuracies(results([1.0], [None])).tolist() == [0.1]


def test_a_line_counts_who_ever_reached_the_level() -> None:
    found = directions.line("one", 3, results([0.5, 1.5, 3.0, 1.0]), level=1.0)
    assert (found.successes, found.seeds, found.loss.estimate) == (2, 4, 1.5)
    assert found.success.low < found.success.estimate == 0.5 < found.success.high


def test_what_is_not_valid_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, reason in (
        (["inits"], "unknown section 'inits'"),
        (["init", "--seeds", "1"], "at least 2"),
        (["init", "--label-noise", "2"], "a share, from 0 to 1"),
    ):
        with pytest.raises(SystemExit):
            directions.main(arguments)
        assert reason in capsys.readouterr().err


def test_the_command_prints_every_method_and_pair(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    methods = ("snip_mask", "random_mask")
    monkeypatch.setattr(
        directions, "SECTIONS", {"few": Section(methods, (48,), (methods,), directions.task_without_end)}
    )
    directions.main(["few", "--seeds", "2", "--json", "--data-root", str(tmp_path)])
    told = json.loads(capsys.readouterr().out)
    assert [one["method"] for one in told["lines"]] == list(methods)
    assert [one["seeds"] for one in told["comparisons"]] == [2]
    assert [one["gradients"] for one in told["lines"]] == [1, 0]
    directions.main(["few", "--seeds", "2", "--data-root", str(tmp_path)])
    assert "snip_mask < random_mask" in capsys.readouterr().out


def test_noise_draws_a_share_of_the_training_labels_anew_and_touches_nothing_else(tmp_path: Path) -> None:
    """A tenth of the labels that are drawn are drawn right."""
    arrays = problems.load_arrays(directions.task_without_end(), tmp_path)
    noisy = directions.with_noise(arrays, 0.5)
    assert np.mean(noisy["y_train"] != arrays["y_train"]) == pytest.approx(0.45, abs=0.05)
    assert set(noisy["y_train"].tolist()) == set(range(10))
    assert all(noisy[name] is arrays[name] for name in ("x_train", "x_test", "y_test"))
    assert np.array_equal(directions.with_noise(arrays, 0)["y_train"], arrays["y_train"])


@pytest.mark.slow
def test_published_directions_hold_on_the_digits(tmp_path: Path) -> None:
    task = directions.task_without_end()
    problem = problems.build(task, problems.load_arrays(task, tmp_path))
    pairs = {
        48: [("synflow_mask", "grasp_mask"), ("synflow_mask", "snip_mask"), ("snip_mask", "random_mask")],
        96: [
            ("imp,rate=0.5", "imp,control=reinitialized,rate=0.5"),
            ("imp,control=reinitialized,rate=0.5", "random_mask"),
        ],
    }
    for k, of_k in pairs.items():
        names = {name for pair in of_k for name in pair}
        found = {name: directions.measure(problem, task, name, k, SEEDS) for name in names}
        for one, other in of_k:
            comparison = directions.comparison(one, other, k, found[one], found[other])
            assert comparison.holds, comparison


@pytest.mark.slow
@pytest.mark.needs_data
def test_hard_examples_with_wrong_labels_pretrain_a_worse_point_to_rewind_to_than_easy_ones(data_root: Path) -> None:
    """Paul et al. 2022 (arXiv 2206.01278), on a network where that point matters; few rounds, for time."""
    task = directions.unstable_images()
    problem = problems.build(task, directions.with_noise(problems.load_arrays(task, data_root), 0.1))
    diet = "data_diet_imp,pretrain_steps=100,score_steps=200,size=1024,rate=0.7,subset="
    easy, hard = (directions.measure(problem, task, diet + one, 831, 16) for one in ("easy", "hard"))
    assert directions.comparison("easy", "hard", 831, easy, hard, of_accuracy=True).holds


@pytest.mark.slow
def test_new_random_directions_at_each_step_go_further_than_as_many_fixed_ones(tmp_path: Path) -> None:
    """Gressmann et al. 2020, table 1; the former are no low-dimensional training, and are priced as all D."""
    task = directions.task_without_end(directions.PLAIN_DESCENT)
    problem = problems.build(task, problems.load_arrays(task, tmp_path))
    new = directions.measure(problem, task, "random_bases,directions=64", 64, 8)
    fixed = directions.measure(problem, task, "random_subspace", 64, 8)
    assert {result.trial.k for result in new} == {problem.full_dimension}
    assert directions.comparison("new", "fixed", 64, new, fixed).holds
