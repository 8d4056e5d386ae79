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

pytestmark = pytest.mark.slow

ROW = {
    "task", "method", "params", "track", "status", "k_star", "low", "high", "full_dimension", "efficiency", "hits",
    "trials", "side_information_bits", "preparation_gradient_evaluations", "run_id",
}  # fmt: skip
LONG = {"precision": 1.001, "trials": 64, "minimum_replicates": 20}
"""So narrow an interval that all 64 trials are run, in eight rounds: time enough to be killed."""


def test_run_rank_and_run_again(cli: Cli, write_task: Callable[..., str]) -> None:
    submission = str(Path(__file__).parents[2] / "submissions" / "short-burn-in")
    command = ["run", write_task(), "-m", "random_subspace", "-m", submission, "-m", "dense"]
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
    assert (burnt["preparation_gradient_evaluations"], burnt["track"]) == (8, "prepared")
    assert {cold["rank"], burnt["rank"]} in ({1}, {1, 2})  # a tie shares a rank
    assert (cold["submission"], burnt["submission"]) == (None, "short-burn-in")
    assert burnt["authors"] == ["The lowdim-bench authors"]
    assert "short-burn-in (burn_in_subspace,burn_in_steps=8)" in cli.run("rank")[0]
    assert dense["rank"] is None
    assert dense["k_star"] == dense["full_dimension"]
    before = cli.trial_files()
    again = cli.json(*command)
    assert [sweep["estimate"]["status"] for sweep in again["sweeps"]] == ["found"] * 3
    assert cli.trial_files() == before
    assert cli.json("rank") == board
    assert _metric_steps(cli.folder / "mlflow.db", "success_probability")


def test_a_method_that_does_not_tell_its_range_fails_alone(cli: Cli, write_task: Callable[..., str]) -> None:
    folder = cli.folder / "broken"
    folder.mkdir()
    task = write_task()
    about = {"name": "broken", "authors": ["A Test"], "method": "method.py", "tasks": ["digits-mlp"]}
    (folder / "submission.yaml").write_text(json.dumps(about))
    (folder / "method.py").write_text(
        "from lowdim_bench.methods import Method\n\n\nclass Broken(Method):\n    summary = 'x'\n    source = 'x'\n\n"
        "    def k_range(self, blocks):\n        raise ZeroDivisionError('no range')\n\n"
        "    def prepare(self, setting):\n        pass\n"
    )
    out, err = cli.run("run", task, "-m", "./broken", "-m", "random_subspace", "--json", code=2)
    broken, sound = json.loads(out)["sweeps"]
    assert "the method cannot be run: ZeroDivisionError: no range (method.py, line 9)" in broken["failure"]
    assert broken["failure"] in " ".join(err.split())
    assert (sound["estimate"]["status"], sound["failure"]) == ("found", "")
    assert {row["method"]: row["status"] for row in cli.json("rank")["rows"]}["random_subspace"] == "found"
    out, _ = cli.run("run", task, "-m", "./broken", "--json", code=2)
    assert "no range" in json.loads(out)["sweeps"][0]["failure"], "it may be tried again"


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
    out, err = process.communicate(timeout=300)
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
    _, err = process.communicate(timeout=60)
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
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0, out + err
    assert max(Counter(cli.recorded()).values()) == 1


HEAD = """
import os
import torch
from lowdim_bench.methods import Method, Setting, Train
from lowdim_bench.parametrizations import AffineSubspace, Coordinates

def drawn(setting):
    return Coordinates.random(setting.k, setting.full_dimension, setting.seed, setting.initial.device)

class Mine(Method):
    summary = "of a test"
    source = "this test"

    def prepare(self, setting):
        """
PREPARATIONS = {
    "raises": "raise RuntimeError('no idea how')",
    "everything": "return AffineSubspace.full_space(setting.initial)",
    "breaks-down": "os.abort()",
    "first-ones": "return AffineSubspace.masked(setting.initial, Coordinates(torch.arange(setting.k), setting.full_dimension))",
}
"""What submissions do, by name."""


def _write_submission(folder: Path, name: str) -> str:
    home = folder / name
    home.mkdir()
    (home / "submission.yaml").write_text(f"name: {name}\nauthors: [Ann]\nmethod: method.py\ntasks: [digits-mlp]\n")
    (home / "method.py").write_text(HEAD + PREPARATIONS[name] + "\n")
    return f"./{name}"


def test_submitted_code_and_its_faults(cli: Cli, write_task: Callable[..., str]) -> None:
    faults = {
        "raises": "RuntimeError: no idea how (method.py, line",
        "everything": "allows k = 1 numbers",
        "breaks-down": "its process was killed by signal",
    }
    folders = [_write_submission(cli.folder, name) for name in (*faults, "first-ones")]
    chosen = [argument for folder in folders for argument in ("-m", folder)]
    out, err = cli.run("run", write_task(), *chosen, "--json", code=2)
    assert "Traceback" not in err
    for name, reason in faults.items():
        assert any(name in line and reason in line for line in err.splitlines()), (name, err)
    assert '"method": "first-ones"' in out
    rows = {row["method"]: row for row in cli.json("rank")["rows"]}
    assert rows["first-ones"]["trials"] >= 5
    assert rows["everything"]["rank"] is None
    assert rows["everything"]["k_star"] is None
    shutil.rmtree(cli.folder / "first-ones")  # what was measured is shown without its folder
    shown = {row["method"]: row for row in cli.json("rank")["rows"]}
    assert shown["first-ones"] == rows["first-ones"]


SOMETIMES = (
    HEAD
    + """
        if setting.k == 1:
            os._exit(7)
        if setting.k == 3:
            raise RuntimeError("not with three")
        return AffineSubspace.masked(setting.initial, drawn(setting))
"""
)
"""Of an installed package, which runs in the worker itself."""


def _install_sometimes(cli: Cli) -> None:
    information = cli.folder / "more_methods-1.0.dist-info"  # Ray hands the current folder on to its workers
    information.mkdir()
    (cli.folder / "more_methods.py").write_text(SOMETIMES)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: more-methods\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[lowdim_bench.methods]\nsometimes = more_methods:Mine\n")


def test_poisoned_trials_are_recorded_as_failures_and_the_sweep_goes_on(
    cli: Cli, write_task: Callable[..., str]
) -> None:
    _install_sometimes(cli)
    command = ("run", write_task(), "-m", "sometimes", "-m", "random_mask")
    poisoned, sound = (sweep["estimate"] for sweep in cli.json(*command)["sweeps"])
    # With so few numbers a mask does not reach the target anyway, so failing there must not change what is found.
    assert [poisoned[end] for end in ("status", "low", "k_star", "high")] == [
        sound[end] for end in ("status", "low", "k_star", "high")
    ]
    assert f"2 of {poisoned['trials']} trials failed, and count as not reached." in poisoned["note"]
    failures = [
        result
        for path in cli.folder.glob("mlartifacts/**/failures/*.json")
        for result in json.loads(path.read_text())["results"]
    ]
    reasons = {result["trial"]["k"]: result["reason"] for result in failures}
    assert len(failures) == 2
    assert "given up after 3 attempts, since the worker process died each time" in reasons[1]
    assert "not with three" in reasons[3]
    before = cli.recorded()
    assert [sweep["estimate"] for sweep in cli.json(*command)["sweeps"]] == [poisoned, sound]
    assert cli.recorded() == before, "what was given up is not tried for ever"
    ranked = {row["method"]: row for row in cli.json("rank")["rows"]}["sometimes"]
    assert (ranked["k_star"], ranked["trials"]) == (poisoned["k_star"], poisoned["trials"])


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
