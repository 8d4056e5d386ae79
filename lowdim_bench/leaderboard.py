"""The leaderboard: one row for each sweep, ranked by parameter efficiency D / k*; and methods over all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from lowdim_bench import futility
from lowdim_bench.futility import FutilityReport
from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Estimate, Spending, price
from lowdim_bench.seeds import derive
from lowdim_bench.specs import TRACKS, Spec, Track
from lowdim_bench.threshold import estimate, paired_log_ratios
from lowdim_bench.tracking import StoredSweep

REFERENCE = "random_subspace"
"""What every method is compared with: the random subspace with its default parameters."""
_DRAWS = 1000


class Relative(Spec):
    """How many times fewer k than the random subspace: k*(random) / k*, with a 95 % bootstrap interval over seeds."""

    value: float
    low: float
    high: float
    tasks: int


class Row(Spec):
    """One sweep on the board. Counts and prices are those of the trials behind its threshold."""

    rank: int | None
    """Among the rows of its task; None where nothing can be ranked (no threshold, or a control)."""
    task: str
    task_digest: str
    method: str
    params: dict[str, Any]
    method_digest: str
    track: str
    status: str
    target: str
    k_star: int | None
    low: int | None
    high: int | None
    full_dimension: int
    efficiency: float | None = Field(description="D / k*")
    relative: Relative | None
    hits: int
    trials: int
    monotone: bool
    note: str
    side_information_bits: float | None
    preparation_gradient_evaluations: int | None
    preparation_examples: int | None
    run_id: str
    ladder: tuple[Estimate, ...]
    futility: FutilityReport | None
    """None where no run was called futile."""


class Overall(Spec):
    """One method over all tasks that it shares with the random subspace."""

    method: str
    params: dict[str, Any]
    relative: Relative
    """Over the tasks on which both thresholds were found."""
    tasks_without_threshold: int
    """Tasks that it was run on, with a threshold of the random subspace, where its own was not found: not in the mean."""


class Board(Spec):
    """What `rank` shows: rows by task, and methods over all tasks."""

    rows: tuple[Row, ...]
    overall: tuple[Overall, ...]


def build_board(sweeps: Sequence[StoredSweep]) -> Board:
    """Rank stored sweeps. Ties share a rank; a control (k = D) and a sweep without a threshold have none."""
    ratios = {sweep.run_id: _ratios(sweep, sweeps) for sweep in sweeps}
    drafts = [_row(sweep, ratios[sweep.run_id]) for sweep in sweeps]
    rows: list[Row] = []
    for digest in sorted(
        {row.task_digest for row in drafts}, key=lambda d: [r.task for r in drafts if r.task_digest == d]
    ):
        rows += _ranked([row for row in drafts if row.task_digest == digest])
    return Board(rows=tuple(rows), overall=_overall(sweeps, ratios))


def _row(sweep: StoredSweep, ratios: np.ndarray | None) -> Row:
    ladder = tuple(_estimate(sweep, target.name) for target in sweep.task.targets)
    ranked = ladder[-1]
    cost = price(sweep.results, ranked)
    return Row(
        rank=None,
        task=sweep.task.name,
        task_digest=sweep.task.digest,
        method=sweep.method.name,
        params=sweep.method.parameters,
        method_digest=sweep.method_digest,
        track=_track(sweep),
        status=ranked.status,
        target=ranked.target,
        k_star=ranked.k_star,
        low=ranked.low,
        high=ranked.high,
        full_dimension=sweep.full_dimension,
        efficiency=sweep.full_dimension / ranked.k_star if ranked.k_star else None,
        relative=_summary([ratios]) if ratios is not None else None,
        hits=ranked.hits,
        trials=ranked.trials,
        monotone=ranked.monotone,
        note=sweep.failure or ranked.note,
        side_information_bits=cost.side_information_bits if cost else None,
        preparation_gradient_evaluations=cost.gradient_evaluations if cost else None,
        preparation_examples=cost.examples if cost else None,
        run_id=sweep.run_id,
        ladder=ladder,
        futility=futility.report(sweep.results),
    )


def _estimate(sweep: StoredSweep, target: str) -> Estimate:
    return estimate(sweep.task.threshold, target, sweep.k_low, sweep.k_high, sweep.results)


def _ranked(rows: Sequence[Row]) -> list[Row]:
    def strength(row: Row) -> tuple[int, float]:
        """Found thresholds first, by k*; then what is known to lie at or below the range; the rest is not ranked."""
        if row.k_star == row.full_dimension or row.status not in {"found", "below_range"}:
            return 1, {"unfinished": 0.0, "above_range": 1.0}.get(row.status, 2.0)
        return 0, float(row.k_star if row.k_star is not None else row.high or 1)

    ordered = sorted(rows, key=lambda row: (*strength(row), row.method, row.run_id))
    ranked: list[Row] = []
    for place, row in enumerate(ordered, start=1):
        if strength(row)[0]:
            ranked.append(row)
            continue
        tied = ranked and ranked[-1].rank is not None and strength(ranked[-1]) == strength(row)
        ranked.append(row.model_copy(update={"rank": ranked[-1].rank if tied else place}))
    return ranked


def _ratios(sweep: StoredSweep, sweeps: Sequence[StoredSweep]) -> np.ndarray | None:
    """Bootstrap draws of ln(k*(random subspace) / k*) on one task; None where either threshold is not found."""
    target = sweep.task.ranked_target.name
    reference = _reference(sweep, sweeps)
    if reference is None or _estimate(sweep, target).status != "found":
        return None
    return paired_log_ratios(
        sweep.task.threshold,
        target,
        (reference.k_low, reference.k_high),
        reference.results,
        (sweep.k_low, sweep.k_high),
        sweep.results,
        draws=_DRAWS,
        seed=derive("bootstrap", sweep.task.name, sweep.method_digest),
    )


def _summary(draws: Sequence[np.ndarray]) -> Relative:
    """The geometric mean over tasks; its interval from the same draws."""
    mean = np.mean(np.stack(draws), axis=0)
    low, middle, high = np.exp(np.quantile(mean, [0.025, 0.5, 0.975]))
    return Relative(value=float(middle), low=float(low), high=float(high), tasks=len(draws))


def _track(sweep: StoredSweep) -> Track:
    """The laxest track that any of its trials used; a trial whose preparation diverged had seen data too."""
    tracks: list[Track] = [result.audit.track for result in sweep.results if result.audit]
    if any(result.preparation != Spending() for result in sweep.results):
        tracks.append("prepared")
    return TRACKS[max((TRACKS.index(track) for track in tracks), default=TRACKS.index(sweep.task.track))]


def _overall(sweeps: Sequence[StoredSweep], ratios: dict[str, np.ndarray | None]) -> tuple[Overall, ...]:
    by_method: dict[str, list[StoredSweep]] = {}
    for sweep in sweeps:
        by_method.setdefault(sweep.method_digest, []).append(sweep)
    summaries: list[Overall] = []
    for group in by_method.values():
        draws = [found for sweep in group if not _is_control(sweep) and (found := ratios[sweep.run_id]) is not None]
        if draws:
            compared = [sweep for sweep in group if _reference(sweep, sweeps) is not None]
            summaries.append(
                Overall(
                    method=group[0].method.name,
                    params=group[0].method.parameters,
                    relative=_summary(draws),
                    tasks_without_threshold=len(compared) - len(draws),
                )
            )
    return tuple(sorted(summaries, key=lambda one: (one.tasks_without_threshold, -one.relative.value, one.method)))


def _is_control(sweep: StoredSweep) -> bool:
    """Whether it trains everything, and so is no low-dimensional method."""
    return sweep.k_low == sweep.full_dimension


def _reference(sweep: StoredSweep, sweeps: Sequence[StoredSweep]) -> StoredSweep | None:
    """The random subspace of the same task, where its threshold was found; None for itself."""
    target = sweep.task.ranked_target.name
    for other in sweeps:
        same = other.task.digest == sweep.task.digest and other.run_id != sweep.run_id
        if same and other.method_digest == MethodChoice(name=REFERENCE).method_digest:
            return other if _estimate(other, target).status == "found" else None
    return None
