"""The command that starts a tracking server for several machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lowdim_bench.cli.options import Json, command

app = typer.Typer()


@command(app, "lowdim-bench serve --store postgresql://lowdim@127.0.0.1/lowdim")
def serve(
    store: Annotated[
        str | None,
        typer.Option(
            help="Where the server keeps its runs: postgresql://USER@HOST/DATABASE, the password in PGPASSWORD or ~/.pgpass; "
            "or sqlite:///FILE. [LOWDIM_BENCH_STORE; default: ./mlflow.db]"
        ),
    ] = None,
    artifacts: Annotated[
        str | None,
        typer.Option(help="Folder or s3://BUCKET for the files of runs. [beside a SQLite file, else the state folder]"),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; loopback unless you say otherwise.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 5000,
    accounts: Annotated[
        bool, typer.Option("--accounts/--no-accounts", help="Refuse who has no account; without them on loopback only.")
    ] = True,
    json: Json = False,
) -> None:
    """Start an MLflow server with the leaderboard in it, for drivers on a cluster and people who look, until it is stopped."""
    import os
    import sys

    from lowdim_bench.settings import SQLITE, Settings

    given = store or os.environ.get("LOWDIM_BENCH_STORE") or f"{SQLITE}{Path.cwd() / 'mlflow.db'}"
    from lowdim_bench.tracking.server import ADMIN, LOOPBACK, plan_server

    server = plan_server(
        Settings.resolve(tracking_uri=given), artifacts=artifacts, host=host, port=port, accounts=accounts
    )
    if json:
        from lowdim_bench.cli import display

        who = {"user": ADMIN, "credentials": str(server.credentials)} if server.credentials else {}
        display.print_json({"url": server.url, "leaderboard": server.leaderboard, **who}, sys.stdout)
    else:
        typer.echo(f"Leaderboard {server.leaderboard}")
        if server.credentials is None:
            typer.echo(f"MLflow server {server.url}: no accounts, whoever is on this machine may write")
        else:
            typer.echo(f"MLflow server {server.url}: user {ADMIN}, password in {server.credentials}")
            typer.echo("Whoever may write (the cluster's head, and you for `rank`) needs it once:")
            typer.echo(f"  install -D -m 600 {server.credentials} ~/.mlflow/credentials")
    if host not in LOOPBACK:
        typer.echo(
            f"Warning: {host} is reachable from other machines, and passwords travel in clear. Put TLS in front of it, or "
            "listen on loopback and come through ssh -L 5000:127.0.0.1:5000 HEAD.",
            err=True,
        )
    sys.stdout.flush()
    server.start()


def create_app() -> Any:
    """For `mlflow server --app-name lowdim-bench`: its server with the leaderboard in it, open to whoever reaches it.

    It is here because MLflow imports the module of an application once more only to look at it.
    """
    from lowdim_bench.pages import site

    return site.create(accounts=False)


def create_app_with_accounts() -> Any:
    """For `mlflow server --app-name lowdim-bench-accounts`: the same behind MLflow's accounts."""
    from lowdim_bench.pages import site

    return site.create(accounts=True)
