"""Commands that list what there is: tasks, methods, the schema of task files."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lowdim_bench.cli.options import Json, command

app = typer.Typer()


@command(app, "lowdim-bench tasks --json")
def tasks(json: Json = False) -> None:
    """List the tasks that ship, and those of installed packages."""
    from lowdim_bench.cli import listings
    from lowdim_bench.installed import package_of
    from lowdim_bench.specs import installed_tasks, load_task, task_names

    added = installed_tasks()
    loaded = [load_task(name) for name in [*task_names(), *added]]
    packages = {name: package_of(point) for name, point in added.items()}
    listings.show_tasks(loaded, packages, sys.stdout, as_json=json)


@command(app, "lowdim-bench methods --json")
def methods(
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print what they are as a table in Markdown.")] = False,
) -> None:
    """List the methods: their k numbers, side information, data, sources and parameters; those of installed packages too."""
    from lowdim_bench.cli import listings
    from lowdim_bench.installed import package_of
    from lowdim_bench.methods import METHODS, installed_methods, method_class

    added = installed_methods()
    kinds = {name: method_class(name) for name in [*METHODS, *added]}
    packages = {name: package_of(point) for name, point in added.items()}
    if markdown:
        listings.show_coverage(kinds, sys.stdout)
        return
    listings.show_methods(kinds, packages, sys.stdout, as_json=json)


@command(app, "lowdim-bench schema > task.schema.json")
def schema(json: Json = False) -> None:
    """Print the JSON Schema of task files, for editors: pretty, or with --json on one line."""
    from json import dumps

    from lowdim_bench.specs import Task

    typer.echo(dumps(Task.model_json_schema(), indent=None if json else 2))
