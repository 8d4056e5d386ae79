"""A package that adds a method and a task, installed into a folder of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
METHOD = '''
from typing import ClassVar
from lowdim_bench.methods import Method, Setting
from lowdim_bench.parametrizations import AffineSubspace, Coordinates


class FirstWeights(Method):
    """Trains the first k parameters after `skip`, from the initial weights."""

    summary: ClassVar[str] = "train the first k parameters, leave the others where they are"
    source: ClassVar[str] = "the tests"
    skip: int = 0

    def k_range(self, blocks):
        return 1, blocks[-1].stop - self.skip

    def nested(self):
        return True

    def prepare(self, setting: Setting):
        import torch

        kept = torch.arange(self.skip, self.skip + setting.k)
        kept = Coordinates(kept, setting.full_dimension)
        return AffineSubspace(setting.initial.index_fill(0, kept.indices, 0.0), kept, setting.initial[kept.indices])
'''
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package and returns the folder; keyword arguments change its name, version, method and entry points."""
    folder = tmp_path / "site"

    def install(
        name: str = "more-methods", version: str = "1.2", method: str = METHOD, points: str | None = None
    ) -> Path:
        module = name.replace("-", "_")
        package = folder / module
        (package / "tasks").mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "methods.py").write_text(method)
        task = (ROOT / "tasks" / "digits-mlp.yaml").read_text().replace("name: digits-mlp", "name: digits-more")
        (package / "tasks" / "digits-more.yaml").write_text(task)
        information = folder / f"{module}-{version}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        default = (
            f"[lowdim_bench.methods]\nfirst_weights = {module}.methods:FirstWeights\n"
            f"[lowdim_bench.tasks]\ndigits-more = {module}.tasks\n"
        )
        (information / "entry_points.txt").write_text(default if points is None else points)
        return folder

    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    before = set(sys.modules)
    yield install
    for name in set(sys.modules) - before:
        if name.startswith(("more_methods", "other_methods")):
            del sys.modules[name]
