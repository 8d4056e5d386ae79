"""The submission's own test: `pytest submissions/deep-digits`."""

from __future__ import annotations

from pathlib import Path

from lowdim_bench import problems
from lowdim_bench.contract import Subject, check
from lowdim_bench.specs import load_task
from lowdim_bench.submissions import freeze_submission, submission_tasks

HERE = Path(__file__).parent


def test_only_the_network_is_its_own() -> None:
    (own,) = submission_tasks(HERE)
    shipped = load_task("digits-mlp")
    named = {"name", "description", "track", "problem", "threshold"}
    assert own.model_dump(exclude=named) == shipped.model_dump(exclude=named)
    assert own.problem.model_dump(exclude={"network"}) == shipped.problem.model_dump(exclude={"network"})
    assert own.threshold.model_copy(update={"k_max": 2048}) == shipped.threshold
    assert own.track == "open"


def test_its_method_keeps_the_contract_on_its_network() -> None:
    (own,) = submission_tasks(HERE)
    problem = problems.build(own, problems.load_arrays(own, HERE))
    assert problem.full_dimension == 1754
    _, choice = freeze_submission(HERE)
    assert [one for one in check(Subject(choice.build(), own, problem)) if not one.passed] == []
