"""Rows against rows of the same task: every pair of the best on shared seeds, and where an unfinished sweep would stand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from lowdim_bench import statistics
from lowdim_bench.leaderboard.measured import Measured, TaskBoard
from lowdim_bench.leaderboard.rows import Pair, Row
from lowdim_bench.threshold.counts import observed

PAIRED_AT_MOST = 60
"""Rows of a task that are compared with each other, best first: 1,770 pairs."""


def pairs_of(digest: str, task: TaskBoard, rows: Sequence[Row]) -> list[Pair]:
    """Every pair of the best solved sweeps of a task, in the order of its rows."""
    by_run = {one.sweep.run_id: one for one in task.measured}
    ranked = [row.run_id for row in rows if row.task_digest == digest and row.run_id in task.draws][:PAIRED_AT_MOST]
    seeds = {run: _replicates(by_run[run]) for run in ranked}
    pairs: list[Pair] = []
    for run, other in combinations(ranked, 2):
        middle, low, high, probability = statistics.ratio(task.draws[run], task.draws[other])
        pairs.append(
            Pair(
                task_digest=digest, run=run, other=other, ratio=middle, low=low, high=high, probability=probability,
                seeds=len(seeds[run] & seeds[other]),
            )
        )  # fmt: skip
    return pairs


def with_prospects(rows: Sequence[Row]) -> list[Row]:
    """Rows of one task; the unfinished ones with the rank that they would have if they were stopped now."""
    ranked = [float(row.k_star or row.high or 1) for row in rows if row.rank is not None]

    def completed(row: Row) -> Row:
        if row.status != "unfinished" or row.k_star is None or row.k_star == row.full_dimension:
            return row
        rank, low, high = statistics.rank_if_stopped(ranked, row.k_star, row.low, row.high)
        return row.model_copy(
            update={"rank_if_stopped": rank, "rank_if_stopped_low": low, "rank_if_stopped_high": high}
        )

    return [completed(row) for row in rows]


def _replicates(one: Measured) -> frozenset[int]:
    return frozenset(result.trial.replicate for result in observed(one.sweep.results))
