"""From rows and sweeps to the figures of the page: each with its name, its caption, and how it is drawn once it is wanted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from lowdim_bench import figures
from lowdim_bench.claims.scoreboard import Decided
from lowdim_bench.figures import Cell, Fit, Point, Setting, Surface, Threshold
from lowdim_bench.leaderboard import Board, Row
from lowdim_bench.leaderboard import label as label_of
from lowdim_bench.leaderboard.formats import threshold_text
from lowdim_bench.records import TrialResult
from lowdim_bench.threshold import success_curve
from lowdim_bench.threshold.counts import count
from lowdim_bench.tracking import StoredSweep

_CURVE_POINTS = 60
_PROFILES, _WINS = 8, 14
"""Methods that are drawn: as many as there are colours, and as fit into a page. The table has them all."""
_SUBSPACES = {
    "random_subspace": "random",
    "burn_in_subspace": "burn-in {steps}",
    "lottery_subspace": "lottery",
}
"""By method, what its column is called; in this order."""
_PRICES: Mapping[str, tuple[str, Callable[[Row], float | None]]] = {
    "bits": ("side information (bits)", lambda row: row.side_information_bits),
    "preparation": (
        "gradient evaluations before the k-dimensional training",
        lambda row: row.preparation_gradient_evaluations,
    ),
}


@dataclass(frozen=True)
class Shown:
    """One figure: a name that is unique on the page, what it shows in words, and how it is drawn, which takes a while."""

    name: str
    caption: str
    draw: Callable[[], figures.Figure]

    @cached_property
    def specification(self) -> Mapping[str, Any]:
        """Its Vega-Lite specification, with its data."""
        return json.loads(figures.render(self.draw(), "json"))


def of_board(board: Board) -> list[Shown]:
    """Figures over all tasks, where there is more than one to compare."""
    shown: list[Shown] = []
    if len({row.task_digest for row in board.rows}) > 1 and board.profiles:
        best = list(board.profiles.items())[:_PROFILES]
        drawn = [figures.Profile(name, one.tau, one.share) for name, one in best]
        title = f"Performance profiles{_of_best(_PROFILES, board)}"
        shown.append(Shown("profiles", title, partial(figures.performance_profiles, drawn, title)))
    if any(win.probability is not None for row in board.wins.values() for win in row.values()):
        best = list(board.wins)[:_WINS]
        wins = {a: {b: (one.probability, one.tasks) for b, one in board.wins[a].items() if b in best} for a in best}
        title = f"Probability of needing fewer k{_of_best(_WINS, board)}"
        shown.append(Shown("wins", f"{title}: row against column", partial(figures.win_matrix, wins, title)))
    return shown


def _of_best(most: int, board: Board) -> str:
    """What to add to a title where not all are drawn."""
    return f" (the {most} methods with the largest profile area)" if len(board.profiles) > most else ""


def of_task(anchor: str, rows: Sequence[Row], parameters: Mapping[str, Mapping[str, Any]]) -> list[Shown]:
    """Figures of all rows of a task. `parameters`: by run, those of its method with their defaults, as far as known."""
    first = rows[0]
    title = f"{first.task}: {first.target}"
    drawn = [_threshold(row, None) for row in rows]
    shown = [
        Shown(
            f"{anchor}-thresholds",
            f"k* of every method on {first.task}, with 95 % intervals",
            partial(figures.thresholds, drawn, first.full_dimension, title),
        )
    ]
    for name, (price, value) in _PRICES.items():
        priced = [_threshold(row, value(row)) for row in rows]
        if len({one.price for one in priced if one.price is not None and one.k_star}) > 1:
            caption = f"k* against {price} on {first.task}"
            shown.append(Shown(f"{anchor}-{name}", caption, partial(figures.pareto, priced, price, title)))
    if cells := _surfaces(rows, parameters):
        caption = f"k* of random, burn-in and lottery subspaces on {first.task}, by target"
        shown.append(Shown(f"{anchor}-burn-in", caption, partial(figures.threshold_surface, cells, first.task)))
    for name, settings in _varied(rows, parameters).items():
        caption = f"k* against {name} on {first.task}, where sweeps differ in nothing else"
        shown.append(Shown(f"{anchor}-{name}", caption, partial(figures.parameter, settings, name, title)))
    return shown


def of_sweep(row: Row, sweep: StoredSweep) -> list[Shown]:
    """Figures of one sweep."""
    title = f"{row_label(row)} on {row.task} (D = {row.full_dimension:,})"
    return [
        Shown(f"run-{row.run_id}-transition", f"Phase transition of {title}", partial(_transition, row, sweep, title)),
        Shown(
            f"run-{row.run_id}-surface",
            f"Success surface P(k, target) of {title}: the share of trainings that reached each target",
            partial(_surface, row, sweep, title),
        ),
    ]


def of_claim(row: Decided) -> Shown:
    """What a claim came to: its checks on the regions that it names."""
    checks = [
        figures.Decided(
            f"{one.what}: {one.measured}", one.estimate, one.low, one.high, one.above, one.below, one.claimed, one.interval,
            one.verdict,
        )
        for one in row.checks
    ]  # fmt: skip
    count = f"{len(checks)} {'check' if len(checks) == 1 else 'checks'}"
    caption = (
        f"Claim {row.number}, {row.name}, at scale {row.scale}: {row.verdict}. {count}, each with its 95 % interval beside the "
        "region that is claimed"
    )
    title = f"Claim {row.number}, {row.name} ({row.scale}): {row.verdict}"
    return Shown(f"claim-{row.scale}-{row.number}", caption, partial(figures.claim, checks, title))


def row_label(row: Row) -> str:
    """The method of a row, for people."""
    return label_of(row.method, row.params, row.submission)


def _surfaces(rows: Sequence[Row], parameters: Mapping[str, Mapping[str, Any]]) -> list[Cell]:
    """Of affine subspaces through the initial weights or through burnt-in ones: the threshold of every target, the shorter
    burn-ins first. Empty where there is a single subspace or a single target."""

    def steps(row: Row) -> int:
        return parameters.get(row.run_id, {}).get("burn_in_steps", 0)

    def name(row: Row) -> str:
        others = (f"{key}={value}" for key, value in sorted(row.params.items()) if key != "burn_in_steps")
        return ",".join([_SUBSPACES[row.method].format(steps=steps(row)), *others])

    order = list(_SUBSPACES)
    drawn = [row for row in rows if row.method in _SUBSPACES and row.submission is None]
    drawn.sort(key=lambda row: (order.index(row.method), steps(row), name(row)))
    if len(drawn) < 2 or len(drawn[0].ladder) < 2:
        return []
    return [Cell(name(row), one.target, one) for row in drawn for one in row.ladder]


def _varied(rows: Sequence[Row], parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Setting]]:
    """By the name of a number, such as burn_in_steps: rows that differ from others in nothing but that parameter."""
    groups: dict[tuple[str, str], list[Setting]] = {}
    for row in rows:
        known = parameters.get(row.run_id, {})
        for name, value in known.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            others = {other: known[other] for other in sorted(known) if other != name}
            series = ",".join([row.method, *(f"{key}={other}" for key, other in others.items())])
            groups.setdefault((name, series), []).append(
                Setting(series, float(value), row.k_star, row.low, row.high, threshold_text(row))
            )
    varied: dict[str, list[Setting]] = {}
    for (name, _), settings in sorted(groups.items()):
        if len({one.value for one in settings}) > 1:
            varied.setdefault(name, []).extend(sorted(settings, key=lambda one: one.value))
    return varied


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


def _threshold(row: Row, price: float | None) -> Threshold:
    return Threshold(row_label(row), row.k_star, row.low, row.high, threshold_text(row), row.track, price)
