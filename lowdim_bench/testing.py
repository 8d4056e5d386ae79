"""For tests of methods: a problem small enough to check on, and a submission's own method on it."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from lowdim_bench import problems
from lowdim_bench.contract import Subject
from lowdim_bench.errors import UserError
from lowdim_bench.methods import Method
from lowdim_bench.methods.frozen import ENTRY
from lowdim_bench.problems import Problem
from lowdim_bench.specs import Task
from lowdim_bench.submissions import freeze_submission

_RECIPE: dict[str, Any] = {"learning_rate": {"value": 0.05}, "batch_size": 64}
TINY = Task.from_data(
    {
        "name": "tiny-digits",
        "problem": {
            "kind": "classification",
            "data": {"kind": "sklearn_digits"},
            "network": {"kind": "mlp", "hidden": [8]},
        },
        "training": {**_RECIPE, "optimizer": {"kind": "adam"}, "steps": 40, "evaluate_every": 10},
        "full_training": {**_RECIPE, "optimizer": {"kind": "sgd", "momentum": 0.9}, "steps": 100},
        "targets": [{"metric": "train_loss", "at_most": 1.0}],
        "threshold": {"k_max": 610},
        "preparation": {"gradient_evaluations": 20_000},
    },
    "The tiny task",
)
"""scikit-learn's digits with a 64-8-10 network (D = 610), for a few steps. It is there to check methods, not to rank them."""


def tiny_problem() -> Problem:
    """The problem of `TINY`."""
    return problems.build(TINY, problems.load_arrays(TINY, Path()))


def own_subject(folder: Path) -> Subject:
    """The method of one's own submission on the tiny problem, imported into this process: for its author's tests and debugger.

    Nothing else imports submitted code. Raises `UserError` where the folder is no submission with code.
    """
    submission, choice = freeze_submission(folder)
    if choice.code is None:
        return Subject(choice.build(), TINY, tiny_problem())
    kind = _own_class(folder / ENTRY, f"submission_{submission.name.replace('-', '_')}")
    return Subject(kind.from_data(submission.parameters, f"Submission {submission.name}"), TINY, tiny_problem())


def _own_class(path: Path, name: str) -> type[Method]:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Pydantic looks annotations up there
    spec.loader.exec_module(module)
    own = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == name]
    methods = [kind for kind in own if issubclass(kind, Method) and not inspect.isabstract(kind)]
    if len(methods) != 1:
        raise UserError(f"{path} must define exactly one class that derives from lowdim_bench.methods.Method.")
    return methods[0]
