"""Commands for a standing cluster: send a submission there, see what runs and waits, follow, end and resume it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from lowdim_bench.cli.options import Json, command, complete_task
from lowdim_bench.errors import UserError

if TYPE_CHECKING:
    from lowdim_bench.execution.requests import Request
    from lowdim_bench.execution.service import ClusterJob, JobService

app = typer.Typer()

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="The cluster's job server: its dashboard. [LOWDIM_BENCH_JOB_SERVER; default: http://127.0.0.1:8265]",
    ),
]
_NOTE = 70
"""Columns for why a job failed; `--json` and `logs` have all of it."""
JobName = Annotated[str, typer.Argument(help="Name of a job, as `submit` and `jobs` print it.")]


@command(app, "lowdim-bench submit submissions/snip --tracking-uri http://127.0.0.1:5000")
def submit(
    folder: Annotated[Path, typer.Argument(help="The submission's folder.")],
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            "-t",
            help="A task or task file, instead of those of submission.yaml; may be given several times.",
            autocompletion=complete_task,
        ),
    ] = None,
    address: Address = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow server that takes the results, as the head reaches it. [LOWDIM_BENCH_TRACKING_URI]"),
    ] = None,
    data_root: Annotated[str | None, typer.Option(help="Folder of data sets on the head. [its own default]")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes of this job. [all that fit]")] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(help="GPUs for each worker, may be a fraction; 0: CPU only. [a whole one, if any]")
    ] = None,
    autoscaling: Annotated[
        bool | None,
        typer.Option(
            "--autoscaling/--no-autoscaling", help="The cluster grows on demand, up to --workers. [the head's default]"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Send a submission to a cluster, where it is run like `run` does, and print where to follow it."""
    from lowdim_bench.settings import Settings

    settings = Settings.resolve(tracking_uri=tracking_uri, workers=workers, gpus_per_worker=gpus_per_worker)
    _refuse_local_store(settings.tracking_uri, settings.shown_tracking_uri)
    options = {
        "DATA_ROOT": data_root,
        "WORKERS": workers,
        "GPUS_PER_WORKER": gpus_per_worker,
        "AUTOSCALING": None if autoscaling is None else int(autoscaling),
    }
    request = _request(folder, task or [], settings.tracking_uri, options)
    service = _service(address)
    _show_sent(service.submit(request), service, json=json)


@command(app, "lowdim-bench resume template-0123456789ab-1")
def resume(job: JobName, address: Address = None, json: Json = False) -> None:
    """Send again what a job was sent with. Finished trials are kept in the tracking store: only the others are trained."""
    service = _service(address)
    _show_sent(service.resume(job), service, json=json)


@command(app, "lowdim-bench jobs --json")
def jobs(address: Address = None, json: Json = False) -> None:
    """List the jobs of a cluster: what runs, what waits and at which place, and how the others ended."""
    from lowdim_bench.settings import quiet_stdout

    with quiet_stdout() as out:
        _show_jobs(_service(address).jobs(), out, json=json)


@command(app, "lowdim-bench logs template-0123456789ab-1 --follow")
def logs(
    job: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    address: Address = None,
    json: Json = False,
) -> None:
    """Print what a job has printed, and with --follow what it prints until it ends; then its exit code is 1 if it failed."""
    from lowdim_bench.cli import display
    from lowdim_bench.settings import quiet_stdout

    with quiet_stdout() as out:
        service = _service(address)
        parts = service.follow(job) if follow else iter([service.log(job)])
        if json:
            text = "".join(parts)
            display.print_json(_plain(service.find(job)) | {"log": text}, out)
        else:
            for part in parts:
                out.write(part)
                out.flush()
        ended = service.find(job)
    if follow:
        typer.echo(f"Job {job} {_ending(ended)}", err=True)
        if ended.status != "SUCCEEDED":
            raise typer.Exit(1)


@command(app, "lowdim-bench cancel template-0123456789ab-1")
def cancel(
    job: Annotated[list[str], typer.Argument(help="Names of jobs, as `submit` and `jobs` print them.")],
    address: Address = None,
    json: Json = False,
) -> None:
    """End jobs, whether they run or wait for their turn. What they have finished is kept, and `resume` goes on from there."""
    from lowdim_bench.settings import quiet_stdout

    with quiet_stdout() as out:
        _show_jobs(_service(address).cancel(job), out, json=json)


def _service(address: str | None) -> JobService:
    from lowdim_bench.settings import Settings, resolve_job_server

    server = resolve_job_server(address)
    from lowdim_bench.execution.service import JobService

    return JobService(Settings.resolve(), server)


def _refuse_local_store(uri: str, shown: str) -> None:
    """What runs on the head cannot write into a file here, and a password would be readable in the job's description."""
    if not uri.startswith(("http://", "https://")):
        raise UserError(
            f"A job runs on the cluster's head and cannot record into {shown} of this machine. Give the MLflow server that "
            "the head reaches, --tracking-uri http://HOST:PORT or LOWDIM_BENCH_TRACKING_URI; `lowdim-bench serve` starts one."
        )
    if "@" in uri.partition("//")[2].partition("/")[0]:
        raise UserError(
            f"The tracking URI {shown} holds a password, which everybody who sees the cluster's jobs could read. Give it "
            "without, and put name and password into ~/.mlflow/credentials of the head (`lowdim-bench serve` says how)."
        )


def _request(folder: Path, tasks: Sequence[str], tracking_uri: str, options: Mapping[str, object]) -> Request:
    from lowdim_bench.execution import requests
    from lowdim_bench.specs import load_task
    from lowdim_bench.submissions import freeze_submission, read_folder, submission_tasks

    submission, _ = freeze_submission(folder)
    own = read_folder(folder)
    files = {f"{requests.SUBMISSION}/{name}": content for name, content in own.items()}
    names: list[str] = []
    for task in tasks:
        if not task.endswith((".yaml", ".yml")):
            names.append(task)
            continue
        load_task(task)
        names.append(f"{requests.TASKS}/{Path(task).name}")
        content = Path(task).read_bytes()
        if files.setdefault(names[-1], content) != content:
            raise UserError(
                f"Two task files are named {Path(task).name}: {', '.join(tasks)}. They are sent by their names alone; "
                "rename one."
            )
    if tasks:
        loaded = [load_task(task) for task in tasks]
    else:
        loaded = submission_tasks(folder)
        names = [f"{requests.SUBMISSION}/{task}" if task in own else task for task in submission.tasks]
    if len({task.name for task in loaded}) < len(loaded):
        raise UserError(f"A task is given twice: {', '.join(tasks)}. Give each once.")
    return requests.Request(
        name=submission.name,
        files=files,
        tasks=tuple(names),
        task_digests=tuple(task.digest for task in loaded),
        tracking_uri=tracking_uri,
        environment={f"LOWDIM_BENCH_{name}": str(value) for name, value in options.items() if value is not None},
    )


def _show_sent(job: ClusterJob, service: JobService, *, json: bool) -> None:
    from lowdim_bench.cli import display

    where = "" if service.address == "http://127.0.0.1:8265" else f" --address {service.address}"
    next_steps = {
        "follow": f"lowdim-bench logs {job.id} --follow{where}",
        "cancel": f"lowdim-bench cancel {job.id}{where}",
        "jobs": f"lowdim-bench jobs{where}",
        "rank": f"lowdim-bench rank --tracking-uri {job.tracking_uri}",
    }
    dashboard = f"{service.address}/#/jobs/{job.id}"
    if json:
        import sys

        display.print_json(_plain(job) | {"dashboard": dashboard, "commands": next_steps}, sys.stdout)
        return
    place = f"waits at place {job.position}" if job.position else job.status.lower()
    typer.echo(f"Job {job.id}: {job.submission} on {', '.join(job.tasks)} ({place})")
    typer.echo(f"  dashboard  {dashboard}")
    typer.echo(f"  MLflow     {job.tracking_uri}")
    for name, line in next_steps.items():
        typer.echo(f"  {name:<9}  {line}")


def _plain(job: ClusterJob) -> dict[str, Any]:
    times = {"submitted": job.submitted, "ended": job.ended}
    return asdict(job) | {name: when.isoformat() if when else None for name, when in times.items()}


def _show_jobs(found: Sequence[ClusterJob], out: TextIO, *, json: bool) -> None:
    from textwrap import shorten

    from lowdim_bench.cli import display

    if json:
        display.print_json({"jobs": [_plain(job) for job in found]}, out)
        return
    if not found:
        out.write(
            "The cluster has no jobs, or has forgotten them: it does when its head ends. Send one: lowdim-bench submit\n"
        )
        out.flush()
        return
    lines = [
        (
            job.id, job.submission, ", ".join(job.tasks), job.status.lower(), str(job.position or "-"),
            _time(job.submitted), _time(job.ended), shorten(job.note, _NOTE) or "-",
        )
        for job in found
    ]  # fmt: skip
    columns = ("job", "submission", "tasks", "status", "queue", "sent (UTC)", "ended (UTC)", "note")
    display.print_table("Jobs", columns, lines, out)


def _time(when: datetime | None) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S") if when else "-"


def _ending(job: ClusterJob) -> str:
    words = {"SUCCEEDED": "is done.", "STOPPED": "was cancelled.", "FAILED": "failed"}
    note = f": {job.note}" if job.status == "FAILED" and job.note else ""
    return f"{words.get(job.status, job.status)}{note}"
