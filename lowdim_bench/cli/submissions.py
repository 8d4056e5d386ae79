"""Commands for who brings a method: begin a submission, check it, and learn what it would take."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lowdim_bench.cli.options import (
    DataRoot,
    Json,
    command,
    complete_method,
    refuse,
    resolve_settings,
)
from lowdim_bench.errors import UserError

if TYPE_CHECKING:
    from lowdim_bench.contract import Finding

app = typer.Typer()


@command(app, "lowdim-bench init-submission my-mask --kind mask")
def init_submission(
    name: Annotated[str, typer.Argument(help="Name of the submission, and of the folder that is made for it.")],
    kind: Annotated[
        str, typer.Option(help="What to begin with: subspace, mask, or builtin (parameters of a method that ships).")
    ] = "subspace",
    folder: Annotated[Path, typer.Option(help="Where the submission's folder is made.")] = Path("submissions"),
    json: Json = False,
) -> None:
    """Write a submission that works, with its own test, to be changed into yours."""
    from lowdim_bench.cli import display
    from lowdim_bench.templates import write_submission

    written = write_submission(folder, name, kind)
    if json:
        display.print_json({"submission": str(folder / name), "files": [str(path) for path in written]}, sys.stdout)
        return
    typer.echo("\n".join(f"wrote {path}" for path in written))
    typer.echo(f"Next: pytest {folder / name}; lowdim-bench validate {folder / name}")


@command(app, "lowdim-bench validate submissions/my-mask")
def validate(
    folder: Annotated[Path | None, typer.Argument(help="Folder of a submission.")] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Check the methods and tasks that installed packages add.")
    ] = False,
    json: Json = False,
) -> None:
    """Check a submission on a tiny problem: schema, imports, shapes, determinism, k, cost, track. Takes some ten seconds."""
    from lowdim_bench.cli import reports
    from lowdim_bench.settings import quiet_stdout

    if (folder is None) != installed:
        raise UserError("Give either the folder of a submission, or --installed for what installed packages add.")
    with quiet_stdout() as out:
        from lowdim_bench.threads import use_one_thread
        from lowdim_bench.validation import validate, validate_installed

        use_one_thread()
        checks = ((str(folder), one) for one in validate(folder)) if folder is not None else validate_installed()
        found: list[tuple[str, Finding]] = []
        for subject, finding in checks:
            if not json:
                reports.show_finding(finding, out, heading="" if found and found[-1][0] == subject else subject)
            found.append((subject, finding))
        failed = sum(not finding.passed for _, finding in found)
        if json:
            reports.print_findings(found, out)
        elif not failed:
            reports.close_findings(folder, len(found), out)
    if failed:
        refuse(f"{failed} of {len(found)} checks failed. Put them right and validate again.")


@command(app, "lowdim-bench estimate submissions/my-mask digits-mlp --workers 4")
def estimate(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="A submission's folder (its own tasks, unless others follow), or tasks where -m is given."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="NAME[,key=value...] or a submission's folder.",
            autocompletion=complete_method,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes that will run it. [default: one for each core here]")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Do not measure; count operations, and extrapolate to such workers: a100, h100, h200, or here (one core)."
        ),
    ] = None,
    sweeps: Annotated[int, typer.Option(min=1, help="With --device: methods side by side.")] = 1,
    trials_per_round: Annotated[
        int | None, typer.Option(min=1, max=1024, help="With --device: rounds of another size than the task's.")
    ] = None,
    data_root: DataRoot = None,
    json: Json = False,
) -> None:
    """Predict trainings, hours and memory of a sweep from a few measured steps. Spends nothing and records nothing.

    With --device no data is read, and a method's preparation is left out; a task may also be imagenet-resnet50.
    """
    named = list(what or [])
    if device is not None:
        from lowdim_bench.cli.extrapolation import extrapolate_tasks

        extrapolate_tasks(named, device, workers or os.cpu_count() or 1, sweeps, trials_per_round, as_json=json)
        return
    if method is None:
        if not named:
            raise UserError("Give a submission's folder, or -m METHOD and tasks.")
        method = named[0] if named[0].startswith(("/", ".")) else f"./{named[0]}"
        named = named[1:]
    elif not named and "/" not in method.partition(",")[0]:
        raise UserError(f"Which task? Give one or more: lowdim-bench estimate -m {method} digits-mlp")

    from lowdim_bench.cli import display, reports
    from lowdim_bench.settings import quiet_stdout
    from lowdim_bench.specs import load_task

    tasks = [load_task(name) for name in named]
    settings = resolve_settings(data_root=data_root)
    with quiet_stdout() as out:
        from lowdim_bench.submissions import choose_method, submission_tasks

        _, choice = choose_method(method)
        tasks = tasks or submission_tasks(Path(method))
        from lowdim_bench.forecast import forecast

        rows = []
        for task in tasks:
            with display.counting(f"{task.name}: simulated sweeps", live=not json) as advance:
                rows.append(forecast(choice, task, settings.data_root, workers or os.cpu_count() or 1, advance))
        reports.show_forecasts(rows, out, as_json=json)
