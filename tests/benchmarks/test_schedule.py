"""The simulated cluster beside a real one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.problems.small import BLOBS, merged

pytestmark = pytest.mark.slow

SMALL = merged(
    BLOBS,
    {
        "problem": {"network": {"hidden": [8]}},
        "threshold": {"k_max": 200, "precision": 4, "minimum_replicates": 8, "trials": 16, "trials_per_round": 4},
    },
)


def test_the_simulator_runs_the_trials_that_a_real_cluster_ran(tmp_path: Path) -> None:
    """Two sweeps on two workers: the same trials in the same rounds. Times are compared by the command; machines are busy."""
    (tmp_path / "small.yaml").write_text(json.dumps(SMALL))
    methods = ["-m", "random_subspace", "-m", "burn_in_subspace,burn_in_steps=4"]
    # In a process of its own: it changes the environment of its process for good.
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.schedule",
            str(tmp_path / "small.yaml"),
            *methods,
            "--count",
            "digits-mlp",
            "--json",
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    about = found["schedule"]
    assert about["same_trials"]
    assert about["workers"] == 2
    assert about["trainings"] >= 16
    assert about["rounds"] >= 4
    assert about["packs"] >= about["rounds"]
    assert about["simulated_seconds"] > 0
    (step,) = found["steps"]
    assert step["counted_step_seconds"] > 0
    assert step["step_seconds"] > 0
