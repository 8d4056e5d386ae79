"""One embedded Ray cluster for all tests of this folder: it takes seven seconds to start."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lowdim_bench.settings import Settings, prepare_environment
from lowdim_bench.specs import Task

# Ray reads this when it is imported, which another test module may do long before a fixture prepares the environment.
if "ray" not in sys.modules:
    os.environ.setdefault("RAY_AUTH_MODE", "token")


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[Path]:
    """Ray's temporary folder; its name is short, since paths of Unix sockets are limited to 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="r-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory, ray_folder: Path) -> Settings:
    """Workers without a GPU, on a cluster whose files are gone after the tests."""
    os.environ["RAY_TMPDIR"] = str(ray_folder)
    state = tmp_path_factory.mktemp("state")
    made = Settings.resolve(tracking_uri=f"sqlite:///{state}/x.db", state_dir=state, gpus_per_worker=0)
    prepare_environment(made)
    return made


@pytest.fixture(scope="session")
def cluster(settings: Settings) -> Iterator[None]:
    """Two CPUs, and a GPU that is only a number to Ray."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def task() -> Task:
    return Task.from_data(
        {
            "name": "well",
            "problem": {"kind": "quadratic_well", "dimension": 64, "spectrum": {"kind": "power", "exponent": 1.0}},
            "training": {
                "optimizer": {"kind": "adam"},
                "learning_rate": {"value": 0.1},
                "batch_size": None,
                "steps": 10,
                "evaluate_every": 5,
            },
            "full_training": {
                "optimizer": {"kind": "sgd"},
                "learning_rate": {"value": 0.1},
                "batch_size": None,
                "steps": 10,
            },
            "targets": [{"metric": "train_loss", "at_most": 0.1}],
            "threshold": {"k_max": 64},
            "preparation": {"gradient_evaluations": 0},
        },
        "task of a test",
    )
