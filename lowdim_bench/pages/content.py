"""What the page shows, as plain data: tables with their words, figures with their captions. Knows nothing of HTML."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from lowdim_bench import __version__
from lowdim_bench.claims.scoreboard import Decided
from lowdim_bench.errors import UserError
from lowdim_bench.leaderboard import Board, Measurements, Row, build_board
from lowdim_bench.leaderboard.formats import interval_text, predicted_text, rank_text, threshold_text
from lowdim_bench.leaderboard.rows import plain
from lowdim_bench.pages import drawn
from lowdim_bench.pages.drawn import Shown
from lowdim_bench.tracking import StoredSweep

RunLink = Callable[[str], str | None]
"""Where the MLflow run of an id is shown; None where that is not known."""


@dataclass(frozen=True)
class Failure:
    """Trials that failed for the same reason."""

    reason: str
    trials: Sequence[str]


@dataclass(frozen=True)
class SweepContent:
    """Everything of one sweep."""

    row: Row
    link: str | None
    label: str
    threshold: str
    interval: str
    rank: str
    """Its rank, with the interval of that."""
    predicted: str
    """What the curvature of the loss predicts, where somebody asked; else empty."""
    prospect: str
    """Of an unfinished sweep: the rank that it would have if it were stopped now; else empty."""
    shown: Sequence[Shown]
    failures: Sequence[Failure]

    @property
    def order(self) -> float:
        """Where it stands among the rows when they are sorted by rank."""
        return self.row.rank if self.row.rank is not None else 1e6 + (self.row.rank_if_stopped or 1e6)


@dataclass(frozen=True)
class TaskContent:
    """One task: its sweeps in the order of the board, and figures of all of them."""

    anchor: str
    name: str
    digest: str
    target: str
    full_dimension: int
    sweeps: Sequence[SweepContent]
    shown: Sequence[Shown]


@dataclass(frozen=True)
class ClaimContent:
    """One published claim."""

    row: Decided
    shown: Shown


@dataclass(frozen=True)
class Content:
    """The whole page."""

    title: str
    board: Board
    tasks: Sequence[TaskContent]
    overall: Sequence[Shown]
    claims: Sequence[ClaimContent] = ()
    """Published claims and what they came to here."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """About the document itself: when it was made, of what, by which version."""

    @property
    def tracks(self) -> Sequence[str]:
        return sorted({row.track for row in self.board.rows})

    @property
    def under_way(self) -> Sequence[tuple[TaskContent, SweepContent]]:
        """Sweeps whose driver has not ended them: they run, or wait to be continued."""
        return [
            (task, sweep)
            for task in self.tasks
            for sweep in task.sweeps
            if sweep.row.progress in {"running", "interrupted"}
        ]

    @property
    def shown(self) -> Sequence[Shown]:
        """Every figure, in the order of the page."""
        some = list(self.overall)
        for task in self.tasks:
            some += task.shown
            for sweep in task.sweeps:
                some += sweep.shown
        return some + [claim.shown for claim in self.claims]

    @property
    def comparisons(self) -> Mapping[str, Any]:
        """What the comparison of two methods is made from: names by method digest, rows by run, and pairs of rows."""
        sweeps = {sweep.row.run_id: (task, sweep) for task in self.tasks for sweep in task.sweeps}
        paired = {run for pair in self.board.pairs for run in (pair.run, pair.other)}
        return {
            "methods": {sweeps[run][1].row.method_digest: sweeps[run][1].label for run in sorted(paired)},
            "rows": {
                run: [sweeps[run][1].row.method_digest, sweeps[run][0].name, sweeps[run][1].threshold]
                for run in sorted(paired)
            },
            "pairs": [
                [one.run, one.other, *(float(f"{x:.4g}") for x in (one.ratio, one.low, one.high, one.probability)), one.seeds]
                for one in self.board.pairs
            ],
        }  # fmt: skip


def collect(
    sweeps: Sequence[StoredSweep],
    title: str,
    facts: Mapping[str, str],
    link: RunLink | None = None,
    measurements: Measurements | None = None,
    claims: Sequence[Decided] = (),
) -> Content:
    """The content of a page about these sweeps and claims. `measurements`: see `build_board`."""
    board = build_board(sweeps, measurements)
    by_run = {sweep.run_id: sweep for sweep in sweeps}
    tasks: list[TaskContent] = []
    for place, digest in enumerate(dict.fromkeys(row.task_digest for row in board.rows)):
        rows = [row for row in board.rows if row.task_digest == digest]
        tasks.append(_task(f"task-{place}", rows, by_run, link))
    decided = [ClaimContent(claim, drawn.of_claim(claim)) for claim in claims]
    return Content(title, board, tasks, drawn.of_board(board), decided, facts)


def facts_about(store: str) -> dict[str, str]:
    """What a reader wants to know of the document itself; `store` is where its sweeps are recorded, without a password."""
    versions = [f"{name} {metadata.version(name)}" for name in ("torch", "ray", "mlflow", "numpy")]
    return {
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "from": store,
        "by": f"lowdim-bench {__version__}, Python {platform.python_version()}, {', '.join(versions)}",
    }


def _task(anchor: str, rows: Sequence[Row], by_run: Mapping[str, StoredSweep], link: RunLink | None) -> TaskContent:
    first = rows[0]
    return TaskContent(
        anchor=anchor,
        name=first.task,
        digest=first.task_digest,
        target=first.target,
        full_dimension=first.full_dimension,
        sweeps=[_sweep(row, by_run[row.run_id], link) for row in rows],
        shown=drawn.of_task(anchor, rows, {row.run_id: _parameters(by_run[row.run_id]) for row in rows}),
    )


def _parameters(sweep: StoredSweep) -> Mapping[str, Any]:
    """Of its method, with their defaults; only those that were given where the code is not ours, or is another."""
    method = sweep.method
    if not method.code and not method.origin:
        with suppress(UserError):
            return method.build().model_dump(mode="json")
    return method.parameters


def _sweep(row: Row, sweep: StoredSweep, link: RunLink | None) -> SweepContent:
    return SweepContent(
        row=row,
        link=link(row.run_id) if link else None,
        label=drawn.row_label(row),
        threshold=threshold_text(row),
        interval=interval_text(row),
        rank=rank_text(row),
        predicted=predicted_text(row),
        prospect=_prospect(row),
        shown=drawn.of_sweep(row, sweep),
        failures=_failures(sweep),
    )


def _prospect(row: Row) -> str:
    if row.rank_if_stopped is None:
        return ""
    low, high = row.rank_if_stopped_low, row.rank_if_stopped_high
    return f"{row.rank_if_stopped}" + (f" ({low}..{high})" if low != high else "")


def _failures(sweep: StoredSweep) -> list[Failure]:
    by_reason: dict[str, list[str]] = {}
    for result in sweep.results:
        if result.status == "failed":
            by_reason.setdefault(plain(result.reason), []).append(result.trial.key)
    return [Failure(reason, trials) for reason, trials in by_reason.items()]
