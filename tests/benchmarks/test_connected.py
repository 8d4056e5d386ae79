"""Linearly connected examples by when trainings part and by what was pre-trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import connected
from lowdim_bench import problems
from lowdim_bench.landscape import LinearConnection
from lowdim_bench.problems.classification import ClassificationProblem


def test_easy_examples_are_those_of_smallest_error_norm(tmp_path: Path) -> None:
    task = connected.unstable(steps=12)
    problem = problems.build(task, problems.load_arrays(task, tmp_path))
    assert isinstance(problem, ClassificationProblem)
    chosen = connected.diets(task, problem, 5, 40)
    assert [len(set(rows.tolist())) for rows in chosen.values()] == [40] * 3
    ends = torch.stack(connected.pretrained(task, problem, connected.SCORING, 5))
    scores = problem.error_norms(ends).mean(dim=0)
    others = torch.ones(len(scores), dtype=torch.bool)
    others[chosen["easy"]] = others[chosen["hard"]] = False
    assert float(scores[chosen["easy"]].max()) <= float(scores[others].min())
    assert float(scores[others].max()) <= float(scores[chosen["hard"]].min())


def test_pretraining_sees_the_diet_alone(tmp_path: Path) -> None:
    """Examples that are not on it may say what they like."""
    task = connected.unstable(steps=12)
    arrays = problems.load_arrays(task, tmp_path)
    other = dict(arrays, y_train=arrays["y_train"].copy())
    other["y_train"][40:] = 3
    ends = []
    for data in (arrays, other):
        problem = problems.build(task, data)
        assert isinstance(problem, ClassificationProblem)
        ends.append([connected.pretrained(task, problem, [0], 5, rows)[0] for rows in (torch.arange(40), None)])
    assert torch.equal(ends[0][0], ends[1][0])
    assert not torch.equal(ends[0][1], ends[1][1])


def test_what_is_shown_are_means_over_seeds_and_paired_differences(capsys: pytest.CaptureFixture[str]) -> None:
    """Barriers 0 and 0.5 in one seed, 1 and 1.5 in the other: means 0.25 and 1.25, and half of the first are at most 0.01."""
    one, other = (LinearConnection(np.array([0.0, 0.5]) + more) for more in (0, 1))
    connected.show({"parted": [one, other]}, {"easy": [one, other], "hard": [other, one]}, tolerance=0.01)
    parted, *_, difference = capsys.readouterr().out.splitlines()
    assert "mean barrier +0.750 (-5.603..+7.103)  share up to 0.01 +0.250 (" in parted, "0.75 less 12.706 * 0.5"
    assert "easy less hard: mean barrier +0.000 (-12.706..+12.706)" in difference


def test_the_command_prints_every_training_and_the_differences(capsys: pytest.CaptureFixture[str]) -> None:
    connected.main(["--seeds", "2", "--steps", "12", "--step", "2", "--size", "30"])
    first, *shown = capsys.readouterr().out.splitlines()
    assert "1437 examples, n = 2 seeds" in first
    diets = [f"2 steps on 30 {name}" for name in ("easy", "hard", "random")]
    names = [
        *(f"parted at step {step}" for step in (0, 2, 8)),
        *diets,
        *(f"{diets[0]} less {one}" for one in diets[1:]),
    ]
    assert [line.split("mean barrier")[0].strip(" :") for line in shown] == names


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--seeds", "1"], "at least 2"),
        (["--step", "500"], "1 to 499"),
        (["--size", "100000"], "there are 1437 examples"),
    ],
)
def test_what_is_not_valid_is_refused(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        connected.main(arguments)
    assert reason in capsys.readouterr().err
