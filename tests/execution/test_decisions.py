"""What the executor decides without Ray: how many workers, and what becomes of a job that failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.execution.jobs import Attempt, Failure, Job, Trouble, after_failure
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
    assert finished.error is not None
    assert "k1-r1" in finished.error
    assert finished.error.endswith("\nwhy")


def test_halves_of_a_pack_start_afresh(job: Job) -> None:
    (left, right), finished = after_failure(Attempt(job, ("crash",)), Trouble("memory"))
    assert finished is None
    assert left.job.trials + right.job.trials == job.trials
    assert (left.number, right.number) == (1, 1)


def test_an_error_names_the_trials_but_not_all_of_a_large_pack(job: Job) -> None:
    _, finished = after_failure(Attempt(job), Trouble("bug", "why"))
    assert finished is not None
    assert finished.error is not None
    assert "k8-r1 and 3 more" in finished.error
    assert job.task.name in finished.error


def test_jobs_of_a_task_share_its_data(job: Job) -> None:
    assert job.data_key == job.task.digest
    assert replace(job, data="images").data_key == "images"
