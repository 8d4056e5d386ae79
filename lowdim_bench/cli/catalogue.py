"""Commands that list what there is: tasks, methods, the schema of task files."""

from __future__ import annotations

import sys

import typer

from lowdim_bench.cli.options import Json, command

app = typer.Typer()


@command(app, "lowdim-bench tasks --json")
def tasks(json: Json = False) -> None:
    """List the tasks that ship."""
    from lowdim_bench.cli import display
    from lowdim_bench.specs import load_task, task_names

    loaded = [load_task(name) for name in task_names()]
    display.show_tasks(loaded, sys.stdout, as_json=json)


@command(app, "lowdim-bench methods --json")
def methods(json: Json = False) -> None:
    """List the methods and their parameters."""
    from lowdim_bench.cli import display
    from lowdim_bench.methods import METHODS, method_class

    display.show_methods({name: method_class(name) for name in METHODS}, sys.stdout, as_json=json)


@command(app, "lowdim-bench schema > task.schema.json")
def schema(json: Json = False) -> None:
    """Print the JSON Schema of task files, for editors: pretty, or with --json on one line."""
    from json import dumps

    from lowdim_bench.specs import Task

    typer.echo(dumps(Task.model_json_schema(), indent=None if json else 2))
