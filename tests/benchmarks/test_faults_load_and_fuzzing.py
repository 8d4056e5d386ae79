"""The commands that break things on purpose, in short versions, and the question whether they would notice."""

from __future__ import annotations

import json
import logging
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import fault_campaign, fuzz, load
from benchmarks.fuzz_loaders import Loader
from lowdim_bench.records import Outcome, Trial, TrialResult
from lowdim_bench.tracking import trial_files


def test_plans_kill_as_often_as_asked_and_everything() -> None:
    plan = Counter(fault_campaign.plan_kills(50, random.Random(0)))
    kills = {kind: plan[kind] for kind in fault_campaign.SHARES}
    assert sum(kills.values()) == 50
    assert min(kills.values()) >= 2
    others = {kind: plan[kind] for kind in fault_campaign.DISTURBANCES}
    assert others == {"network cut": 5, "network cut for a minute": 2, "slow node": 5}
    assert all(fault_campaign.plan_kills(4, random.Random(0)).count(kind) == 1 for kind in others)


def result(k: int, reached: bool) -> TrialResult:
    outcome = Outcome(target="train_loss <= 1", reached=reached)
    return TrialResult(trial=Trial(k=k, replicate=0, round=0), status="trained", outcomes=(outcome,))


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal stores' files of one sweep with four trials."""
    run = tmp_path / "calm" / "1" / "abc" / "artifacts"
    (run / "trials").mkdir(parents=True)
    for ks in ((1, 2), (3, 4)):
        name, content = trial_files.encode([result(k, k > 2) for k in ks])
        (run / "trials" / name).write_bytes(content)
    (run / "task.json").write_text('{"name": "t"}')
    (run / "method.json").write_text('{"name": "m"}')
    (run / "threshold.json").write_text('{"k_star": 3}')
    shutil.copytree(tmp_path / "calm", tmp_path / "disturbed")
    return tmp_path / "disturbed", tmp_path / "calm"


def test_a_campaign_finds_nothing_where_nothing_is_wrong(recorded: tuple[Path, Path]) -> None:
    faults, seen = fault_campaign.compare(*recorded)
    assert faults == []
    assert (seen["sweeps"], seen["trials"]) == (1, 4)


def test_a_campaign_notices_what_is_lost_doubled_or_changed(recorded: tuple[Path, Path]) -> None:
    disturbed, calm = recorded
    run = disturbed / "1" / "abc" / "artifacts"
    lost = min((run / "trials").iterdir())
    content = lost.read_bytes()
    lost.unlink()
    assert any("2 trials are missing" in fault for fault in fault_campaign.compare(disturbed, calm)[0])
    lost.write_bytes(content[:50])
    assert fault_campaign.compare(disturbed, calm)[1]["damaged"] == 1
    lost.write_bytes(content)

    name, doubled = trial_files.encode([result(1, False)])
    (run / "trials" / name).write_bytes(doubled)
    assert fault_campaign.compare(disturbed, calm)[0] == ["m of t: k1-r0 recorded 2 times"]
    (run / "trials" / name).unlink()

    (run / "threshold.json").write_text('{"k_star": 4}')
    assert any("threshold.json is not" in fault for fault in fault_campaign.compare(disturbed, calm)[0])
    (run / "threshold.json").write_text('{"k_star": 3}')

    shutil.copytree(disturbed / "1" / "abc", disturbed / "1" / "def")
    assert any("2 runs hold trials" in fault for fault in fault_campaign.compare(disturbed, calm)[0])
    shutil.rmtree(disturbed / "1")
    assert fault_campaign.compare(disturbed, calm)[0] == ["m of t: 0 runs hold trials"]


def said_by(module: str, *arguments: str) -> str:
    """What a command prints, run as people run it: it changes the environment of its process for good."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Scripted:
    """A campaign whose driver is done after so many looks, and that writes down when it strikes."""

    def __init__(self, folder: Path, looks: int) -> None:
        self.folder, self.left, self.struck = folder, looks, 0
        self.network = SimpleNamespace(port=1)
        self.chance = SimpleNamespace(uniform=lambda low, high: 0.0)

    def driver(self, *_: object) -> None:
        """None is started."""

    def tend(self, _: object) -> bool:
        self.left -= 1
        return self.left >= 0

    def strike(self, *_: object) -> bool:
        self.struck += 1
        return True


@pytest.mark.parametrize(("seconds", "strikes"), [(1000.0, 4), (3.0, 2)])
def test_no_more_is_killed_once_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, strikes: int
) -> None:
    clock = iter(range(1, 1000))
    monkeypatch.setattr(
        fault_campaign,
        "time",
        SimpleNamespace(monotonic=lambda: next(clock) / 2, sleep=lambda _: None, strftime=time.strftime),
    )
    campaign: Any = Scripted(tmp_path, looks=4)
    fault_campaign.run_campaign(campaign, ["worker"] * 4, trials=8, until=seconds, pause=0.0)
    assert campaign.struck == strikes


@pytest.mark.slow
def test_nothing_is_lost_or_counted_twice_while_all_is_killed() -> None:
    said = said_by("fault_campaign", "--kills", "4", "--trials", "8", "--pause", "1", "--seed", "3")
    assert "4 kills" in said
    assert "every trial is recorded exactly once, and every threshold.json equals the undisturbed one" in said


@pytest.mark.slow
def test_drivers_share_a_server_without_mixing_anything_up() -> None:
    said = said_by("load", "--submissions", "4", "--drivers", "2")
    assert "4 of 4 submissions by 2 drivers" in said
    assert "4 of 4 submissions: none lost, none mixed up, none twice" in said
    assert "bookkeeping of 4 sweeps" in said


@pytest.mark.slow
def test_submissions_queue_in_the_job_server_and_those_that_wait_are_cancelled() -> None:
    said = said_by("load", "--submissions", "3", "--drivers", "1", "--through", "submit", "--jobs-to-end", "1")
    assert "3 submissions queued" in said
    assert "before the first began" in said
    assert "jobs ended in" in said
    assert "at most 1 of them running at a time" in said
    assert "3 of 3 submissions: none lost, none mixed up, none twice" in said


def batch(trials: float) -> dict[str, Any]:
    return {"seconds": 100.0, "parts": {"opening": 5.0, "trials": trials, "finishing": 1.0, "other": 0.0}, "sweeps": []}


def test_bookkeeping_of_trials_is_a_share_of_the_whole_sweep() -> None:
    assert load.percent_of_trials([batch(1.0), batch(3.0)]) == pytest.approx(2.0)


@pytest.mark.parametrize(("limit", "within"), [(2.0, True), (0.5, False)])
def test_more_bookkeeping_than_asked_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limit: float, within: bool
) -> None:
    monkeypatch.setattr(load, "installation", lambda *_: nullcontext((Path(), {})))
    monkeypatch.setattr(load, "run_drivers", lambda *_, **__: [batch(1.0)])
    if within:
        load.main(["--bookkeeping", "digits-mlp", "--at-most", str(limit)])
    else:
        with pytest.raises(SystemExit, match="1"):
            load.main(["--bookkeeping", "digits-mlp", "--at-most", str(limit)])
    assert ("FAULT" in capsys.readouterr().out) is not within


def test_two_drivers_never_take_the_same_submission(tmp_path: Path) -> None:
    for name in (load.QUEUE, load.TAKEN):
        (tmp_path / name).mkdir()
    for number in range(10):
        (tmp_path / load.QUEUE / f"load-{number}.yaml").write_text("{}")
    one, other = load.take(tmp_path), load.take(tmp_path)
    taken = [next(one), next(other), next(one), *other, *one]
    assert sorted(Path(path).name for path in taken) == [f"load-{number}.yaml" for number in range(10)]


@pytest.fixture
def log_level() -> Iterator[None]:
    """Fuzzing silences the warnings of loaders, for its process as a rule; here others come after it."""
    logger = logging.getLogger("lowdim_bench")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.mark.slow
@pytest.mark.usefixtures("log_level")
def test_loaders_raise_nothing_but_the_projects_own_error() -> None:
    counts, faults = fuzz.fuzz(4000, ["mutation", "hypothesis"], [], seed=7)
    assert faults == []
    assert counts.total() >= 4000
    assert all(counts[name, "mutation"] > 100 for name in ("task", "submission", "trials", "method", "certificate"))


@pytest.mark.usefixtures("log_level")
@pytest.mark.parametrize("tool", ["mutation", "hypothesis"])
def test_a_fuzzer_finds_a_loader_that_lets_another_error_through(tool: str) -> None:
    def fragile(content: bytes) -> object:
        try:
            data = json.loads(content)
        except (ValueError, RecursionError):
            return None
        return 1 / data["size"] if isinstance(data, dict) and "size" in data else None

    loader = Loader("fragile", fragile, (b'{"size": 3, "name": "x"}',))
    run, _ = fuzz.TOOLS[tool]
    with pytest.raises(AssertionError, match=r"the loader fragile raised (TypeError|ZeroDivisionError)"):
        run(loader, 3000, 0)
