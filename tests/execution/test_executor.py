"""The executor on a real Ray cluster: packs come back once, whatever happens to the processes that run them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowdim_bench.errors import InfrastructureError, UserError
from lowdim_bench.execution import Answer, Executor, Finished, Job, Work
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task

pytestmark = pytest.mark.slow

Act = Callable[[Mapping[str, Any], Sequence[Trial]], Sequence[TrialResult]]


def trained(trials: Sequence[Trial], reason: str = "") -> list[TrialResult]:
    return [TrialResult(trial=trial, status="trained", reason=reason) for trial in trials]


def say(
    what: Callable[[Mapping[str, Any]], str], problem: Mapping[str, Any], trials: Sequence[Trial]
) -> list[TrialResult]:
    return trained(trials, what(problem))


def sleep(seconds: float, problem: Mapping[str, Any], trials: Sequence[Trial]) -> list[TrialResult]:
    time.sleep(seconds)
    return trained(trials)


def announce_and_sleep_once(marker: Path, problem: Mapping[str, Any], trials: Sequence[Trial]) -> list[TrialResult]:
    """The first time: write the process id and hang. After that: work."""
    if not marker.exists():
        marker.with_suffix(".draft").write_text(str(os.getpid()))
        marker.with_suffix(".draft").rename(marker)
        time.sleep(600)
    return trained(trials)


def count_and(then: Act, marker: Path, problem: Mapping[str, Any], trials: Sequence[Trial]) -> Sequence[TrialResult]:
    with marker.open("a") as file:
        file.write("x")
    return then(problem, trials)


def leave(poisoned: int, problem: Mapping[str, Any], trials: Sequence[Trial]) -> list[TrialResult]:
    if any(trial.k == poisoned for trial in trials):
        os._exit(7)
    return trained(trials)


def stumble(problem: Mapping[str, Any], trials: Sequence[Trial]) -> list[TrialResult]:
    raise KeyError("a bug of the harness")


def exhaust(limit: int, problem: Mapping[str, Any], trials: Sequence[Trial]) -> list[TrialResult]:
    if len(trials) > limit:
        raise MemoryError("no room")
    return trained(trials)


def forget_one(problem: Mapping[str, Any], trials: Sequence[Trial]) -> list[TrialResult]:
    return trained(trials[1:])


def is_read_only(problem: Mapping[str, Any]) -> str:
    return "writeable" if problem["arrays"]["x"].flags.writeable else "read-only"


def environment(problem: Mapping[str, Any]) -> str:
    return f"{os.environ['OMP_NUM_THREADS']}|{os.environ.get('CUDA_VISIBLE_DEVICES')}|{problem['device']}"


def built(problem: Mapping[str, Any]) -> str:
    return f"{os.getpid()}-{problem['built']}"


WORK = Work(
    load=lambda task, root: {"x": np.arange(200_000, dtype=np.float64)},
    build=lambda task, arrays, device: {"arrays": arrays, "device": device, "built": time.perf_counter_ns()},
    run=lambda problem, task, method, trials: Answer(method(problem, trials)),
    start=lambda: None,
)


@pytest.fixture(scope="module", autouse=True)
def _workers_need_not_import_this_file(cluster: None) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def executor(cluster: None, settings: Settings) -> Iterator[Executor]:
    with Executor(settings, WORK) as made:
        yield made


@pytest.fixture
def job(task: Task) -> Callable[..., Job]:
    def make(act: Act, count: int = 1, first: int = 1, **more: Any) -> Job:
        trials = tuple(Trial(k=k, replicate=0, round=0) for k in range(first, first + count))
        return Job(sweep="s", task=task, method=act, trials=trials, **more)

    return make


def gather(executor: Executor, jobs: int, seconds: float = 60) -> list[Finished]:
    """As many finished jobs as asked for, and then no more."""
    found: list[Finished] = []
    until = time.monotonic() + seconds
    while len(found) < jobs and time.monotonic() < until:
        found += executor.wait(5)
    assert executor.wait(0) == []
    assert len(found) == jobs
    return sorted(found, key=lambda finished: finished.job.trials[0].k)


def test_every_trial_comes_back_once(executor: Executor, job: Callable[..., Job]) -> None:
    assert (executor.workers, executor.idle, executor.device) == (2, 2, "cpu")
    for n in range(6):
        executor.submit(job(partial(sleep, 0.01), count=3, first=1 + 3 * n))
    assert executor.idle == 0
    found = gather(executor, 6)
    assert [result.trial.k for finished in found for result in finished.results] == list(range(1, 19))
    assert {finished.attempts for finished in found} == {1}
    assert executor.idle == 2


def test_nothing_under_way_is_nothing_to_wait_for(executor: Executor) -> None:
    assert executor.wait() == []


def test_wait_keeps_to_its_time(executor: Executor, job: Callable[..., Job]) -> None:
    executor.submit(job(partial(sleep, 2)))
    start = time.monotonic()
    assert executor.wait(0.5) == []
    assert time.monotonic() - start < 1.5
    gather(executor, 1)


def test_a_worker_has_one_thread_no_gpu_and_shared_read_only_data(executor: Executor, job: Callable[..., Job]) -> None:
    executor.submit(job(partial(say, environment)))
    assert gather(executor, 1)[0].results[0].reason == "1||cpu"
    executor.submit(job(partial(say, is_read_only)))
    assert gather(executor, 1)[0].results[0].reason == "read-only"


def test_a_worker_builds_a_problem_once(executor: Executor, job: Callable[..., Job]) -> None:
    for n in range(8):
        executor.submit(job(partial(say, built), first=n + 1))
    reasons = {finished.results[0].reason for finished in gather(executor, 8)}
    assert len(reasons) == len({reason.partition("-")[0] for reason in reasons}) <= 2


def test_a_killed_worker_costs_only_time(executor: Executor, job: Callable[..., Job], tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    executor.submit(job(partial(announce_and_sleep_once, marker), count=2))
    while not marker.exists():
        assert executor.wait(0.1) == []
    os.kill(int(marker.read_text()), signal.SIGKILL)
    (finished,) = gather(executor, 1)
    assert finished.error is None
    assert [result.trial.k for result in finished.results] == [1, 2]
    assert finished.attempts == 2


def test_a_job_that_kills_its_workers_is_given_up_and_others_are_not(
    executor: Executor, job: Callable[..., Job], tmp_path: Path
) -> None:
    executor.submit(job(partial(count_and, partial(leave, 2), tmp_path / "count"), count=2))
    for n in range(4):
        executor.submit(job(partial(sleep, 0.05), first=10 + n))
    spared, bad, *good = gather(executor, 6)
    assert (tmp_path / "count").read_text() == "xxxxx", (
        "twice with its neighbour, which then runs alone, and twice alone"
    )
    assert [(result.trial.k, result.status) for result in spared.results] == [(1, "trained")]
    (result,) = bad.results
    assert bad.error is None
    assert (result.trial.k, result.status) == (2, "failed")
    assert "given up after 3 attempts" in result.reason
    assert "ActorDiedError" in result.reason
    assert all(finished.error is None and finished.attempts == 1 for finished in good)


def test_a_bug_is_not_tried_again(executor: Executor, job: Callable[..., Job], tmp_path: Path) -> None:
    executor.submit(job(partial(count_and, stumble, tmp_path / "count")))
    (finished,) = gather(executor, 1)
    assert (tmp_path / "count").read_text() == "x"
    assert finished.error is not None
    assert "KeyError: 'a bug of the harness'" in finished.error
    assert "in stumble" in finished.error
    assert "\x1b" not in finished.error


def test_results_that_do_not_fit_the_trials_are_a_bug(executor: Executor, job: Callable[..., Job]) -> None:
    executor.submit(job(forget_one, count=2))
    (finished,) = gather(executor, 1)
    assert finished.error is not None
    assert "asked for ['k1-r0', 'k2-r0'], got ['k2-r0']" in finished.error


def test_a_pack_that_takes_too_much_memory_is_halved(executor: Executor, job: Callable[..., Job]) -> None:
    executor.submit(job(partial(exhaust, 2), count=5))
    found = gather(executor, 3)
    assert [[trial.k for trial in finished.job.trials] for finished in found] == [[1, 2], [3], [4, 5]]
    assert all(finished.error is None for finished in found)


def test_a_single_trial_that_takes_too_much_memory_is_tried_twice(executor: Executor, job: Callable[..., Job]) -> None:
    executor.submit(job(partial(exhaust, 0)))
    (finished,) = gather(executor, 1)
    assert finished.attempts == 2
    assert finished.results[0].status == "failed"
    assert "more memory" in finished.results[0].reason


def test_a_job_past_its_deadline_is_stopped(executor: Executor, job: Callable[..., Job]) -> None:
    start = time.monotonic()
    executor.submit(job(partial(sleep, 600), deadline=0.5))
    (finished,) = gather(executor, 1)
    assert time.monotonic() - start < 10
    assert finished.results[0].status == "failed"
    assert "not done 0.5 s after its start" in finished.results[0].reason


def no_start() -> None:
    raise OSError("no accelerator here")


def test_workers_that_cannot_start_end_the_run_and_say_why(
    executor: Executor, settings: Settings, job: Callable[..., Job]
) -> None:
    executor.close()
    one = replace(settings, workers=1)
    with Executor(one, replace(WORK, start=no_start)) as lame:
        lame.submit(job(partial(sleep, 0)))
        with pytest.raises(InfrastructureError, match=r"(?s)No worker can be started.*no accelerator here"):
            lame.wait(60)


def test_close_is_quick_and_may_be_repeated(cluster: None, settings: Settings, job: Callable[..., Job]) -> None:
    with Executor(settings, WORK) as executor:
        executor.submit(job(partial(sleep, 600)))
        executor.wait(0.2)
        start = time.monotonic()
        executor.close()
    executor.close()
    assert time.monotonic() - start < 5


def test_a_share_of_a_gpu(cluster: None, settings: Settings, executor: Executor) -> None:
    executor.close()
    with pytest.raises(UserError, match="at most 1 fit"):
        Executor(replace(settings, gpus_per_worker=None, workers=2), WORK)
    with Executor(replace(settings, gpus_per_worker=0.5), WORK) as two:
        assert (two.workers, two.device) == (2, "cuda")
