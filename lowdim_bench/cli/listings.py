"""What people and machines see of the tasks and methods that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from lowdim_bench.cli.display import print_json, print_table

if TYPE_CHECKING:
    from lowdim_bench.methods import Method
    from lowdim_bench.specs import Task

_SHIPPED = "(ships)"


def show_tasks(tasks: Sequence[Task], packages: Mapping[str, str], out: TextIO, *, as_json: bool) -> None:
    """The tasks; `packages` names those of installed ones."""
    if as_json:
        fields = ("name", "digest", "track", "description")
        rows = [{name: getattr(task, name) for name in fields} for task in tasks]
        more = [
            {
                "targets": [target.name for target in task.targets],
                "package": packages.get(task.name),
                "sequential_steps": getattr(task.problem, "sequential_steps", None),
                "multiply_accumulates": getattr(task.problem, "multiply_accumulates", None),
            }
            for task in tasks
        ]
        print_json({"tasks": [row | rest for row, rest in zip(rows, more, strict=True)]}, out)
        return
    lines = [
        (
            task.name,
            task.ranked_target.name,
            f"{task.threshold.k_min}..{task.threshold.k_max}",
            packages.get(task.name, _SHIPPED),
            task.description,
        )
        for task in tasks
    ]
    print_table("Tasks", ("task", "ranked target", "k", "package", "what it is"), lines, out)


def show_coverage(methods: Mapping[str, type[Method]], out: TextIO) -> None:
    """What the methods are, as Markdown."""
    from lowdim_bench.methods.coverage import COLUMNS, coverage, markdown

    out.write(markdown(COLUMNS, coverage(methods)))


def show_methods(
    methods: Mapping[str, type[Method]], packages: Mapping[str, str], out: TextIO, *, as_json: bool
) -> None:
    """What the methods are, then their parameters and defaults; `packages` names those of installed ones."""
    from lowdim_bench.methods.coverage import COLUMNS, coverage

    if as_json:
        rows = [
            {
                "name": name,
                "package": packages.get(name),
                "summary": kind.summary,
                "source": kind.source,
                "freedom": kind.freedom,
                "side_information": kind.side_information,
                "data_seen": kind.data_seen,
                "parameters": kind.model_json_schema().get("properties", {}),
            }
            for name, kind in methods.items()
        ]
        print_json({"methods": rows}, out)
        return
    lines = [
        (
            name,
            ", ".join(f"{key}={field.default}" for key, field in kind.model_fields.items()) or "-",
            packages.get(name, _SHIPPED),
        )
        for name, kind in methods.items()
    ]
    print_table("Methods", COLUMNS, coverage(methods), out)
    out.write("\n")
    print_table("Parameters", ("method", "parameters", "package"), lines, out)
