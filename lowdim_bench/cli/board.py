"""Commands that show what was measured: the ranking in the terminal or as a table, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lowdim_bench.cli.options import Json, TrackingUri, command, complete_task, resolve_settings
from lowdim_bench.errors import UserError

if TYPE_CHECKING:
    from lowdim_bench.settings import Settings
    from lowdim_bench.tracking import StoredSweep

app = typer.Typer()

Tasks = Annotated[list[str] | None, typer.Argument(help="Only these tasks.", autocompletion=complete_task)]


class Format(StrEnum):
    """What `rank` prints."""

    text = "text"
    json = "json"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"


@command(app, "lowdim-bench rank --format markdown")
def rank(
    task: Tasks = None,
    tracking_uri: TrackingUri = None,
    form: Annotated[
        Format, typer.Option("--format", help="As a table for people, or to be used elsewhere.")
    ] = Format.text,
    json: Json = False,
) -> None:
    """Rank the methods by parameter efficiency D / k*, with intervals and evidence."""
    from lowdim_bench.settings import quiet_stdout

    form = Format.json if json else form
    settings = resolve_settings(tracking_uri=tracking_uri)
    with quiet_stdout() as out:
        from lowdim_bench.cli import display

        sweeps = _read(settings, task or [], live=form is Format.text)
        from lowdim_bench.leaderboard import build_board, formats

        board = build_board(sweeps)
        if form in {Format.text, Format.json}:
            display.show_board(board, out, as_json=form is Format.json)
        else:
            out.write(formats.formatted(board, form.value))


@command(app, "lowdim-bench report --out leaderboard.html")
def report(
    task: Tasks = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("leaderboard.html"),
    figures: Annotated[
        Path | None, typer.Option(help="A folder for every figure as SVG and PNG, and its numbers as CSV.")
    ] = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Write the leaderboard as one HTML file, with figures and evidence, that opens without a network."""
    from lowdim_bench.settings import quiet_stdout

    settings = resolve_settings(tracking_uri=tracking_uri)
    if not out.parent.is_dir():
        raise UserError(f"The folder of {out} does not exist. Make it first, or give another file with --out.")
    with quiet_stdout() as printed:
        from lowdim_bench.cli import display

        sweeps = _read(settings, task or [], live=not json)
        with display.busy("Drawing figures ...", live=not json):
            from lowdim_bench.claims.scoreboard import newest
            from lowdim_bench.pages import collect, facts_about, named_figures, render_report, save_figures
            from lowdim_bench.tracking import recorded_verdicts

            claims = [] if task else newest(recorded_verdicts(settings))  # they are of no single task
            facts = facts_about(settings.shown_tracking_uri)
            content = collect(sweeps, "lowdim-bench leaderboard", facts, claims=claims)
            text = render_report(content)
            files = save_figures(named_figures(content), figures) if figures else []
        draft = out.with_name(f".{out.name}.part")
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(out)  # a reader never meets half of a file
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise UserError(f"{out} cannot be written: {error.strerror}. Give another file with --out.") from None
        size = len(text.encode())
        if json:
            about = {"file": str(out.absolute()), "bytes": size, "sweeps": len(sweeps)}
            display.print_json(about | {"figures": [str(path.absolute()) for path in files]}, printed)
        else:
            printed.write(f"{out}: {len(sweeps)} sweeps, {size / 1e6:.1f} MB. Open it in any browser.\n")
            if files:
                printed.write(f"{figures}: {len(files)} files; each figure as SVG and PNG, its numbers as CSV.\n")


def _read(settings: Settings, wanted: Sequence[str], *, live: bool) -> Sequence[StoredSweep]:
    """The sweeps that are recorded, or those of some tasks. Raises `UserError` for a task without any."""
    from lowdim_bench.cli import display

    with display.busy("Reading what is recorded ...", live=live):
        from lowdim_bench.tracking import Store

        with Store(settings) as store:
            sweeps = store.sweeps()
    known = sorted({sweep.task.name for sweep in sweeps})
    if missing := sorted(set(wanted) - set(known)):
        raise UserError(
            f"Nothing is recorded for {', '.join(missing)} in {settings.shown_tracking_uri}. "
            f"Recorded: {', '.join(known) or '(nothing yet)'}. Run it first: "
            f"lowdim-bench run {missing[0]} -m random_subspace"
        )
    return [sweep for sweep in sweeps if not wanted or sweep.task.name in wanted]
