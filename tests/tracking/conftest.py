"""A store in a folder of its own, and plain records to put into it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Audit, Estimate, Outcome, Spending, Trial, TrialResult
from lowdim_bench.settings import Settings, prepare_environment
from lowdim_bench.specs import Task, load_task
from lowdim_bench.tracking import Store, SweepLog

Make = Callable[..., TrialResult]


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take seconds to make, and no experiment of ours."""
    folder = tmp_path_factory.mktemp("schema")
    settings = Settings.resolve(tracking_uri=f"sqlite:///{folder}/mlflow.db", state_dir=folder / "state")
    prepare_environment(settings)
    from mlflow import MlflowClient

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    MlflowClient(settings.tracking_uri)
    return folder / "mlflow.db"


@pytest.fixture
def settings(tmp_path: Path, schema: Path) -> Settings:
    """An empty store in a folder whose name needs quoting in URIs."""
    path = tmp_path / "my runs" / "mlflow.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(schema)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    return Settings.resolve(tracking_uri=f"sqlite:///{path}", state_dir=tmp_path / "state")


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings)


@pytest.fixture(scope="session")
def task() -> Task:
    return load_task("digits-mlp")


@pytest.fixture(scope="session")
def method() -> MethodChoice:
    return MethodChoice(name="random_subspace")


@pytest.fixture(scope="session")
def result(task: Task) -> Make:
    """One trial's result, with all that a real one has."""

    def make(k: int, replicate: int = 0, in_round: int = 0, reached: bool = True, **changes: object) -> TrialResult:
        made = TrialResult(
            trial=Trial(k=k, replicate=replicate, round=in_round),
            status="trained",
            outcomes=tuple(
                Outcome(target=target.name, reached=reached, step=25 if reached else None) for target in task.targets
            ),
            audit=Audit(measured_k=k, rank_evidence="exact", affine=True, side_information_bits=2.0 * k, track="cold"),
            preparation=Spending(gradient_evaluations=k),
            learning_rate=0.016,
            seconds=1.5,
        )
        return made.model_copy(update=changes)

    return make


@pytest.fixture(scope="session")
def found(task: Task) -> Estimate:
    return Estimate(target=task.ranked_target.name, status="found", k_star=50, low=46, high=54, hits=9, trials=16)


@pytest.fixture(scope="session")
def curve() -> tuple[np.ndarray, np.ndarray]:
    """k and rows of mean, low, high, one of which is not a number."""
    ks = np.array([10, 30, 50, 70, 90])
    mean = np.array([0.05, 0.2, 0.5, np.nan, 0.95])
    return ks, np.column_stack([mean, mean * 0.8, np.minimum(1, mean * 1.2)])


@pytest.fixture
def open_sweep(store: Store, task: Task, method: MethodChoice) -> Callable[[], SweepLog]:
    return lambda: store.open_sweep(task, method, (1, 2048), 2410)
