"""A store of its own for each test, and one Ray cluster for all tests of this folder."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lowdim_bench.settings import Settings
from tests.execution.conftest import cluster, ray_folder, settings
from tests.tracking.conftest import schema

__all__ = ["cluster", "ray_folder", "schema", "settings", "store"]


@pytest.fixture
def store(settings: Settings, schema: Path, tmp_path: Path) -> Settings:
    """Settings with an empty store."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(schema)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    return replace(settings, tracking_uri=f"sqlite:///{path}", artifact_location=(tmp_path / "mlartifacts").as_uri())
