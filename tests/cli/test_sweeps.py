"""The main job through the command line: runs, ranks, continues, and survives what is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROW = {
    "task", "method", "params", "track", "status", "k_star", "low", "high", "full_dimension", "efficiency", "hits",
    "trials", "side_information_bits", "preparation_gradient_evaluations", "run_id",
}  # fmt: skip
LONG = {"precision": 1.001, "trials": 64, "minimum_replicates": 20}
"""So narrow an interval that all 64 trials are run, in eight rounds: time enough to be killed."""


def test_run_rank_and_run_again(cli: Cli, write_task: Callable[..., str]) -> None:
    template = str(Path(__file__).parents[2] / "submissions" / "template")
    command = ["run", write_task(), "-m", "random_subspace", "-m", template, "-m", "dense"]
    out, err = cli.run(*command)
    assert "random_subspace" in out
    assert "trainings, k* in" in err
    assert "done" in err
    board = cli.json("rank")
    assert len(board["rows"]) == 3
    for row in board["rows"]:
        assert row.keys() >= ROW
        assert row["status"] == "found"
        assert row["low"] <= row["k_star"] <= row["high"]
        assert row["efficiency"] == pytest.approx(row["full_dimension"] / row["k_star"])
        assert row["trials"] >= 8
    by_method = {row["method"]: row for row in board["rows"]}
    cold, burnt, dense = (by_method[name] for name in ("random_subspace", "burn_in_subspace", "dense"))
    assert (cold["preparation_gradient_evaluations"], cold["track"]) == (0, "cold")
    assert (burnt["preparation_gradient_evaluations"], burnt["track"]) == (32, "prepared")
    assert {cold["rank"], burnt["rank"]} == {1, 2}
    assert dense["rank"] is None
    assert dense["k_star"] == dense["full_dimension"]
    before = cli.trial_files()
    again = cli.json(*command)
    assert [sweep["estimate"]["status"] for sweep in again["sweeps"]] == ["found"] * 3
    assert cli.trial_files() == before
    assert cli.json("rank") == board
    assert _metric_steps(cli.folder / "mlflow.db", "success_probability")


def _metric_steps(database: Path, key: str) -> list[int]:
    with sqlite3.connect(database) as connection:
        return [step for (step,) in connection.execute("select step from metrics where key = ?", (key,))]


@pytest.fixture
def long(cli: Cli, write_task: Callable[..., str]) -> tuple[str, ...]:
    """The command of a long sweep."""
    return ("run", write_task("long", **LONG), "-m", "random_subspace")


Outcome = tuple[object, set[str]]
"""An estimate, and the trials behind it."""


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """How the long sweep ends where nothing disturbs it; made by the first test that needs it."""
    return {}


def _ends_as_undisturbed(cli: Cli, long: tuple[str, ...], undisturbed: dict[str, Outcome]) -> None:
    """That the same command finishes the sweep to the undisturbed estimate, each trial recorded exactly once."""
    if not undisturbed:
        calm = Cli(cli.folder / "calm", cli.environment)
        calm.folder.mkdir()
        shutil.copy(cli.folder / long[1], calm.folder)
        undisturbed["long"] = (calm.json(*long)["sweeps"][0]["estimate"], set(calm.recorded()))
    estimate, trials = undisturbed["long"]
    ran = cli.json(*long)
    assert ran["sweeps"][0]["estimate"] == estimate
    counts = Counter(cli.recorded())
    assert set(counts) == trials
    assert set(counts.values()) == {1}


def test_killed_driver(cli: Cli, long: tuple[str, ...], undisturbed: dict[str, Outcome]) -> None:
    for files in (1, 5):
        process = cli.start(*long)
        cli.wait_for_trials(files, process)
        process.kill()
        process.communicate()
        assert 0 < len(cli.recorded()) < LONG["trials"]
    _ends_as_undisturbed(cli, long, undisturbed)


def test_killed_worker(cli: Cli, long: tuple[str, ...], undisturbed: dict[str, Outcome]) -> None:
    process = cli.start(*long)
    killed = 0
    for files in (1, 4, 7):
        cli.wait_for_trials(files, process)
        killed += _kill_a_worker()
    out, err = process.communicate(timeout=110)
    assert process.returncode == 0, out + err
    assert killed
    _ends_as_undisturbed(cli, long, undisturbed)


def _kill_a_worker() -> int:
    """Kill one worker process of the command on this machine; how many were killed."""
    found = subprocess.run(["pgrep", "-f", "^ray::Worker"], capture_output=True, text=True, check=False).stdout.split()
    for pid in found[:1]:
        os.kill(int(pid), signal.SIGKILL)
    return len(found[:1])


def test_interrupted_driver(cli: Cli, long: tuple[str, ...], undisturbed: dict[str, Outcome]) -> None:
    process = cli.start(*long)
    cli.wait_for_trials(2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on" in err
    assert "Traceback" not in err
    partial = cli.json("rank")["rows"][0]
    assert partial["status"] == "unfinished"
    _ends_as_undisturbed(cli, long, undisturbed)


def test_second_driver_is_refused(cli: Cli, long: tuple[str, ...]) -> None:
    first = cli.start(*long)
    cli.wait_for_trials(1, first)
    first.send_signal(signal.SIGSTOP)  # so that it cannot be done before the second one asks
    _, err = cli.run(*long, code=2)
    assert str(first.pid) in err
    assert "Traceback" not in err
    first.send_signal(signal.SIGCONT)
    out, err = first.communicate(timeout=110)
    assert first.returncode == 0, out + err
    assert max(Counter(cli.recorded()).values()) == 1


OWN_METHODS = """
import torch
from lowdim_bench.methods import Method, Setting, Train
from lowdim_bench.parametrizations import AffineSubspace, Coordinates

class _Own(Method):
    summary = "of a test"
    source = "this test"

class Raises(_Own):
    def prepare(self, setting):
        raise RuntimeError("no idea how")

class Everything(_Own):
    def prepare(self, setting):
        return AffineSubspace.full_space(setting.initial)

class NotANumber(_Own):
    def prepare(self, setting):
        kept = Coordinates.random(setting.k, setting.full_dimension, setting.seed, setting.initial.device)
        return AffineSubspace.masked(setting.initial * float("nan"), kept)

class WrongShape(_Own):
    def prepare(self, setting):
        kept = Coordinates.random(setting.k, 5000, setting.seed, setting.initial.device)
        return AffineSubspace.masked(torch.zeros(5000), kept)

class Greedy(_Own):
    def prepare(self, setting):
        start = AffineSubspace.full_space(setting.initial)
        while True:
            start = AffineSubspace.full_space((yield Train(start, 0, 500)).weights)

class Leaves(_Own):
    def prepare(self, setting):
        raise SystemExit(3)

class Patches(_Own):
    def prepare(self, setting):
        kept = Coordinates.random(setting.k, setting.full_dimension, setting.seed, setting.initial.device)
        honest = kept.tensors()
        kept.tensors = lambda: honest
        return AffineSubspace.masked(setting.initial, kept)

class FirstOnes(_Own):
    def prepare(self, setting):
        return AffineSubspace.masked(setting.initial, Coordinates(torch.arange(setting.k), setting.full_dimension))
"""


def test_own_methods_and_their_faults(cli: Cli, write_task: Callable[..., str]) -> None:
    (cli.folder / "own.py").write_text(OWN_METHODS)
    faults = {
        "Raises": "no idea how",
        "Everything": "allows k = 1 numbers",
        "NotANumber": "not finite",
        "WrongShape": "ends in 5000 parameters",
        "Greedy": "the task allows 2000",
        "Leaves": "SystemExit",
        "Patches": "replaced tensors",
    }
    chosen = [argument for name in faults for argument in ("-m", f"own:{name}")]
    out, err = cli.run("run", write_task(), *chosen, "-m", "own:FirstOnes", "--json", code=2)
    assert "Traceback" not in err
    for name, reason in faults.items():
        assert any(f"own:{name}" in line and reason in line for line in err.splitlines()), (name, err)
    assert '"method": "own:FirstOnes"' in out
    rows = {row["method"]: row for row in cli.json("rank")["rows"]}
    assert rows["own:FirstOnes"]["trials"] >= 5
    assert rows["own:Everything"]["rank"] is None
    assert rows["own:Everything"]["k_star"] is None
    (cli.folder / "own.py").unlink()  # what was measured is shown without its code, or with other code
    shown = {row["method"]: row for row in cli.json("rank")["rows"]}
    assert shown["own:FirstOnes"] == rows["own:FirstOnes"]


def test_diverging_recipe_is_said(cli: Cli, write_task: Callable[..., str]) -> None:
    path = cli.folder / write_task()
    data = json.loads(path.read_text())
    data["training"]["learning_rate"]["value"] = 1e6
    path.write_text(json.dumps(data))
    _, err = cli.run("run", path.name, "-m", "random_subspace", code=2)
    assert "trainings diverged" in err
    assert "Lower learning_rate.value of training in task tiny" in err
    assert len(cli.recorded()) >= 8


@pytest.mark.needs_data
def test_convolutional_net_on_real_images(cli: Cli, write_task: Callable[..., str], data_root: Path) -> None:
    path = cli.folder / write_task("images", k_max=64, minimum_replicates=5, trials=8, trials_per_round=4)
    data = json.loads(path.read_text())
    data["problem"] = {
        "kind": "classification",
        "data": {"kind": "torchvision", "dataset": "MNIST", "train_examples": 1000},
        "network": {"kind": "convnet", "channels": [16, 32]},
    }
    data["training"]["steps"] = data["training"]["evaluate_every"] = 20
    path.write_text(json.dumps(data))
    ran = cli.json("run", path.name, "-m", "random_subspace", "--data-root", str(data_root))
    assert ran["sweeps"][0]["trainings"] == 8
    assert cli.json("rank")["rows"][0]["full_dimension"] == 20_490
