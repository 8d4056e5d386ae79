"""The commands that break things on purpose, in short versions, and the question whether they would notice."""

from __future__ import annotations

import json
import logging
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

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
    assert all(plan[kind] == 5 for kind in fault_campaign.DISTURBANCES)


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


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_is_lost_or_counted_twice_while_all_is_killed() -> None:
    said = said_by("fault_campaign", "--kills", "4", "--trials", "8", "--pause", "1", "--seed", "3")
    assert "4 kills" in said
    assert "every trial is recorded exactly once, and every threshold.json equals the undisturbed one" in said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_drivers_share_a_server_without_mixing_anything_up() -> None:
    said = said_by("load", "--submissions", "4", "--drivers", "2")
    assert "4 of 4 submissions by 2 drivers" in said
    assert "none lost, none mixed up, none twice" in said
    assert "bookkeeping of 4 sweeps" in said


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
