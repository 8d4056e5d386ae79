"""A pack of trials: each result is what the trial would have had alone, from the same start for every method."""

from __future__ import annotations

import pytest

from lowdim_bench.records import TrialResult
from tests.problems.small import BLOBS, make_task
from tests.trial.running import PROBLEM, TASK, choice, one, own, run, trials


def timeless(result: TrialResult) -> TrialResult:
    return result.model_copy(update={"seconds": 0.0, "cpu_seconds": None})


@pytest.mark.parametrize("name", ["random_subspace", "random_mask", "burn_in_subspace", "imp"])
def test_results_do_not_depend_on_the_pack(name: str) -> None:
    asked = trials(20, 30, 40, 25)
    together = run(TASK, choice(name), asked, PROBLEM)
    for result, single in zip(together, asked, strict=True):
        alone = run(TASK, choice(name), [single], PROBLEM)[0]
        assert result.status == alone.status
        assert result.preparation == alone.preparation
        assert [point.step for point in result.curve] == [point.step for point in alone.curve]
        losses = [[point.train_loss for point in one.curve] for one in (result, alone)]
        assert losses[0] == pytest.approx(losses[1], rel=2e-3)
        assert result.outcomes == alone.outcomes


def test_a_pack_run_twice_gives_the_same_results() -> None:
    first, again = (run(TASK, choice("burn_in_subspace"), trials(20, 30)) for _ in range(2))
    assert [timeless(result) for result in first] == [timeless(result) for result in again]


def test_operators_of_several_kinds_may_share_a_pack() -> None:
    asked = trials(8, 9, 20, 21)
    together = run(TASK, own("TwoKinds"), asked, PROBLEM)
    assert [result.status for result in together] == ["trained"] * 4
    for result, single in zip(together, asked, strict=True):
        alone = run(TASK, own("TwoKinds"), [single], PROBLEM)[0]
        assert result.curve[-1].train_loss == pytest.approx(alone.curve[-1].train_loss, rel=1e-3)


def test_methods_are_compared_on_the_same_initial_weights_and_batches() -> None:
    """At k = D a mask, an orthonormal subspace and full training are the same training but for the basis."""
    task = make_task(
        BLOBS,
        {"training": {"optimizer": {"kind": "sgd", "momentum": 0.9}, "learning_rate": {"value": 0.1}, "steps": 20}},
    )
    results = [
        one(task, method, 53)
        for method in (choice("dense"), choice("random_mask"), choice("random_subspace", operator="orthonormal"))
    ]
    losses = [[point.train_loss for point in result.curve] for result in results]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[2] == pytest.approx(losses[0], rel=1e-3)
