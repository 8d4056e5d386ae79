"""Commands that hold the benchmark itself against known answers."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lowdim_bench.cli.options import (
    DataRoot,
    Json,
    RayAddress,
    TrackingUri,
    Workers,
    command,
    complete_task,
    refuse,
    resolve_settings,
)

app = typer.Typer(help="Check the benchmark itself against known answers.", no_args_is_help=True, rich_markup_mode=None)


@command(app, "lowdim-bench calibrate wells --tracking-uri sqlite:///wells.db")
def wells(
    tracking_uri: TrackingUri = None,
    ray_address: RayAddress = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Measure fifteen quadratic wells and hold their thresholds against theory. Takes some minutes."""
    from lowdim_bench.settings import quiet_stdout

    settings = resolve_settings(tracking_uri=tracking_uri, ray_address=ray_address, workers=workers)
    with quiet_stdout() as out:
        from lowdim_bench.calibration.wells import compare_wells, measure_wells
        from lowdim_bench.cli import display

        with display.progress(live=not json) as watch:
            states = measure_wells(settings, watch)
        with display.counting("wells compared", live=not json) as advance:
            rows = compare_wells(states, advance)
        display.show_wells(rows, out, as_json=json)
    if not all(row.agrees for row in rows):
        refuse(f"{sum(not row.agrees for row in rows)} of {len(rows)} thresholds disagree with theory.")


@command(app, "lowdim-bench calibrate coverage --sweeps 200")
def coverage(
    sweeps: Annotated[int, typer.Option(min=10, max=100_000, help="Simulated sweeps for each case.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation.")] = 0,
    json: Json = False,
) -> None:
    """Simulate whole sweeps with known thresholds: how often do intervals cover them, after how many trainings?"""
    from lowdim_bench.calibration.coverage import coverage_table
    from lowdim_bench.cli import display

    with display.counting("sweeps", live=not json) as advance:
        rows = coverage_table(sweeps, seed, advance)
    display.show_coverage(rows, sys.stdout, as_json=json)


@command(app, "lowdim-bench calibrate operators digits-mlp --operator hadamard")
def operators(
    task: Annotated[
        str, typer.Argument(help="Name of a shipped task, or path to a task file.", autocompletion=complete_task)
    ],
    operator: Annotated[
        list[str] | None, typer.Option(help="May be given several times. [default: the task's default operator]")
    ] = None,
    k: Annotated[
        list[int] | None, typer.Option(min=1, help="Where to compare; several times. [default: about the threshold]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, max=10_000, help="Trainings at each k.")] = 40,
    data_root: DataRoot = None,
    json: Json = False,
) -> None:
    """Does an operator stand in for a dense Gaussian basis? Factors on k that bring both to the same loss, seed by seed."""
    from lowdim_bench.settings import quiet_stdout
    from lowdim_bench.specs import load_task

    loaded = load_task(task)
    settings = resolve_settings(data_root=data_root)
    with quiet_stdout() as out:
        from lowdim_bench.calibration.equivalence import check_operators
        from lowdim_bench.cli import display

        with display.counting("trainings", live=not json) as advance:
            rows = check_operators(loaded, settings.data_root, operator, k, seeds, advance)
        display.show_equivalence(rows, out, as_json=json)
    if names := [row.operator for row in rows if row.verdict == "no"]:
        refuse(f"{', '.join(names)} needs another k than a dense Gaussian basis on {loaded.name}.")
