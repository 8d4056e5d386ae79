"""Commands about the geometry of a loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from lowdim_bench.cli.options import DataRoot, Json, TrackingUri, command, complete_task, resolve_settings

if TYPE_CHECKING:
    from lowdim_bench.landscape import Diagnosis, Finding
    from lowdim_bench.records import Estimate, Predictions
    from lowdim_bench.settings import Settings
    from lowdim_bench.specs import Task

Progress = Callable[[int, int], None]
app = typer.Typer()


@command(app, "lowdim-bench predict well-power2")
def predict(
    task: Annotated[
        str, typer.Argument(help="Name of a shipped task, or path to a task file.", autocompletion=complete_task)
    ],
    replicates: Annotated[int, typer.Option(min=1, max=100, help="Initializations to predict from.")] = 3,
    tracking_uri: TrackingUri = None,
    data_root: DataRoot = None,
    json: Json = False,
) -> None:
    """Predict the thresholds of random subspaces from the curvature of the loss, beside those that were measured.

    Where a sweep of the random subspace is recorded, the prediction is kept with it, and `rank` and the page show it.
    """
    from lowdim_bench.settings import quiet_stdout
    from lowdim_bench.specs import load_task

    wanted = load_task(task)
    settings = resolve_settings(tracking_uri=tracking_uri, data_root=data_root)
    with quiet_stdout() as out:
        from lowdim_bench import landscape, problems
        from lowdim_bench.cli import display
        from lowdim_bench.threads import use_one_thread

        use_one_thread()
        problem = problems.build(wanted, problems.load_arrays(wanted, settings.data_root))
        with display.counting("replicates", live=not json) as advance:
            found = landscape.predict(wanted, problem, range(replicates), advance)
        measured, kept = _beside(settings, wanted, landscape.recorded(found))
        _show(wanted, found, measured, kept, out, as_json=json)


@command(app, "lowdim-bench diagnose digits-mlp --replicates 12 --figures landscape")
def diagnose(
    task: Annotated[
        str | None, typer.Argument(help="Name of a shipped task, or path to a task file.", autocompletion=complete_task)
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Instead of training: where the trials of this run ended that are nearest to its k*."),
    ] = None,
    replicates: Annotated[
        int,
        typer.Option(min=2, max=20, help="Trainings to look at. 95 % intervals need 6; of pairs, 12; of groups, 18."),
    ] = 2,
    spawn_step: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Also spawn three trainings of each replicate at this step: which examples are linearly connected?",
        ),
    ] = None,
    errors_only: Annotated[
        bool,
        typer.Option(
            help="Of tasks that label pixels: nothing but what is labelled wrong, by path length, which takes seconds."
        ),
    ] = False,
    figures: Annotated[
        Path | None, typer.Option(help="Write a figure of each diagnostic into this folder, as SVG, PNG and CSV.")
    ] = None,
    tracking_uri: TrackingUri = None,
    data_root: DataRoot = None,
    json: Json = False,
) -> None:
    """Look at the landscape where training leads: barriers, curves, symmetries, convexity, kernels, disagreement, label errors.

    Trains all D weights of a task, or takes where the trials of a run ended, from their certificates. Everything is measured on
    the full training set: some minutes for digits, long for large data.
    """
    from lowdim_bench.errors import UserError
    from lowdim_bench.settings import quiet_stdout

    if (task is None) == (run is None):
        raise UserError(
            "Say what to look at: a task, or --run with the beginning of a run's identifier (`lowdim-bench rank`)."
        )
    if run and spawn_step is not None:
        raise UserError("--spawn-step trains a task anew, and --run takes what was trained: give one of them.")
    settings = resolve_settings(tracking_uri=tracking_uri, data_root=data_root)
    with quiet_stdout() as out:
        from lowdim_bench.cli import display
        from lowdim_bench.threads import use_one_thread

        use_one_thread()
        with display.counting("diagnostics", live=not json) as advance:
            wanted, found = (
                _of_run(settings, run, replicates, advance, errors_only=errors_only)
                if run
                else _of_task(settings, task or "", replicates, spawn_step, advance, errors_only=errors_only)
            )
        if figures is not None:
            from lowdim_bench.pages import of_diagnosis, save_figures

            save_figures(of_diagnosis(found, wanted.name), figures)
        _show_diagnosis(wanted, found, out, run=run, as_json=json)


def _of_task(
    settings: Settings, name: str, replicates: int, spawn_step: int | None, advance: Progress, *, errors_only: bool
) -> tuple[Task, Diagnosis]:
    """Of full trainings, made now."""
    from lowdim_bench import landscape, problems
    from lowdim_bench.specs import load_task

    task = load_task(name)
    arrays = problems.load_arrays(task, settings.data_root)
    wider = landscape.widened(task)
    wide = None if wider is None else problems.build(wider, arrays)
    problem = problems.build(task, arrays)
    return task, landscape.diagnose(
        task, problem, wide, range(replicates), advance, spawn_step, errors_only=errors_only
    )


def _of_run(
    settings: Settings, run: str, replicates: int, advance: Progress, *, errors_only: bool
) -> tuple[Task, Diagnosis]:
    """Of where the trials of a run ended."""
    from lowdim_bench import landscape, problems
    from lowdim_bench.tracking import Store
    from lowdim_bench.verification import read_points

    (dossier,) = Store(settings).dossiers([run])
    points = read_points(dossier, settings.data_root, replicates)
    wider = landscape.widened(points.task)
    wide = None if wider is None else problems.build(wider, problems.load_arrays(points.task, settings.data_root))
    found = landscape.diagnose_points(
        points.task, points.problem, wide, points.replicates, points.trained, advance, errors_only=errors_only
    )
    return points.task, found


def _show_diagnosis(task: Task, found: Diagnosis, out: TextIO, *, run: str | None, as_json: bool) -> None:
    from dataclasses import asdict

    from lowdim_bench.cli import display
    from lowdim_bench.landscape import FEWEST, GROUP

    if as_json:
        rows = [
            asdict(one) | {"n": len(one.values), "middle": one.middle, "range": one.range, "interval": one.interval}
            for one in found.findings
        ]
        about = asdict(found) | {"task": task.name, "digest": task.digest, "run": run, "findings": rows}
        display.print_json(_without_nan(about), out)
        return
    lines = [
        (
            one.name,
            f"{one.middle:.3g}",
            _ends(one.interval),
            _ends(one.range if len(one.values) > 1 else None),
            _count(one),
        )
        for one in found.findings
    ]
    count = len(found.replicates)
    led = (
        f"where {count} trials of run {run} reached the target"
        if run
        else f"where full training leads, {count} initializations"
    )
    title = f"{task.name} (D = {found.dimension:,}): the landscape {led}"
    display.print_table(title, ("diagnostic", "median", "95 % interval", "lowest .. highest", "n"), lines, out)
    out.write(
        f"  Training loss {_median(found.start_losses)} at w_0, {_median(found.end_losses)} at w_T.\n"
        "  Intervals are those of order statistics, for the median; of shares, Clopper and Pearson's. For the median they "
        f"need {FEWEST} repeats that\n  share no training: {FEWEST} replicates, for pairs {2 * FEWEST}, for groups "
        f"{GROUP * FEWEST}.\n"
    )


def _count(one: Finding) -> str:
    alone = {"task": "closed form", "reference": "not trained"}
    return alone.get(one.of) or f"{len(one.values)} ({one.of})"


def _ends(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3g} .. {interval[1]:.3g}"


def _without_nan(value: Any) -> Any:
    """Plain data for JSON, which knows no NaN and no infinity: they become null."""
    from math import isfinite

    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _beside(settings: Settings, task: Task, predictions: Predictions) -> tuple[dict[str, Estimate], bool]:
    """By target, the threshold of the random subspace with its default parameters, where it is recorded; and whether the
    predictions could be kept with it."""
    from lowdim_bench.errors import UserError
    from lowdim_bench.leaderboard import REFERENCE, build_board
    from lowdim_bench.methods import MethodChoice
    from lowdim_bench.tracking import Store, keys

    method = MethodChoice(name=REFERENCE)
    with Store(settings) as store:
        sweeps = [
            one for one in store.sweeps() if (one.task.digest, one.method_digest) == (task.digest, method.method_digest)
        ]
        try:
            store.annotate(task, method, {}, {keys.PREDICTION: predictions.model_dump_json()})
            kept = True
        except UserError:  # nothing is measured yet, or this account may only read
            kept = False
    return {one.target: one for row in build_board(sweeps).rows for one in row.ladder}, kept


def _show(task: Task, found: Any, measured: dict[str, Estimate], kept: bool, out: Any, *, as_json: bool) -> None:
    from dataclasses import asdict

    from lowdim_bench.cli import display

    if as_json:
        known = {target: one.model_dump() for target, one in measured.items()}
        about = asdict(found) | {"task": task.name, "digest": task.digest, "conditions": found.conditions}
        display.print_json(_without_nan(about | {"measured": known, "kept": kept}), out)
        return
    lines = [
        (
            one.target,
            _range(one.formula),
            _range(one.equivalent),
            _range(one.simulated),
            _range(one.failing),
            _estimate(measured.get(one.target)),
        )
        for one in found.predictions
    ]
    title = f"{task.name} (D = {found.dimension:,}): predicted thresholds, {len(found.start)} initializations"
    columns = ("target", "width formula", "equivalent", "simulated", "sure to fail up to", "measured k*")
    display.print_table(title, columns, lines, out)
    out.write("\n".join(f"  {line}" for line in found.conditions) + "\n")
    if not measured:
        out.write(f"  Nothing measured yet: lowdim-bench run {task.name} -m random_subspace\n")
    elif kept:
        out.write("  Kept with that sweep: `lowdim-bench rank` and the leaderboard show both.\n")


def _range(values: tuple[float | None, ...]) -> str:
    """Median and range over the replicates."""
    from statistics import median

    known = [value for value in values if value is not None]
    if not known:
        return "-"
    text = f"{median(known):.0f}"
    return (
        text
        if len(known) == 1 or round(min(known)) == round(max(known))
        else f"{text} ({min(known):.0f}..{max(known):.0f})"
    )


def _median(values: tuple[float, ...]) -> str:
    from statistics import median

    return f"{median(values):.3g} ({min(values):.3g}..{max(values):.3g})"


def _estimate(one: Estimate | None) -> str:
    if one is None:
        return "-"
    if one.k_star is None:
        return one.status.replace("_", " ")
    return f"{one.k_star} [{one.low}..{one.high}], n = {one.trials}"
