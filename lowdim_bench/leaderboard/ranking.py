"""From measured sweeps to the board: rows with their prices and ranks, and methods over all tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from lowdim_bench import futility, statistics
from lowdim_bench.leaderboard.measured import Measured, Measurements, TaskBoard
from lowdim_bench.leaderboard.pairs import pairs_of, with_prospects
from lowdim_bench.leaderboard.rows import Board, Overall, Progress, Relative, Row, Standing, Win, plain
from lowdim_bench.records import Price, Spending, operations, price
from lowdim_bench.specs import TRACKS, Track
from lowdim_bench.specs.pixels import PixelLabelling
from lowdim_bench.specs.problem import QuadraticNetwork, QuadraticWell
from lowdim_bench.statistics import FloatArray
from lowdim_bench.tracking import StoredSweep

WITHOUT_EXAMPLES = (QuadraticNetwork, QuadraticWell)
"""Problems whose every gradient reads all of their data: nobody counts labels there, and a 0 would say that none was seen."""


def build_board(sweeps: Sequence[StoredSweep], measurements: Measurements | None = None) -> Board:
    """Rank stored sweeps. Ties share a rank; a control (k = D) and a sweep without a threshold have none.

    `measurements`: of earlier boards, where a server ranks the same sweeps again and again.
    """
    tasks = (measurements or Measurements()).tasks(sweeps)
    rows: list[Row] = []
    for task in tasks.values():
        ranks = statistics.rank_intervals(task.draws)
        drafts = [_row(one, task.ratios(one), _attempts(one, task)) for one in task.measured]
        rows += [
            row.model_copy(update={"rank_low": ranks[row.run_id].low, "rank_high": ranks[row.run_id].high})
            if row.rank is not None and row.run_id in ranks
            else row
            for row in with_prospects(_ranked(drafts))
        ]
    pairs = [pair for digest, task in tasks.items() for pair in pairs_of(digest, task, rows)]
    return Board(rows=tuple(rows), pairs=tuple(pairs), overall=_overall(list(tasks.values())), **_comparisons(tasks))


def _attempts(one: Measured, task: TaskBoard) -> int:
    """Sweeps on record of the same method or submission, or of submitted code by one of the same authors."""
    return sum(
        other.sweep.method.name == one.sweep.method.name or bool(_own_authors(other) & _own_authors(one))
        for other in task.measured
    )


def _own_authors(one: Measured) -> set[str]:
    credit = one.sweep.credit
    return set(credit.authors) if credit and one.sweep.method.code else set()


def _comparisons(tasks: Mapping[str, TaskBoard]) -> dict[str, Any]:
    """Profiles and wins, by label; where one label stands for several methods, their digests tell them apart."""
    meant: dict[str, set[str]] = {}
    for task in tasks.values():
        for one in task.measured:
            meant.setdefault(one.label, set()).add(one.sweep.method_digest)

    def name(one: Measured) -> str:
        return one.label if len(meant[one.label]) == 1 else f"{one.label} ({one.sweep.method_digest[:6]})"

    results = {digest: task.results(name) for digest, task in tasks.items()}
    thresholds = {digest: {name(one): one.threshold for one in task.measured} for digest, task in tasks.items()}
    standings = {
        name: Standing(
            tau=one.tau, share=one.share, area=one.area, solved=one.solved,
            unsolved={str(reason): count for reason, count in one.unsolved.items()},
        )
        for name, one in statistics.profiles(results, thresholds).items()
    }  # fmt: skip
    wins = {
        a: {b: Win(probability=one.probability, tasks=one.tasks) for b, one in row.items()}
        for a, row in statistics.win_matrix(results).items()
    }

    def place(pair: tuple[str, Standing]) -> tuple[float, float, str]:
        """By area; where that is the same, as of all that lie far from the best, by the mean probability of a win."""
        against = [win.probability for win in wins[pair[0]].values() if win.probability is not None]
        return -pair[1].area, -sum(against) / max(1, len(against)), pair[0]

    best_first = sorted(standings.items(), key=place)
    return {"profiles": dict(best_first), "wins": {name: wins[name] for name, _ in best_first}}


def _row(one: Measured, ratios: FloatArray | None, attempts: int) -> Row:
    sweep, ladder, ranked = one.sweep, one.ladder, one.ranked
    cost = price(sweep.results, ranked)
    problem = sweep.task.problem
    pixels = problem if isinstance(problem, PixelLabelling) else None
    return Row(
        rank=None,
        task=sweep.task.name,
        task_digest=sweep.task.digest,
        method=sweep.method.name,
        params=sweep.method.parameters,
        method_digest=sweep.method_digest,
        submission=sweep.credit.submission if sweep.credit else None,
        authors=tuple(map(plain, sweep.credit.authors)) if sweep.credit else (),
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
        note=plain(sweep.failure or ranked.note or _unexpected(sweep)),
        side_information_bits=cost.side_information_bits if cost else None,
        preparation_gradient_evaluations=cost.gradient_evaluations if cost else None,
        preparation_examples=cost.examples if cost else None,
        preparation_evaluations=cost.evaluations if cost else None,
        preparation_labels=cost.labels if cost and not isinstance(problem, WITHOUT_EXAMPLES) else None,
        union_k=cost.union_k if cost else None,
        active_k=cost.active_k if cost else None,
        preparation_operations=_operations(sweep, cost) if cost else None,
        attempts=attempts,
        attempt_bits=math.log2(attempts),
        code_bits=sweep.method.code.bits if sweep.method.code else 0,
        code_cpu_seconds=max((r.submitted_code.cpu_seconds for r in sweep.results if r.submitted_code), default=None),
        sequential_steps=pixels.sequential_steps if pixels else None,
        multiply_accumulates=pixels.multiply_accumulates if pixels else None,
        **_solved(sweep, ranked.target),
        seconds=sum(result.seconds for result in sweep.results),
        verified=sweep.verified,
        run_id=sweep.run_id,
        progress=_progress(sweep),
        trainings=len(sweep.results),
        failed_trials=sum(result.status == "failed" for result in sweep.results),
        ladder=ladder,
        predictions=sweep.predictions,
        futility=futility.report(sweep.results),
    )


def _solved(sweep: StoredSweep, target: str) -> dict[str, Any]:
    """What trainings by least squares took that reached the target; nothing where there are none."""
    reached = [result for result in sweep.results if result.training.rows and result.reached(target)]
    if not reached:
        return {}
    rows, seconds = zip(*((result.training.rows, result.seconds) for result in reached), strict=True)
    return {"solved_rows": int(median(rows)), "solved_seconds": median(seconds)}


def _progress(sweep: StoredSweep) -> Progress:
    """Its driver's word; every status that is a threshold's is that of a finished sweep."""
    match sweep.status:
        case "running" | "interrupted" | "failed" as status:
            return status
        case _:
            return "finished"


def _unexpected(sweep: StoredSweep) -> str:
    """What to say where more was used than the submission's authors expected."""
    track = _track(sweep)
    if sweep.credit is None or sweep.credit.expected_track not in TRACKS[: TRACKS.index(track)]:
        return ""
    return f"its authors expected track {sweep.credit.expected_track}; what it used makes it {track}"


def _operations(sweep: StoredSweep, cost: Price) -> int | None:
    if sweep.forward_operations is None:
        return None
    return max(operations(spent, sweep.forward_operations, sweep.example_count) for spent in cost.spent)


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


def _summary(draws: Sequence[np.ndarray]) -> Relative:
    """The geometric mean over tasks; its interval from the same draws."""
    mean = np.mean(np.stack(draws), axis=0)
    low, middle, high = np.exp(np.quantile(mean, [0.025, 0.5, 0.975]))
    return Relative(value=float(middle), low=float(low), high=float(high), tasks=len(draws))


def _track(sweep: StoredSweep) -> Track:
    """The laxest track that any of its trials used; a trial whose preparation diverged had seen data too.

    A network of one's own comes as a task of the open track; nothing that a trial does takes it out of there.
    """
    if sweep.task.track == "open":
        return "open"
    tracks: list[Track] = [result.audit.track for result in sweep.results if result.audit]
    if any(result.preparation != Spending() for result in sweep.results):
        tracks.append("prepared")
    return TRACKS[max((TRACKS.index(track) for track in tracks), default=TRACKS.index(sweep.task.track))]


def _overall(tasks: Sequence[TaskBoard]) -> tuple[Overall, ...]:
    by_method: dict[str, list[tuple[TaskBoard, Measured]]] = {}
    for task in tasks:
        for one in task.measured:
            if not one.is_control:
                by_method.setdefault(one.sweep.method_digest, []).append((task, one))
    shared = sum(task.reference is not None for task in tasks)
    summaries: list[Overall] = []
    complete: dict[str, FloatArray] = {}
    for digest, group in by_method.items():
        draws = [found for task, one in group if (found := task.ratios(one)) is not None]
        if draws:
            compared = [one for task, one in group if task.reference is not None and task.reference is not one]
            if len(draws) == shared:
                complete[digest] = -np.mean(np.stack(draws), axis=0)
            method = group[0][1].sweep.method
            summaries.append(
                Overall(
                    method=method.name,
                    params=method.parameters,
                    method_digest=digest,
                    label=group[0][1].label,
                    relative=_summary(draws),
                    tasks_without_threshold=len(compared) - len(draws),
                    tasks_not_run=shared - len(compared),
                )
            )
    best_first = sorted(
        summaries, key=lambda one: (one.tasks_without_threshold + one.tasks_not_run, -one.relative.value, one.method)
    )
    intervals = statistics.rank_intervals(complete)
    return tuple(
        one.model_copy(update={"rank": place, "rank_low": known.low, "rank_high": known.high})
        if (known := intervals.get(one.method_digest))
        else one
        for place, one in enumerate(best_first, start=1)
    )
