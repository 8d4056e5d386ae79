"""What the executor decides without Ray: how many workers, and what becomes of a job that failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lowdim_bench.errors import InfrastructureError, UserError
from lowdim_bench.execution.jobs import NODE_ATTEMPTS, Attempt, Failure, Job, Trouble, after_failure
from lowdim_bench.execution.plan import Plan, plan_workers
from lowdim_bench.records import Trial
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task


def settings_with(settings: Settings, workers: int | None, gpus: float | None, autoscaling: bool = False) -> Settings:
    return replace(settings, workers=workers, gpus_per_worker=gpus, autoscaling=autoscaling)


@pytest.mark.parametrize(
    ("workers", "gpus", "resources", "expected"),
    [
        (None, None, {"CPU": 8.0}, Plan(8, 1, 0.0, "cpu")),
        (3, None, {"CPU": 8.0}, Plan(3, 1, 0.0, "cpu")),
        (None, None, {"CPU": 16.0, "GPU": 2.0}, Plan(2, 1, 1.0, "cuda")),
        (None, 0.25, {"CPU": 16.0, "GPU": 2.0}, Plan(8, 1, 0.25, "cuda")),
        (None, 0.1, {"CPU": 64.0, "GPU": 1.0}, Plan(10, 1, 0.1, "cuda")),
        (None, 0.4, {"CPU": 16.0, "GPU": 2.0}, Plan(4, 1, 0.4, "cuda")),  # 5 x 0.4 = 2, but two fit on each
        (None, 0.25, {"CPU": 3.0, "GPU": 1.0}, Plan(3, 1, 0.25, "cuda")),
        (None, 0.0, {"CPU": 4.0, "GPU": 2.0}, Plan(4, 1, 0.0, "cpu")),
    ],
)
def test_as_many_workers_as_fit(
    settings: Settings, workers: int | None, gpus: float | None, resources: dict[str, float], expected: Plan
) -> None:
    assert plan_workers(settings_with(settings, workers, gpus), resources) == expected


@pytest.mark.parametrize(
    ("workers", "gpus", "resources"),
    [
        (9, None, {"CPU": 8.0}),
        (None, 0.5, {"CPU": 8.0}),
        (3, None, {"CPU": 8.0, "GPU": 2.0}),
        (None, None, {}),
    ],
)
def test_more_than_fit_is_refused_at_once(
    settings: Settings, workers: int | None, gpus: float | None, resources: dict[str, float]
) -> None:
    with pytest.raises(UserError, match="the cluster has"):
        plan_workers(settings_with(settings, workers, gpus), resources)


def test_a_growing_cluster_is_taken_at_its_word(settings: Settings) -> None:
    planned = plan_workers(settings_with(settings, 8, 0.5, autoscaling=True), {"CPU": 2.0})
    assert planned == Plan(8, 1, 0.5, "cuda")
    with pytest.raises(UserError, match="give --workers"):
        plan_workers(settings_with(settings, None, 0.5, autoscaling=True), {"CPU": 2.0})


@pytest.fixture
def job(task: Task) -> Job:
    return Job(sweep="s", task=task, method=None, trials=tuple(Trial(k=k, replicate=1, round=0) for k in range(1, 12)))


def single(job: Job) -> Job:
    return replace(job, trials=job.trials[:1])


@pytest.mark.parametrize(
    ("failures", "attempts"),
    [
        (["crash"] * 3, 3),
        (["memory"] * 2, 2),
        (["crash", "memory", "crash"], 3),
        (["bug"], 1),
        (["crash", "bug"], 2),
        (["deadline"], 1),
        (["node", "crash", "node", "crash", "crash"], 5),
    ],
)
def test_when_a_single_trial_is_given_up(job: Job, failures: list[Failure], attempts: int) -> None:
    attempt = Attempt(single(job))
    for failure in failures[:-1]:
        (attempt,), finished = after_failure(attempt, Trouble(failure, "why"))
        assert finished is None
    again, finished = after_failure(attempt, Trouble(failures[-1], "why"))
    assert again == []
    assert finished is not None
    assert finished.attempts == attempts
    if failures[-1] == "bug":
        assert finished.results == ()
        assert finished.error is not None
        assert "k1-r1" in finished.error
        assert finished.error.endswith("\nwhy")
    else:
        assert finished.error is None
        (result,) = finished.results
        assert (result.trial, result.status) == (job.trials[0], "failed")
        assert result.reason.endswith(": why")


def test_a_node_that_dies_is_no_trials_fault_but_not_for_ever(job: Job) -> None:
    attempt, finished = Attempt(job), None
    while finished is None:
        again, finished = after_failure(attempt, Trouble("node", "why"))
        if again:
            (attempt,) = again
            assert attempt.job == job
    assert finished.attempts == NODE_ATTEMPTS
    assert finished.error is not None
    assert "the node that ran it died each time" in finished.error


@pytest.mark.parametrize("failure", ["crash", "memory", "deadline"])
@pytest.mark.parametrize("poisoned", [{1}, {11}, {3, 4, 8}, set(range(1, 12))])
def test_poisoned_trials_are_isolated_and_the_others_come_back(job: Job, failure: Failure, poisoned: set[int]) -> None:
    queue, runs, failed, good = [Attempt(job)], 0, [], []
    while queue:
        attempt = queue.pop(0)
        runs += 1
        if not poisoned & {trial.k for trial in attempt.job.trials}:
            good += [trial.k for trial in attempt.job.trials]
            continue
        again, finished = after_failure(attempt, Trouble(failure, "why"))
        queue = again + queue
        if finished is not None:
            failed += [result.trial.k for result in finished.results]
    assert sorted(failed) == sorted(poisoned)
    assert sorted(good) == sorted(set(range(1, 12)) - poisoned)
    assert runs <= 1 + len(job.trials) * 4


def test_halves_of_a_pack_start_afresh(job: Job) -> None:
    (left, right), finished = after_failure(Attempt(job, ("crash",)), Trouble("memory"))
    assert finished is None
    assert left.job.trials + right.job.trials == job.trials
    assert (left.number, right.number) == (1, 1)


def test_a_pack_whose_worker_dies_runs_once_more_before_it_is_halved(job: Job) -> None:
    ((again,), _) = after_failure(Attempt(job), Trouble("crash"))
    assert again.job == job
    (halves, _) = after_failure(again, Trouble("crash"))
    assert [len(half.job.trials) for half in halves] == [5, 6]
    (quarters, _) = after_failure(halves[0], Trouble("crash"))
    assert [len(quarter.job.trials) for quarter in quarters] == [2, 3]


def test_an_error_names_the_trials_but_not_all_of_a_large_pack(job: Job) -> None:
    _, finished = after_failure(Attempt(job), Trouble("bug", "why"))
    assert finished is not None
    assert finished.error is not None
    assert "k8-r1 and 3 more" in finished.error
    assert job.task.name in finished.error


def test_jobs_of_a_task_share_its_data(job: Job) -> None:
    assert job.data_key == job.task.digest
    assert replace(job, data="images").data_key == "images"


def test_a_machine_on_which_ray_does_not_come_up_is_a_clear_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray raises a bare Exception where its node does not answer in half a minute."""
    import ray

    from lowdim_bench.execution.cluster import Cluster

    def fail(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(InfrastructureError, match=r"timed out during startup.*Run the same command again"):
        Cluster.open(settings)
