"""The leaderboard: one row for each sweep, ranked by parameter efficiency D / k*; and methods over all tasks."""

from lowdim_bench.leaderboard.measured import REFERENCE, Measurements
from lowdim_bench.leaderboard.ranking import build_board
from lowdim_bench.leaderboard.rows import Board, Overall, Pair, Relative, Row, Standing, Win, label

__all__ = [
    "REFERENCE",
    "Board",
    "Measurements",
    "Overall",
    "Pair",
    "Relative",
    "Row",
    "Standing",
    "Win",
    "build_board",
    "label",
]
