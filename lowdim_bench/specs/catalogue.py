"""Where task files are: those that ship with the package, and a path to one's own."""

from __future__ import annotations

from pathlib import Path

from lowdim_bench.errors import UserError, unknown
from lowdim_bench.specs.base import read_yaml
from lowdim_bench.specs.task import Task


def task_folder() -> Path:
    """The folder of shipped task files: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "tasks"
    return installed if installed.is_dir() else package.parent / "tasks"


def task_names() -> list[str]:
    """Names of the shipped tasks, sorted."""
    return sorted(path.stem for path in task_folder().glob("*.yaml"))


def load_task(name_or_path: str) -> Task:
    """A shipped task by its name, or one's own by a path that ends in .yaml or .yml. Raises `UserError`."""
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise UserError(f"There is no task file {name_or_path}. Shipped tasks: {', '.join(task_names())}.")
        return Task.from_data(read_yaml(path), f"Task file {path}")
    if name_or_path not in task_names():
        raise unknown("task", name_or_path, task_names())
    path = task_folder() / f"{name_or_path}.yaml"
    task = Task.from_data(read_yaml(path), f"Task file {path}")
    if task.name != name_or_path:
        raise UserError(f"Task file {path} is named '{task.name}'; it must carry the name of its file.")
    return task
