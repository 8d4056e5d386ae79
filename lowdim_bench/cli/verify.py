"""The command that recomputes what is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from lowdim_bench.cli.options import DataRoot, Json, TrackingUri, command, refuse, resolve_settings
from lowdim_bench.errors import UserError

if TYPE_CHECKING:
    from lowdim_bench.verification import Precision, Report

app = typer.Typer()
_WRONG = 1
"""Exit code where something recorded is not what recomputing gives."""


@command(app, "lowdim-bench verify 766c25ca")
def verify(
    run: Annotated[
        list[str] | None, typer.Argument(help="Runs, by the beginning of their identifiers, as `rank` shows them.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Verify every run of the store.")] = False,
    bits: Annotated[
        Literal["nearest", "all", "none"],
        typer.Option(help="Look for the coarsest precision of theta: nearest to k*, of all certificates, or of none."),
    ] = "nearest",
    sample: Annotated[
        float,
        typer.Option(
            min=0.01, max=1.0, help="Spot check: work losses out on this share of the data alone, drawn by chance."
        ),
    ] = 1.0,
    tracking_uri: TrackingUri = None,
    data_root: DataRoot = None,
    json: Json = False,
) -> None:
    """Recompute certificates and records of runs without their methods' code. Exit code 1 where anything is wrong."""
    from lowdim_bench.settings import quiet_stdout

    if bool(run) == everything:
        raise UserError("Say which runs: give the beginnings of their identifiers, as `rank` shows them, or --all.")
    settings = resolve_settings(tracking_uri=tracking_uri, data_root=data_root)
    with quiet_stdout() as out:
        from lowdim_bench.cli import display

        with display.busy("Reading what is recorded ...", live=not json):
            from lowdim_bench.threads import use_one_thread
            from lowdim_bench.tracking import Store
            from lowdim_bench.verification import Verifier

            use_one_thread()
            verifier = Verifier(settings.data_root, bits, sample=sample)
            dossiers = Store(settings).dossiers(run)
        if not dossiers:
            raise UserError(f"Nothing is recorded in {settings.shown_tracking_uri}. Begin with `lowdim-bench run`.")
        reports: list[Report] = []
        not_here: list[str] = []
        for dossier in dossiers:
            try:
                with display.counting(f"certificates of {dossier.run_id[:8]}", live=not json) as advance:
                    report = verifier.verify(dossier, advance)
            except UserError as error:  # its data, as a rule; the other runs are verified all the same
                not_here.append(f"{dossier.run_id[:8]}: {error}")
                continue
            reports.append(report)
            if not json:
                _show(report, out)
        if json:
            display.print_json({"runs": [_plain(report) for report in reports]}, out)
    for reason in not_here:
        typer.echo(f"Not verified here: {reason}", err=True)
    if not all(report.correct for report in reports):
        raise typer.Exit(_WRONG)
    if not_here:
        refuse(f"{len(not_here)} of {len(dossiers)} runs could not be verified here; what is missing is told above.")


def _plain(report: Report) -> dict[str, object]:
    shares = {"share": report.share, "share_of_all": report.share_of_all}
    return {"verified": report.verdict, **shares, **report.model_dump(mode="json")}


def _show(report: Report, out: TextIO) -> None:
    """One run: the verdict, what was found, and how long it took beside the cheapest training."""
    count = len(report.checked)
    good = "verified" if report.sample == 1 else "nothing found by a spot check"
    out.write(
        f"{report.run_id[:8]} {report.method} on {report.task}: {good if report.correct else 'NOT VERIFIED'} "
        f"({_plural(count, 'certificate')} recomputed, {_plural(len(report.findings), 'finding')})\n"
    )
    out.writelines(f"  {finding.text}\n" for finding in report.findings)
    if report.sample < 1 and report.checked:
        out.write(f"  {_spot(report)}\n")
    inexact = sum(not one.exact for one in report.checked)
    if inexact:
        out.write(
            f"  {inexact} of {count} losses were made in another environment: compared within {report.tolerance:g} of their "
            "value, not to the last bit\n"
        )
    out.writelines(f"  not checked: {remark}\n" for remark in report.remarks)
    if (cheapest := report.cheapest) is not None and report.share is not None:
        once = f"{report.records_seconds:.3g} s for the records, {report.loading_seconds:.3g} s to load the data"
        cpu = sum(one.verifying_seconds for one in report.checked) / count
        out.write(
            f"  {cpu:.3g} s of processor time a certificate: {100 * (report.share_of_all or 0):.2g} % of the trainings that "
            f"they certify, {100 * report.share:.2g} % of the cheapest ({cheapest.trial}, {cheapest.training_seconds:.3g} s); "
            f"{report.seconds:.3g} s on {_plural(report.threads, 'thread')}; once {once}\n"
        )
    out.writelines(f"  {_precision(one)}\n" for one in report.precision)
    out.flush()


def _spot(report: Report) -> str:
    """What a spot check cannot see, and how likely it sees it."""
    most = max(report.checked, key=lambda one: one.parts)
    if most.parts_looked_at == most.parts:
        return "every loss was worked out on all of the data, which is in one part"
    seen, parts = most.parts_looked_at, most.parts
    return (
        f"spot check: each loss worked out on {seen} of {parts} parts of the data, drawn by chance. A point that was altered "
        f"shows on any of them, a loss altered for one part alone with probability {seen / parts:.2f}. No verdict is recorded"
    )


def _precision(one: Precision) -> str:
    if one.bits is None:
        return f"theta of {one.trial} ({one.k} numbers) needs more than 24 bits a number to meet the target"
    return (
        f"theta of {one.trial} meets the target at {one.bits_per_number} bits a number: {one.bits:,} bits instead of "
        f"{32 * one.k:,} (loss {one.loss:.4g})"
    )


def _plural(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")
