"""What commands share: their options, how they are registered, and how errors are shown."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, ParamSpec

import typer

from lowdim_bench.errors import LowdimError

if TYPE_CHECKING:
    from lowdim_bench.settings import Settings

_INTERRUPTED = 130
_REFUSED = 2
P = ParamSpec("P")


def command(group: typer.Typer, example: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register a command with an example under its help; turn the project's own errors into a bare message."""

    def register(function: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                function(*args, **kwargs)
            except LowdimError as error:
                refuse(str(error))
            except KeyboardInterrupt:
                typer.echo("Interrupted. Finished trials are kept: the same command goes on from here.", err=True)
                raise typer.Exit(_INTERRUPTED) from None

        group.command(epilog=f"Example: {example}")(guarded)
        return function

    return register


def refuse(message: str) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(_REFUSED)


def complete_task(incomplete: str) -> list[str]:
    from lowdim_bench.specs import task_names

    return [name for name in task_names() if name.startswith(incomplete)]


def complete_method(incomplete: str) -> list[str]:
    from lowdim_bench.methods import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text for people.")]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="MLflow store: sqlite:///FILE or http://HOST:PORT. [LOWDIM_BENCH_TRACKING_URI; default: ./mlflow.db]"
    ),
]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder of data sets, as torchvision lays them out. [LOWDIM_BENCH_DATA_ROOT]")
]
RayAddress = Annotated[
    str | None,
    typer.Option(help="A standing Ray cluster, HOST:PORT or auto. [LOWDIM_BENCH_RAY_ADDRESS; default: this machine]"),
]
Workers = Annotated[
    int | None, typer.Option(help="Worker processes. [LOWDIM_BENCH_WORKERS; default: one for each core or GPU]")
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(help="GPUs for each worker, may be a fraction; 0: CPU only. [LOWDIM_BENCH_GPUS_PER_WORKER]"),
]
Autoscaling = Annotated[
    bool | None,
    typer.Option("--autoscaling/--no-autoscaling", help="The cluster grows on demand. [LOWDIM_BENCH_AUTOSCALING]"),
]


def resolve_settings(**options: object) -> Settings:
    from lowdim_bench.settings import Settings, prepare_environment

    settings = Settings.resolve(**options)  # type: ignore[arg-type]
    prepare_environment(settings)
    return settings
