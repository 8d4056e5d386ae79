"""Commands about the geometry of a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowdim_bench.cli.options import DataRoot, Json, TrackingUri, command, complete_task, resolve_settings

if TYPE_CHECKING:
    from lowdim_bench.records import Estimate
    from lowdim_bench.settings import Settings
    from lowdim_bench.specs import Task

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
    """Predict the thresholds of random subspaces from the curvature of the loss, beside those that were measured."""
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
        measured = _measured(settings, wanted)
        _show(wanted, found, measured, out, as_json=json)


def _measured(settings: Settings, task: Task) -> dict[str, Estimate]:
    """By target, the threshold of the random subspace with its default parameters, where it is recorded."""
    from lowdim_bench.leaderboard import REFERENCE, build_board
    from lowdim_bench.methods import MethodChoice
    from lowdim_bench.tracking import Store

    digest = MethodChoice(name=REFERENCE).method_digest
    with Store(settings) as store:
        sweeps = [one for one in store.sweeps() if (one.task.digest, one.method_digest) == (task.digest, digest)]
    return {one.target: one for row in build_board(sweeps).rows for one in row.ladder}


def _show(task: Task, found: Any, measured: dict[str, Estimate], out: Any, *, as_json: bool) -> None:
    from dataclasses import asdict

    from lowdim_bench.cli import display

    if as_json:
        known = {target: one.model_dump() for target, one in measured.items()}
        about = asdict(found) | {"task": task.name, "digest": task.digest, "conditions": found.conditions}
        display.print_json(about | {"measured": known}, out)
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


def _estimate(one: Estimate | None) -> str:
    if one is None:
        return "-"
    if one.k_star is None:
        return one.status.replace("_", " ")
    return f"{one.k_star} [{one.low}..{one.high}], n = {one.trials}"
