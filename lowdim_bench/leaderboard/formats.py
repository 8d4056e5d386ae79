"""The board as Markdown, CSV or LaTeX: one table a task, the same words in each. Names are escaped, whoever chose them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence

from lowdim_bench.leaderboard.rows import Board, Row, label, plain
from lowdim_bench.records import Spread

COLUMNS = (
    "rank", "method", "k*", "95 % interval", "D/k*", "hits/n", "side bits", "prep. gradients", "prep. FLOPs", "track",
    "verified",
)  # fmt: skip
BESIDE = ("labels seen", "sequential steps", "multiply-accumulates", "solved rows", "solved seconds")
"""What `rank` prints below its tables: columns of the CSV, which nobody reads on paper, after all others."""
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "*": r"$^*$",
}  # fmt: skip


def formatted(board: Board, kind: str) -> str:
    """The board as 'markdown', 'csv' or 'latex'. Raises KeyError for another kind."""
    return FORMATS[kind](board)


def threshold_text(row: Row) -> str:
    """k* as tables print it: a number, or where it lies beyond what was allowed."""
    if row.status == "above_range":
        return f"> {row.low:,}"
    if row.status == "below_range":
        return f"<= {row.high:,}"
    if row.k_star is None:
        return "-"
    return f"{row.k_star:,}" + ("" if row.status == "found" else " (unfinished)")


def interval_text(row: Row) -> str:
    """The 95 % interval, with open ends shown as such."""
    if row.status in {"above_range", "below_range"} or (row.low is None and row.high is None):
        return "-"
    return " .. ".join("?" if end is None else f"{end:,}" for end in (row.low, row.high))


def rank_text(row: Row) -> str:
    """The rank, with its interval where that is more than one."""
    if row.rank is None:
        return "-"
    return f"{row.rank}" + (f" ({row.rank_low}..{row.rank_high})" if row.rank_low != row.rank_high else "")


def predicted_text(row: Row) -> str:
    """What the curvature of the loss predicts of the ranked target, and how far that holds; empty where nobody asked."""
    if row.predictions is None:
        return ""
    found = next((one for one in row.predictions.thresholds if one.target == row.target), None)
    kinds = () if found is None else (
        ("deterministic equivalent", found.equivalent), ("exact simulation", found.simulated), ("width formula", found.formula)
    )  # fmt: skip
    said = "; ".join(f"{name} {_spread(values)}" for name, values in kinds if values is not None)
    return plain(f"predicted k*: {said or 'none'}. {' '.join(row.predictions.conditions)}")


def _spread(one: Spread) -> str:
    """Median, and the range where there is one."""
    same = one.n == 1 or round(one.low) == round(one.high)
    return f"{one.median:,.0f}" + (f" (n = {one.n})" if same else f" ({one.low:,.0f}..{one.high:,.0f}, n = {one.n})")


def _cells(row: Row) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        rank_text(row),
        label(row.method, row.params, row.submission),
        threshold_text(row),
        interval_text(row),
        number(row.efficiency, ",.1f"),
        f"{row.hits}/{row.trials}",
        number(row.side_information_bits, ",.0f"),
        number(row.preparation_gradient_evaluations, ","),
        number(row.preparation_operations, ".2g"),
        row.track,
        row.verified,
    )


def _beside(row: Row) -> tuple[str, ...]:
    """What stands under `BESIDE`, plain; "-" where it does not exist."""
    found = (
        row.preparation_labels, row.sequential_steps, row.multiply_accumulates, row.solved_rows, row.solved_seconds
    )  # fmt: skip
    return tuple(
        "-" if value is None else format(value, ".2g") if isinstance(value, float) else f"{value:,}" for value in found
    )


def _by_task(board: Board) -> list[tuple[str, Sequence[Row]]]:
    found: dict[str, list[Row]] = {}
    for row in board.rows:
        found.setdefault(row.task_digest, []).append(row)
    return [
        (f"{rows[0].task}: {rows[0].target} (D = {rows[0].full_dimension:,}; task {digest})", rows)
        for digest, rows in found.items()
    ]


def _markdown(board: Board) -> str:
    def line(cells: Sequence[str]) -> str:
        escaped = [re.sub(r"([\\|`*_<>\[\]])", r"\\\1", re.sub(r"\s+", " ", cell)) for cell in cells]
        return f"| {' | '.join(escaped)} |"

    parts: list[str] = []
    for title, rows in _by_task(board):
        table = [line(COLUMNS), "|" + " --- |" * len(COLUMNS), *(line(_cells(row)) for row in rows)]
        parts.append(f"**{title}**\n\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


def _csv(board: Board) -> str:
    """Plain values, one line a row of the board; text that a spreadsheet would run as a formula is kept from it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["task", "task_digest", "target", "D", *COLUMNS, "run", *BESIDE])
    for row in board.rows:
        cells = [
            row.task,
            row.task_digest,
            row.target,
            str(row.full_dimension),
            *_cells(row),
            row.run_id,
            *_beside(row),
        ]
        writer.writerow([f"'{cell}" if cell[:1] in {"=", "+", "@", "\t", "\r"} else cell for cell in cells])
    return text.getvalue()


def _latex(board: Board) -> str:
    def line(cells: Sequence[str]) -> str:
        escaped = ["".join(_LATEX.get(letter, letter) for letter in re.sub(r"\s+", " ", cell)) for cell in cells]
        return " & ".join(escaped) + r" \\"

    parts: list[str] = []
    for title, rows in _by_task(board):
        comment = "% " + re.sub(r"[\r\n]+", " ", title)
        parts += [comment, r"\begin{tabular}{rlrrrrrrrll}", r"\hline", line(COLUMNS), r"\hline"]
        parts += [*(line(_cells(row)) for row in rows), r"\hline", r"\end{tabular}", ""]
    return "\n".join(parts)


FORMATS: Mapping[str, Callable[[Board], str]] = {"csv": _csv, "latex": _latex, "markdown": _markdown}
