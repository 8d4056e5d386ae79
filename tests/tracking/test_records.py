"""What is written of a sweep, as plain data."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable

import numpy as np
import pytest

from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Estimate, TrialResult, priced_trial
from lowdim_bench.specs import Task, task_names
from lowdim_bench.specs.catalogue import load_task
from lowdim_bench.tracking import summary, trial_files

Make = Callable[..., TrialResult]


def test_a_file_is_named_by_its_round_and_content(result: Make) -> None:
    name, content = trial_files.encode([result(8, in_round=2), result(9, in_round=3)])
    assert name == f"round-0003-{hashlib.sha256(content).hexdigest()[:12]}.json"
    assert trial_files.encode([result(8, in_round=2), result(9, in_round=3)]) == (name, content)
    assert trial_files.decode({name: content}, "run") == {name: (result(8, in_round=2), result(9, in_round=3))}


def named(content: bytes) -> dict[str, bytes]:
    return {f"round-0000-{hashlib.sha256(content).hexdigest()[:12]}.json": content}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"format":1,"results":[{"trial":{}}]}',
        b'{"format":1,"results":[],"surprise":1}',
        b'{"format":1,"results":[{"trial":{"k":NaN,"replicate":0,"round":0},"status":"trained"}]}',
        b"[" * 100_000,
    ],
)
def test_a_whole_file_of_something_else_is_left_out(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert trial_files.decode(named(content), "run r") == {}
    assert "will run again" in caplog.text


def test_the_first_file_by_name_counts_and_a_contradiction_is_said(
    result: Make, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"b": (result(8, reached=False),), "a": (result(8),)}
    assert trial_files.merge(files) == trial_files.merge(dict(reversed(files.items()))) == [result(8)]
    assert "different outcomes; that of b is not used" in caplog.text


@pytest.mark.parametrize("name", task_names())
def test_parameters_are_short_plain_and_the_same_for_every_run(name: str) -> None:
    parameters = summary.parameters(load_task(name), MethodChoice(name="imp"))
    assert parameters["task"] == name
    assert parameters["method"] == "imp"
    assert all(len(value) < 200 for value in parameters.values())
    assert any(key.startswith("imp.") for key in parameters)


def test_only_finite_rows_of_a_curve_are_drawn() -> None:
    rows = np.array([[0.1, 0.0, 0.2], [math.nan, 0.0, 1.0], [0.9, 0.8, math.inf]])
    fit = summary.finite_rows([1, 2, 3], rows)
    assert fit is not None
    assert (fit.k, fit.probability) == ((1,), (0.1,))
    assert summary.finite_rows([], np.empty((0, 3))) is None


def test_the_price_is_that_of_the_trial_nearest_to_the_threshold(result: Make, found: Estimate) -> None:
    results = [result(20), result(45, 1), result(45, 0), result(200), result(50, audit=None)]
    priced = priced_trial(results, found)
    assert priced is not None
    assert (priced.trial.k, priced.trial.replicate) == (45, 0)
    assert priced_trial([result(50, audit=None)], found) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "k* = 50 (95 % interval 46 to 54): the fewest trained numbers with which imp reaches"),
        ({"status": "above_range", "k_star": None, "low": 2048, "high": None}, "k* > 2,048: with no number of trained"),
        ({"status": "below_range", "k_star": None, "low": None, "high": 1}, "k* ≤ 1, the smallest k that was allowed"),
        ({"status": "unfinished", "high": None}, "k* = 50 (95 % interval 46 to ?), less precise than the task asks"),
        (
            {"status": "unfinished", "k_star": None, "low": None, "high": None},
            "k* = ?, less precise than the task asks",
        ),
    ],
)
def test_the_result_in_one_sentence(task: Task, found: Estimate, changes: dict[str, object], expected: str) -> None:
    sentence = summary.sentence(task, "imp", found.model_copy(update=changes), 2410)
    assert sentence.startswith(expected)
    assert sentence.endswith("(9 of 16 trainings reached it).")
    assert sentence.count(". ") == 0
