"""A sweep has one driver at a time: on this machine, and between machines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lowdim_bench.errors import InfrastructureError, UserError
from lowdim_bench.methods import MethodChoice
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task
from lowdim_bench.tracking import Store, SweepLog
from lowdim_bench.tracking import driver_lock as under_test
from lowdim_bench.tracking.driver_lock import Holder, Lease, MachineLock

Open = Callable[[], SweepLog]
ROOT = Path(__file__).resolve().parents[2]

HOLDER = """
import sys, time
from lowdim_bench.methods import MethodChoice
from lowdim_bench.settings import Settings
from lowdim_bench.specs import load_task
from lowdim_bench.tracking import Store
store = Store(Settings.resolve(tracking_uri=sys.argv[1], state_dir=sys.argv[2]))
log = store.open_sweep(load_task("digits-mlp"), MethodChoice(name="random_subspace"), (1, 2048), 2410)
print(log.run_id, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_second_driver_is_refused_until_the_first_is_dead(store: Store, settings: Settings, open_sweep: Open) -> None:
    command = [sys.executable, "-c", HOLDER, settings.tracking_uri, str(settings.state_dir)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        run_id = holder.stdout.readline().strip()
        with pytest.raises(
            UserError, match=rf"random_subspace on task digits-mlp is being run already, by process {holder.pid} on"
        ):
            open_sweep()
        assert [sweep.status for sweep in store.sweeps()] == ["running"], "reading is free"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with open_sweep() as log:
            assert log.run_id == run_id


@pytest.mark.slow
def test_other_sweeps_are_free(store: Store, open_sweep: Open, task: Task) -> None:
    with open_sweep(), store.open_sweep(task, MethodChoice(name="imp"), (1, 9), 2410):
        pass


def test_a_lock_on_this_machine_names_its_holder_and_is_released(tmp_path: Path) -> None:
    me = Holder.me()
    lock = MachineLock(tmp_path / "a.lock", me, "The sweep")
    with pytest.raises(
        UserError, match=rf"The sweep is being run already, by process {os.getpid()} on .*, since 20\d\d-"
    ):
        MachineLock(tmp_path / "a.lock", Holder.me(), "The sweep")
    lock.release()
    MachineLock(tmp_path / "a.lock", Holder.me(), "The sweep").release()


class Tag:
    """A tag of a run."""

    def __init__(self, holder: Holder | None = None) -> None:
        self.text = holder.model_dump_json() if holder else None
        self.written = 0

    def read(self) -> str | None:
        return self.text

    def write(self, text: str) -> None:
        self.text = text
        self.written += 1

    def lease(self, *, shared: bool = False) -> Lease:
        return Lease(self.read, self.write, Holder.me(), "The sweep", shared=shared)


def holder(**changes: object) -> Holder:
    return Holder.me().model_copy(update=changes)


def dead_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def test_a_living_holder_on_this_machine_is_respected() -> None:
    with pytest.raises(UserError, match="is being run already, by process 1 on"):
        Tag(holder(pid=1)).lease()


def test_a_holder_elsewhere_is_respected_once_it_shows_that_it_lives(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = holder(machine="another boot", host="elsewhere")
    tag, slept = Tag(other), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            tag.write(other.model_copy(update={"expires": other.expires + 30}).model_dump_json())

    monkeypatch.setattr(under_test.time, "sleep", sleep)
    with pytest.raises(UserError, match=r"is being run already, by process .* on elsewhere"):
        tag.lease()
    assert slept == [under_test.LOOK_EVERY] * 3
    assert "which may have died. Waiting to see whether it has: 1" in caplog.text  # of 180 s


@pytest.mark.parametrize("gives_up", [True, False])
def test_a_holder_elsewhere_that_says_nothing_any_more_is_followed(
    monkeypatch: pytest.MonkeyPatch, *, gives_up: bool
) -> None:
    now = time.time()
    tag = Tag(holder(machine="another boot", expires=now + under_test.LEASE_SECONDS))
    clock = [now]
    monkeypatch.setattr(under_test.time, "time", lambda: clock[0])

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        if gives_up:
            tag.text = None

    monkeypatch.setattr(under_test.time, "sleep", sleep)
    assert tag.lease().is_mine()
    waited = clock[0] - now
    assert waited == under_test.LOOK_EVERY if gives_up else waited >= under_test.LEASE_SECONDS


def test_a_holder_that_is_gone_is_not() -> None:
    for gone in (
        holder(machine="another boot", expires=time.time() - 1),
        holder(pid=dead_pid()),
        None,
    ):
        assert Tag(gone).lease().is_mine()


def test_a_tag_that_is_no_lease_holds_nothing() -> None:
    tag = Tag()
    tag.text = "not JSON"
    assert tag.lease().is_mine()


def test_of_two_that_write_at_once_the_first_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    tag = Tag()
    other = holder(machine="another boot")
    monkeypatch.setattr(under_test.time, "sleep", lambda _: tag.write(other.model_dump_json()))
    lease = tag.lease(shared=True)
    with pytest.raises(UserError, match="is being run already"):
        lease.confirm()


def test_a_lease_is_read_back_once_the_moment_is_over_in_which_others_may_have_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(under_test.time, "sleep", waited.append)
    lease = Tag().lease(shared=True)
    lease.confirm()
    lease.confirm()
    assert len(waited) == 1
    assert 0.5 < waited[0] <= under_test.SETTLE_SECONDS
    Tag().lease().confirm()
    assert len(waited) == 1, "nobody else reaches a store on this machine"


def test_a_lease_is_renewed_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    tag = Tag()
    lease = tag.lease()
    for _ in range(100):
        lease.heartbeat()
    assert tag.written == 1
    monkeypatch.setattr(under_test, "RENEW_EVERY", 0.0)
    eager = Tag()
    lease = eager.lease()
    for _ in range(3):
        lease.heartbeat()
    assert eager.written == 4


def test_a_driver_whose_sweep_was_taken_over_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "RENEW_EVERY", 0.0)
    tag = Tag()
    lease = tag.lease()
    tag.write(holder(host="elsewhere", machine="another boot").model_dump_json())
    with pytest.raises(InfrastructureError, match=r"taken over by process .* on elsewhere"):
        lease.heartbeat()
    assert not lease.is_mine()
