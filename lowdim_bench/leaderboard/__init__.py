"""The leaderboard: one row for each sweep, ranked by parameter efficiency D / k*; and methods over all tasks."""

from lowdim_bench.leaderboard.ranking import REFERENCE, build_board
from lowdim_bench.leaderboard.rows import Board, Overall, Relative, Row, Standing, Win, label

__all__ = ["REFERENCE", "Board", "Overall", "Relative", "Row", "Standing", "Win", "build_board", "label"]
