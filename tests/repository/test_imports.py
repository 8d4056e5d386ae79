"""Imports point down: the contracts in pyproject.toml hold, and they fail where somebody breaks them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package and its contracts, to break."""
    shutil.copytree(ROOT / "lowdim_bench", tmp_path / "lowdim_bench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _lint_imports(folder: Path) -> tuple[int, str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def _plant(folder: Path, layer: str, line: str) -> None:
    module = folder / "lowdim_bench" / f"{layer}.py"
    if not module.exists():
        module = folder / "lowdim_bench" / layer / "__init__.py"
    module.write_text(f"{module.read_text()}\n{line}\n")


def test_contracts_hold(tree: Path) -> None:
    code, output = _lint_imports(tree)
    assert code == 0, output
    assert "0 broken" in output


@pytest.mark.parametrize(
    ("layer", "line", "contract"),
    [
        ("engine", "import ray", "Only execution imports ray"),
        ("engine", "from ray.util import ActorPool", "Only execution imports ray"),
        ("engine", "import mlflow", "Only tracking imports mlflow"),
        ("engine", "def later() -> None:\n    import ray", "Only execution imports ray"),
        ("engine", "from lowdim_bench import trial", "Imports point down"),
        ("engine", "from lowdim_bench import methods", "Imports point down"),
        ("methods", "from lowdim_bench import engine", "Imports point down"),
        ("threshold", "import torch", "free of torch"),
        ("cli", "import torch", "names no heavy library"),
    ],
)
def test_a_planted_import_breaks_its_contract(tree: Path, layer: str, line: str, contract: str) -> None:
    _plant(tree, layer, line)
    code, output = _lint_imports(tree)
    assert code == 1, output
    assert any(contract in text and "BROKEN" in text for text in output.splitlines()), output


def test_a_module_outside_the_layers_is_noticed(tree: Path) -> None:
    (tree / "lowdim_bench" / "utils.py").write_text("")
    code, output = _lint_imports(tree)
    assert code == 1, output
    assert "utils" in output
