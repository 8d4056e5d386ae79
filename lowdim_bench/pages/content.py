"""What the page shows, as plain data: tables with their words, figures with their captions. Knows nothing of HTML."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np

from lowdim_bench import __version__, figures
from lowdim_bench.figures import Fit, Point, Surface, Threshold
from lowdim_bench.leaderboard import Board, Row, build_board
from lowdim_bench.leaderboard import label as label_of
from lowdim_bench.leaderboard.formats import interval_text, rank_text, threshold_text
from lowdim_bench.records import TrialResult
from lowdim_bench.threshold import success_curve
from lowdim_bench.threshold.counts import count
from lowdim_bench.tracking import StoredSweep

_CURVE_POINTS = 60
RunLink = Callable[[str], str | None]
"""Where the MLflow run of an id is shown; None where that is not known."""


@dataclass(frozen=True)
class Shown:
    """One figure: a name that is unique on the page, what it shows in words, and its Vega-Lite specification."""

    name: str
    caption: str
    specification: Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """One trial that failed, and why."""

    trial: str
    reason: str


@dataclass(frozen=True)
class SweepContent:
    """Everything of one sweep."""

    row: Row
    link: str | None
    label: str
    threshold: str
    interval: str
    rank_now: str
    """Its rank, or the one that it would have if it were stopped now."""
    shown: Sequence[Shown]
    failures: Sequence[Failure]


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
class Content:
    """The whole page."""

    title: str
    board: Board
    tasks: Sequence[TaskContent]
    overall: Sequence[Shown]
    facts: Mapping[str, str] = field(default_factory=dict)
    """About the document itself: when it was made, of what, by which version."""

    @property
    def tracks(self) -> Sequence[str]:
        return sorted({row.track for row in self.board.rows})

    @property
    def shown(self) -> Sequence[Shown]:
        """Every figure, in the order of the page."""
        some = list(self.overall)
        for task in self.tasks:
            some += task.shown
            for sweep in task.sweeps:
                some += sweep.shown
        return some


def collect(
    sweeps: Sequence[StoredSweep], title: str, facts: Mapping[str, str], link: RunLink | None = None
) -> Content:
    """The content of a page about these sweeps."""
    board = build_board(sweeps)
    by_run = {sweep.run_id: sweep for sweep in sweeps}
    tasks: list[TaskContent] = []
    for place, digest in enumerate(dict.fromkeys(row.task_digest for row in board.rows)):
        rows = [row for row in board.rows if row.task_digest == digest]
        tasks.append(_task(f"task-{place}", rows, by_run, link))
    return Content(title, board, tasks, _overall(board), facts)


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
    title = f"{first.task}: {first.target}"
    drawn = [_threshold(row, None) for row in rows]
    shown = [
        _shown(
            f"{anchor}-thresholds",
            f"k* of every method on {first.task}, with 95 % intervals",
            figures.thresholds(drawn, first.full_dimension, title),
        )
    ]
    for name, price, value in (
        ("bits", "side information (bits)", lambda row: row.side_information_bits),
        (
            "preparation",
            "gradient evaluations before the k-dimensional training",
            lambda row: row.preparation_gradient_evaluations,
        ),
    ):
        priced = [_threshold(row, value(row)) for row in rows]
        if len({one.price for one in priced if one.price is not None and one.k_star}) > 1:
            shown.append(
                _shown(f"{anchor}-{name}", f"k* against {price} on {first.task}", figures.pareto(priced, price, title))
            )
    return TaskContent(
        anchor=anchor,
        name=first.task,
        digest=first.task_digest,
        target=first.target,
        full_dimension=first.full_dimension,
        sweeps=[_sweep(row, by_run[row.run_id], link) for row in rows],
        shown=shown,
    )


def _sweep(row: Row, sweep: StoredSweep, link: RunLink | None) -> SweepContent:
    title = f"{_label(row)} on {row.task} (D = {row.full_dimension:,})"
    return SweepContent(
        row=row,
        link=link(row.run_id) if link else None,
        label=_label(row),
        threshold=threshold_text(row),
        interval=interval_text(row),
        rank_now=rank_text(row),
        shown=[
            _shown(f"run-{row.run_id}-transition", f"Phase transition of {title}", _transition(row, sweep, title)),
            _shown(f"run-{row.run_id}-surface", f"Successes of {title} by target", _surface(row, sweep, title)),
        ],
        failures=[Failure(one.trial.key, one.reason) for one in sweep.results if one.status == "failed"],
    )


def _transition(row: Row, sweep: StoredSweep, title: str) -> figures.Figure:
    target, spec = sweep.task.ranked_target.name, sweep.task.threshold
    ks = np.unique(np.geomspace(sweep.k_low, sweep.k_high, _CURVE_POINTS).round().astype(int)).tolist()
    fit: Fit | None = None
    if sweep.results:
        curve = success_curve(spec, target, sweep.k_low, sweep.k_high, list(sweep.results), ks)
        rows = [(k, *values) for k, values in zip(ks, curve.tolist(), strict=True) if np.isfinite(values).all()]
        fit = Fit(*(tuple(column) for column in zip(*rows, strict=True))) if rows else None
    return figures.phase_transition(
        _points(sweep.results, target), fit, row.ladder[-1], spec.success_probability, title
    )


def _surface(row: Row, sweep: StoredSweep, title: str) -> figures.Figure:
    ladder = [
        Surface(target.name, target.level, _points(sweep.results, target.name), reached)
        for target, reached in zip(sweep.task.targets, row.ladder, strict=True)
    ]
    return figures.success_surface(ladder, title)


def _points(results: Sequence[TrialResult], target: str) -> list[Point]:
    seen = count(list(results), target)
    return [
        Point(k, hits, trials)
        for k, hits, trials in zip(seen.k.tolist(), seen.hits.tolist(), seen.trials.tolist(), strict=True)
    ]


def _label(row: Row) -> str:
    return label_of(row.method, row.params, row.submission)


def _threshold(row: Row, price: float | None) -> Threshold:
    return Threshold(_label(row), row.k_star, row.low, row.high, threshold_text(row), row.track, price)


def _overall(board: Board) -> list[Shown]:
    """Figures over all tasks, where there is more than one to compare."""
    shown: list[Shown] = []
    if len({row.task_digest for row in board.rows}) > 1 and board.profiles:
        drawn = [figures.Profile(name, one.tau, one.share) for name, one in board.profiles.items()]
        title = "Performance profiles"
        shown.append(_shown("profiles", title, figures.performance_profiles(drawn, title)))
    if len(board.wins) > 1:
        wins = {a: {b: (one.probability, one.tasks) for b, one in row.items()} for a, row in board.wins.items()}
        title = "Probability of needing fewer k"
        shown.append(_shown("wins", f"{title}: row against column", figures.win_matrix(wins, title)))
    return shown


def _shown(name: str, caption: str, figure: figures.Figure) -> Shown:
    return Shown(name, caption, json.loads(figures.render(figure, "json")))
