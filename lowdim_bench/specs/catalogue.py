"""Where task files are: those that ship with the package, those of installed packages, and a path to one's own."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from importlib.resources import files
from pathlib import Path

from lowdim_bench import installed
from lowdim_bench.errors import UserError, unknown
from lowdim_bench.specs.base import parse_yaml, read_yaml
from lowdim_bench.specs.task import Task


def task_folder() -> Path:
    """The folder of shipped task files: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "tasks"
    return installed if installed.is_dir() else package.parent / "tasks"


def task_names() -> list[str]:
    """Names of the shipped tasks, sorted."""
    return sorted(path.stem for path in task_folder().glob("*.yaml"))


def installed_tasks() -> dict[str, EntryPoint]:
    """Tasks that installed packages add. Raises `UserError` where one has the name of another."""
    return installed.additions(installed.TASKS, task_names())


def load_task(name_or_path: str) -> Task:
    """A shipped or installed task by its name, or one's own by a path that ends in .yaml or .yml. Raises `UserError`."""
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise UserError(f"There is no task file {name_or_path}. Shipped tasks: {', '.join(task_names())}.")
        return Task.from_data(read_yaml(path), f"Task file {path}")
    if name_or_path not in task_names():
        if name_or_path not in (additions := installed_tasks()):
            raise unknown("task", name_or_path, [*task_names(), *additions])
        return _of_package(additions[name_or_path])
    path = task_folder() / f"{name_or_path}.yaml"
    return _named(Task.from_data(read_yaml(path), f"Task file {path}"), name_or_path, str(path))


def _of_package(point: EntryPoint) -> Task:
    """The task of an entry point: NAME.yaml in the package that it names."""
    where = f"{point.name}.yaml in {point.value} of package {installed.package_of(point)}"
    try:
        text = files(point.value).joinpath(f"{point.name}.yaml").read_text(encoding="utf-8")
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise UserError(f"Task file {where} cannot be read: {error}. Repair or uninstall the package.") from None
    return _named(Task.from_data(parse_yaml(text, where), f"Task file {where}"), point.name, where)


def _named(task: Task, name: str, where: str) -> Task:
    if task.name != name:
        raise UserError(f"Task file {where} is named '{task.name}'; it must carry the name of its file.")
    return task
