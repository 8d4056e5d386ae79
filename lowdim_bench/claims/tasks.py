"""The tasks of claims: those that ship, with another network or recipe, and quadratic wells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowdim_bench.specs import Task

NOWHERE: tuple[Mapping[str, Any], ...] = ({"metric": "train_loss", "at_most": 1e-12},)


def with_targets(task: Task, targets: Sequence[Mapping[str, Any]] = NOWHERE, **training: Any) -> Task:
    """The task with other targets and without its futility rule; by default with one that no run reaches, so that all runs are
    as long. Its name stays, and with it every initialization and batch order. `training` changes its recipe."""
    plain = _plain(task)
    plain |= {"targets": list(targets), "training": plain["training"] | training}
    return Task.from_data(plain, f"{task.name} with other targets")


def with_network(task: Task, hidden: Sequence[int], steps: int | None = None, **full_training: Any) -> Task:
    """The task with fully connected layers of `hidden` units, under a name that says so. `steps` are those of both recipes;
    `full_training` changes that recipe besides."""
    plain = _plain(task)
    plain["name"] = "-".join([task.name, *map(str, hidden)])
    plain["problem"]["network"] = {"kind": "mlp", "hidden": list(hidden)}
    length = {} if steps is None else {"steps": steps}
    plain["training"] |= length
    plain["full_training"] |= length | full_training
    return Task.from_data(plain, plain["name"])


def with_problem(task: Task, changes: Mapping[str, Any], **training: Any) -> Task:
    """The task with some fields of its problem changed, and of its recipe."""
    plain = _plain(task)
    plain["problem"] |= changes
    plain["training"] |= training
    return Task.from_data(plain, f"{task.name} with another problem")


def well(name: str, dimension: int, spectrum: Mapping[str, Any], epsilon: float, radius: float = 1.0) -> Task:
    """A quadratic well whose loss starts at radius ** 2 and is to fall to epsilon. Nothing is trained on it."""
    recipe = {"optimizer": {"kind": "sgd"}, "learning_rate": {"value": 1.0}, "batch_size": None, "steps": 1}
    data = {
        "name": name,
        "track": "cold",
        "problem": {"kind": "quadratic_well", "dimension": dimension, "spectrum": dict(spectrum), "radius": radius},
        "training": {**recipe, "evaluate_every": 1},
        "full_training": recipe,
        "targets": [{"metric": "train_loss", "at_most": epsilon}],
        "threshold": {"k_max": dimension},
        "preparation": {"gradient_evaluations": 0},
    }
    return Task.from_data(data, name)


def _plain(task: Task) -> dict[str, Any]:
    """A task as plain data, without what is not given and without its futility rule."""
    return {
        name: value
        for name, value in task.model_dump(mode="json").items()
        if value is not None and name not in {"futility", "description"}
    }
