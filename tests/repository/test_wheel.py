"""The wheel as a stranger meets it: an environment without the checkout, an empty folder.

`make wheel-test` downloads every package into a really empty environment. Here, to stay within seconds, the environment
sees the packages of the running one; what makes `lowdim_bench` importable from the checkout is left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TASKS = sorted(path.stem for path in (ROOT / "tasks").glob("*.yaml"))

OWN_TASK = """
name: own-well
problem: {kind: quadratic_well, dimension: 24, spectrum: {kind: power, exponent: 0}}
training: {optimizer: {kind: adam}, learning_rate: {value: 0.05}, batch_size: null, steps: 60, evaluate_every: 20}
full_training: {optimizer: {kind: adam}, learning_rate: {value: 0.05}, batch_size: null, steps: 60}
targets: [{metric: train_loss, at_most: 0.5}]
threshold: {k_max: 24, precision: 4, minimum_replicates: 4, trials: 8}
preparation: {gradient_evaluations: 0}
"""


def _run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed, run without the variables that could lead back to the checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a new environment with the wheel installed, which borrows all other packages."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    own = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A folder named in a .pth file is searched last, and .pth files inside it (an editable install's) are not read.
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def test_wheel_carries_the_package_and_every_task_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"lowdim_bench/tasks/{task}.yaml" for task in TASKS} <= names
    assert {name.split("/")[0].removesuffix(".dist-info").split("-")[0] for name in names} == {"lowdim_bench"}


def test_source_distribution_carries_what_is_needed_to_test_it(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        folders = {Path(name).parts[1] for name in source.getnames() if len(Path(name).parts) > 1}
    assert {"lowdim_bench", "tasks", "tests", "submissions", "README.md", "LICENSE", "constraints.txt"} <= folders


def test_package_is_the_one_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    where = _run(environment / "python", "-c", "import lowdim_bench; print(lowdim_bench.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment.parent)


def test_tasks_are_listed_from_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    listed = json.loads(_run(environment / "lowdim-bench", "tasks", "--json", cwd=tmp_path))
    rows = listed["tasks"] if isinstance(listed, dict) else listed
    assert sorted(row["name"] for row in rows) == TASKS


def test_a_task_of_ones_own_runs_to_a_ranked_row_from_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN_TASK)
    command = environment / "lowdim-bench"
    _run(command, "run", "own.yaml", "-m", "random_subspace", cwd=tmp_path)
    (row,) = json.loads(_run(command, "rank", "--json", cwd=tmp_path))["rows"]
    assert (row["task"], row["method"], row["full_dimension"]) == ("own-well", "random_subspace", 24)
    assert 4 <= row["trials"] <= 8
