"""The command that measures published claims and shows the scoreboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from lowdim_bench.cli.options import (
    Autoscaling,
    DataRoot,
    GpusPerWorker,
    Json,
    RayAddress,
    TrackingUri,
    Workers,
    command,
    refuse,
    resolve_settings,
)
from lowdim_bench.errors import UserError

if TYPE_CHECKING:
    from lowdim_bench.claims import Claim
    from lowdim_bench.claims.cost import Cost
    from lowdim_bench.claims.scoreboard import Decided
    from lowdim_bench.settings import Settings

app = typer.Typer()

ScaleName = Literal["cpu", "full"]


def complete_claim(incomplete: str) -> list[str]:
    from lowdim_bench.claims import CLAIMS

    return [name for name in (*map(str, CLAIMS), "all") if name.startswith(incomplete)]


@command(app, "lowdim-bench reproduce 1 4 --scale cpu")
def reproduce(
    claim: Annotated[
        list[str] | None,
        typer.Argument(
            help="Numbers or names of claims, or 'all'; without any, what is on record.", autocompletion=complete_claim
        ),
    ] = None,
    scale: Annotated[
        ScaleName, typer.Option(help="cpu: minutes on two cores. full: data and networks of the papers' size.")
    ] = "cpu",
    again: Annotated[bool, typer.Option("--again", help="Measure anew what is decided already.")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="Tell what it would cost, and measure nothing.")] = False,
    tracking_uri: TrackingUri = None,
    data_root: DataRoot = None,
    ray_address: RayAddress = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    autoscaling: Autoscaling = None,
    json: Json = False,
) -> None:
    """Measure published claims and decide each from its intervals. The same command goes on where one stopped."""
    from lowdim_bench.settings import quiet_stdout

    if again and not claim:
        raise UserError("--again measures claims anew; say which. Give their numbers or names, or 'all'.")
    settings = resolve_settings(
        tracking_uri=tracking_uri,
        data_root=data_root,
        ray_address=ray_address,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        autoscaling=autoscaling,
    )
    with quiet_stdout() as out:
        from lowdim_bench.claims import choose

        chosen = choose(claim or [], scale)
        if estimate:
            _show_costs(chosen, scale, out, as_json=json)
            return
        decided, failures = (
            _measure(settings, chosen, scale, again=again, live=not json) if claim else _recorded(settings, chosen)
        )
        _show(chosen, scale, decided, out, as_json=json)
    if failures:
        refuse("\n".join([*failures, "What was measured is kept; put it right and run the same command again."]))


def _measure(
    settings: Settings, chosen: Sequence[Claim], scale: ScaleName, *, again: bool, live: bool
) -> tuple[dict[int, Decided], list[str]]:
    """What each claim came to, by number, and what went wrong."""
    from lowdim_bench.claims.cost import total
    from lowdim_bench.claims.driver import reproduce as measure
    from lowdim_bench.cli import display

    if scale == "full":
        typer.echo(
            "At most " + ", ".join(_words(total([one.cost() for one in chosen]))) + ". Ctrl-C keeps what is done.",
            err=True,
        )
    with display.counting("replicates measured", live=live) as advance:
        outcomes = measure(settings, chosen, scale, again=again, progress=advance)
    decided = {one.claim.number: one.decided for one in outcomes if one.decided is not None}
    return decided, [f"Claim {one.claim.number} ({one.claim.name}): {one.failure}" for one in outcomes if one.failure]


def _recorded(settings: Settings, chosen: Sequence[Claim]) -> tuple[dict[int, Decided], list[str]]:
    from lowdim_bench.claims.scoreboard import read
    from lowdim_bench.tracking import recorded_verdicts

    by_digest = read(recorded_verdicts(settings))
    return {one.number: by_digest[one.digest].retold(one) for one in chosen if one.digest in by_digest}, []


def _show(
    chosen: Sequence[Claim], scale: ScaleName, decided: dict[int, Decided], out: TextIO, *, as_json: bool
) -> None:
    from lowdim_bench.claims.scoreboard import Scoreboard, tally
    from lowdim_bench.cli import display

    known = [decided[one.number] for one in chosen if one.number in decided]
    if as_json:
        missing = [one.number for one in chosen if one.number not in decided]
        verdicts = {str(one.number): one.verdict for one in known}
        about: dict[str, Any] = Scoreboard(rows=tuple(known)).model_dump(mode="json")
        display.print_json({"scale": scale, "verdicts": verdicts, "not_measured": missing, **about}, out)
        return
    lines = []
    for one in chosen:
        if (row := decided.get(one.number)) is None:
            lines.append((str(one.number), one.name, one.expected, "-", "not measured", one.source))
            continue
        check, others = row.deciding, len(row.checks) - 1
        more = f"; {others} more no weaker" if others else ""
        measured = f"{check.what}: {check.measured}, claimed {check.claimed}{more}"
        lines.append((str(one.number), one.name, one.expected, measured, row.verdict, one.source))
    columns = ("#", "claim", "expected", "measured, where it is decided", "verdict", "source")
    display.print_table(f"Published claims at scale {scale}", columns, lines, out)
    count = tally(known)
    summary = ", ".join(f"{number} {verdict}" for verdict, number in count.items() if number) or "none measured yet"
    out.write(f"  {summary}. Intervals are 95 %; a claim has the verdict of its weakest check.\n")
    if len(chosen) <= 3:
        _show_checks(known, out)
    elif len(known) < len(chosen):
        out.write(f"  To measure the others: lowdim-bench reproduce all --scale {scale}\n")


def _show_checks(known: Sequence[Decided], out: TextIO) -> None:
    from lowdim_bench.cli import display

    for row in known:
        lines = [(check.what, check.claimed, check.measured, check.interval, check.verdict) for check in row.checks]
        columns = ("check", "claimed", "measured (95 % interval; n)", "interval", "verdict")
        display.print_table(f"Claim {row.number}: {row.statement}", columns, lines, out)


def _show_costs(chosen: Sequence[Claim], scale: ScaleName, out: TextIO, *, as_json: bool) -> None:
    from lowdim_bench.claims.cost import total
    from lowdim_bench.cli import display

    costs: dict[int, Cost] = {one.number: one.cost() for one in chosen}
    whole = total(list(costs.values()))
    if as_json:
        about = {str(number): one.model_dump(mode="json") for number, one in costs.items()}
        display.print_json({"scale": scale, "claims": about, "total": whole.model_dump(mode="json")}, out)
        return
    lines = [(str(one.number), one.name, *_amounts(costs[one.number])) for one in chosen]
    columns = ("#", "claim", "trainings", "training steps", "floating-point operations")
    display.print_table(
        f"What the claims take at most at scale {scale}", columns, [*lines, ("", "all", *_amounts(whole))], out
    )


def _words(one: Cost) -> tuple[str, str, str]:
    trainings, steps, operations = _amounts(one)
    return f"{trainings} trainings", f"{steps} training steps", f"{operations} floating-point operations"


def _amounts(one: Cost) -> tuple[str, str, str]:
    return f"{one.trainings:,}", f"{one.steps:,}", f"{one.operations:.1e}"
