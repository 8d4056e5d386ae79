"""The command line: parse, call one function, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import typer

from lowdim_bench.cli import (
    board,
    calibrate,
    catalogue,
    claims,
    cluster,
    landscape,
    server,
    submissions,
    sweeps,
    verify,
)

app = typer.Typer(
    name="lowdim-bench",
    help="How few degrees of freedom does it take to train a neural network? Measures, ranks, and shows the evidence.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for group in (catalogue, submissions, sweeps, board, landscape, claims, cluster, server, verify):
    app.add_typer(group.app)
app.add_typer(calibrate.app, name="calibrate")


def main() -> None:
    """The entry point of the installed script."""
    app()
