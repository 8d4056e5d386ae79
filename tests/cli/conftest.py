"""Runs the installed command in processes of its own, against one standing Ray cluster for all tests of this folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-c", "from lowdim_bench.cli import main; main()"]
_HEAD = """
import ray, sys
context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Cli:
    """The command, run in a folder with an environment."""

    folder: Path
    environment: dict[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Standard output and error of a command that has to end with an exit code."""
        with self.start(*arguments) as process:
            try:
                out, err = process.communicate(timeout=500)
            finally:
                process.kill()  # where it has not ended: it would be another test's warning
        assert process.returncode == code, f"{arguments}: exit code {process.returncode}\n{out}\n{err}"
        return out, err

    def json(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        return json.loads(self.run(*arguments, "--json")[0])

    def trial_files(self) -> list[Path]:
        """Every file of finished trials that is recorded."""
        return sorted(self.folder.glob("mlartifacts/**/trials/*.json"))

    def recorded(self) -> list[str]:
        """The keys of all recorded trials, with repeats."""
        return [
            f"k{result['trial']['k']}-r{result['trial']['replicate']}"
            for path in self.trial_files()
            for result in json.loads(path.read_text())["results"]
        ]

    def wait_for_trials(self, count: int, process: subprocess.Popen[str]) -> None:
        until = time.monotonic() + 300
        while len(self.trial_files()) < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until, "no trials were recorded"
            time.sleep(0.02)


@pytest.fixture(scope="session")
def ray_address() -> Iterator[tuple[str, dict[str, str]]]:
    """Address of a standing cluster, and the environment with its secret."""
    folder = Path(tempfile.mkdtemp(prefix="c-"))
    token = folder / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    head = subprocess.Popen(
        [sys.executable, "-c", _HEAD],
        env=os.environ | secret | {"RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert head.stdout is not None
    line = head.stdout.readline().strip()
    assert line, "the test's Ray cluster did not start"
    yield line, secret
    head.send_signal(signal.SIGTERM)
    head.communicate(timeout=30)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cli(tmp_path: Path, ray_address: tuple[str, dict[str, str]]) -> Cli:
    """The command in an empty folder, on the standing cluster."""
    address, secret = ray_address
    where = {"LOWDIM_BENCH_RAY_ADDRESS": address, "LOWDIM_BENCH_STATE_DIR": str(tmp_path / "state"), **secret}
    return Cli(tmp_path, os.environ | where)


@pytest.fixture
def lone_cli(tmp_path: Path) -> Cli:
    """The command in an empty folder, without any cluster."""
    return Cli(tmp_path, os.environ | {"LOWDIM_BENCH_STATE_DIR": str(tmp_path / "state")})


@pytest.fixture
def write_task(tmp_path: Path) -> Callable[..., str]:
    """Writes a small task file of digits; keyword arguments replace fields of its threshold."""

    def write(name: str = "tiny", **threshold: object) -> str:
        recipe = {"learning_rate": {"value": 0.05}, "batch_size": 64, "steps": 60}
        data = {
            "name": name,
            "problem": {
                "kind": "classification",
                "data": {"kind": "sklearn_digits"},
                "network": {"kind": "mlp", "hidden": [16]},
            },
            "training": recipe | {"optimizer": {"kind": "adam"}, "evaluate_every": 20},
            "full_training": recipe | {"optimizer": {"kind": "sgd", "momentum": 0.9}},
            "targets": [{"metric": "train_loss", "at_most": 1.5}, {"metric": "train_loss", "at_most": 1.0}],
            "threshold": {"k_max": 1000, "precision": 1.6, "minimum_replicates": 8} | threshold,
            "preparation": {"gradient_evaluations": 2000},
        }
        (tmp_path / f"{name}.yaml").write_text(json.dumps(data))  # YAML too
        return f"{name}.yaml"

    return write
