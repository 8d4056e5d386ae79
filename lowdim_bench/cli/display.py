"""What people and machines see: tables, JSON, and progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from lowdim_bench.bench import SweepState
    from lowdim_bench.calibration.coverage import CoverageRow
    from lowdim_bench.calibration.equivalence import Equivalence
    from lowdim_bench.calibration.wells import WellRow
    from lowdim_bench.futility import FutilityReport
    from lowdim_bench.leaderboard import Board, Overall, Relative, Row
    from lowdim_bench.records import Estimate

_PLAIN_WIDTH = 160
"""Columns of a table that does not go to a terminal."""


def print_json(data: object, out: TextIO) -> None:
    """One JSON document and a line end."""
    out.write(json.dumps(data, indent=2, allow_nan=False) + "\n")
    out.flush()


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], out: TextIO) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", justify="left")
    for row in rows:
        table.add_row(*row)
    console = Console(file=out, width=None if out.isatty() else _PLAIN_WIDTH, highlight=False, markup=False)
    console.print(title, style="bold", soft_wrap=True)
    console.print(table)


def show_states(
    states: Sequence[SweepState], out: TextIO, *, as_json: bool, checks: Sequence[Equivalence] = ()
) -> None:
    """Where sweeps ended, and what checks of their operators found."""
    if as_json:
        rows = [asdict(state) | {"estimate": state.estimate.model_dump(mode="json")} for state in states]
        print_json({"sweeps": rows} | ({"operators": _plain_checks(checks)} if checks else {}), out)
        return
    lines = [
        (
            s.task,
            s.method,
            threshold(s.estimate),
            interval(s.estimate),
            f"{s.estimate.hits}/{s.estimate.trials}",
            _note(s),
        )
        for s in states
    ]
    print_table("Thresholds", ("task", "method", "k*", "95 % interval", "hits/n", "note"), lines, out)
    if checks:
        show_equivalence(checks, out, as_json=False)
    out.write("Next: lowdim-bench rank\n")
    out.flush()


def _note(state: SweepState) -> str:
    return state.failure or state.estimate.note


def threshold(estimate: Estimate | Row) -> str:
    """k* as people read it: a number, or where it lies beyond what was allowed."""
    if estimate.status == "above_range":
        return f"> {estimate.low}"
    if estimate.status == "below_range":
        return f"<= {estimate.high}"
    return (
        "-"
        if estimate.k_star is None
        else f"{estimate.k_star}" + ("" if estimate.status == "found" else " (unfinished)")
    )


def interval(estimate: Estimate | Row) -> str:
    """The 95 % interval, with open ends shown as such."""
    if estimate.status in {"above_range", "below_range"}:
        return "-"
    low = "?" if estimate.low is None else str(estimate.low)
    high = "?" if estimate.high is None else str(estimate.high)
    return f"{low} .. {high}"


def show_board(board: Board, out: TextIO, *, as_json: bool) -> None:
    """The leaderboard: a table for each task, then methods over all tasks."""
    if as_json:
        print_json(board.model_dump(mode="json"), out)
        return
    if not board.rows:
        out.write("Nothing is recorded yet. Begin with: lowdim-bench run digits-mlp -m random_subspace\n")
        out.flush()
        return
    from lowdim_bench.leaderboard.formats import predicted_text

    columns = (
        "#",
        "method",
        "k*",
        "95 % interval",
        "D/k*",
        "vs random",
        "hits/n",
        "side bits",
        "prep. gradients",
        "prep. FLOPs",
        "track",
        "verified",
        "run",
    )
    for digest in dict.fromkeys(row.task_digest for row in board.rows):
        rows = [row for row in board.rows if row.task_digest == digest]
        title = f"{rows[0].task}: {rows[0].target} (D = {rows[0].full_dimension:,}; task {digest})"
        print_table(title, columns, [_line(row) for row in rows], out)
        for row in rows:
            for note in (row.note, _prices(row), _futility(row.futility), predicted_text(row)):
                if note:
                    out.write(f"  {_name(row)}: {note}\n")
        out.write("\n")
    lines = [(_label(one.method, one.params), _relative(one.relative), _tasks(one)) for one in board.overall]
    if lines:
        print_table("Over all tasks: k*(random subspace) / k*, paired seeds", ("method", "ratio", "tasks"), lines, out)
    out.flush()


def _futility(report: FutilityReport | None) -> str:
    """What giving up saved and how often it was wrong; empty where no run was called futile."""
    if report is None:
        return ""
    audit = "none ran on as an audit"
    if report.wrong_low is not None and report.wrong_high is not None:
        interval = f"95 % interval {100 * report.wrong_low:.3g} to {100 * report.wrong_high:.3g} %"
        audit = f"{report.audited} ran on as an audit and {report.wrong} reached the target after all ({interval})"
    runs = "1 run was" if report.futile == 1 else f"{report.futile} runs were"
    return f"{runs} called futile, which saved {100 * report.share_saved:.0f} % of the steps; {audit}"


def _looks(row: Row) -> list[str]:
    """What preparation looked at."""
    parts: list[str] = []
    if row.preparation_labels:
        parts.append(f"preparation looked at the labels of {row.preparation_labels:,} examples")
    elif row.preparation_labels is None and row.preparation_gradient_evaluations:
        parts.append("labels seen in preparation: - (there are no examples: every gradient reads all of the data)")
    if row.preparation_evaluations:
        parts.append(f"it took {row.preparation_evaluations:,} full evaluations")
    return parts


def _prices(row: Row) -> str:
    """What is paid besides the columns of the table; empty where there is nothing."""
    parts = _looks(row)
    if row.union_k is not None:
        parts.append(
            f"training opened up to {row.union_k:,} weights, of which up to {row.active_k:,} were in use at a time"
        )
    if row.code_bits:
        parts.append(f"its code has {row.code_bits:,} bits, compressed")
    if row.code_cpu_seconds is not None:
        parts.append(f"which took up to {row.code_cpu_seconds:.2g} CPU s a trial outside of metered training")
    if row.sequential_steps is not None:
        work = f"{row.sequential_steps} sequential steps and {row.multiply_accumulates:,} multiply-accumulates"
        parts.append(f"labelling an example takes {work}")
    if row.solved_rows is not None:
        took = f"{row.solved_rows:,} rows of least-squares problems, and took {row.solved_seconds:.2g} s (medians)"
        parts.append(f"a training that reached the target solved {took}")
    if row.attempts > 1:
        parts.append(f"{row.attempts} attempts are on record ({row.attempt_bits:.1f} bits for picking one)")
    if row.seconds >= 1:
        parts.append(f"all its trials took {row.seconds:,.0f} s of workers' time")
    return "; ".join(parts)


def _line(row: Row) -> tuple[str, ...]:
    return (
        "-" if row.rank is None else str(row.rank),
        _name(row),
        threshold(row),
        interval(row),
        "-" if row.efficiency is None else f"{row.efficiency:.1f}",
        "-" if row.relative is None else _relative(row.relative),
        f"{row.hits}/{row.trials}",
        "-" if row.side_information_bits is None else f"{row.side_information_bits:,.0f}",
        "-" if row.preparation_gradient_evaluations is None else f"{row.preparation_gradient_evaluations:,}",
        "-" if row.preparation_operations is None else f"{row.preparation_operations:.2g}",
        row.track,
        row.verified,
        row.run_id[:8],
    )


def _name(row: Row) -> str:
    """A submission by its name, and by the built-in method that it stands for where its code is not its own."""
    label = _label(row.method, row.params)
    return label if row.submission in (None, row.method) else f"{row.submission} ({label})"


def _label(method: str, params: Mapping[str, Any]) -> str:
    return ",".join([method, *(f"{key}={value}" for key, value in sorted(params.items()))])


def _tasks(one: Overall) -> str:
    missing = one.tasks_without_threshold
    return f"{one.relative.tasks}" + (f" (and {missing} without a threshold)" if missing else "")


def _relative(relative: Relative) -> str:
    return f"{relative.value:.3g}x ({relative.low:.3g}..{relative.high:.3g})"


def show_wells(rows: Sequence[WellRow], out: TextIO, *, as_json: bool) -> None:
    """Measured thresholds of quadratic wells beside theory."""
    if as_json:
        print_json({"wells": [asdict(row) | {"contains": row.contains, "agrees": row.agrees} for row in rows]}, out)
        return
    columns = (
        "spectrum",
        "epsilon",
        "k*",
        "95 % interval",
        "n",
        "theory",
        "width formula",
        "optimizer gap",
        "contained",
        "agrees",
    )
    lines = [
        (
            row.spectrum, f"{row.epsilon:g}", str(row.k_star), f"{row.low} .. {row.high}", str(row.trials),
            f"{row.equivalent:.1f}", f"{row.width_formula:.1f}", f"{row.optimizer_gap:.1e}",
            "yes" if row.contains else "no", "yes" if row.agrees else "NO",
        )
        for row in rows
    ]  # fmt: skip
    print_table("Quadratic wells, D = 200: measured threshold and the deterministic equivalent", columns, lines, out)


def show_coverage(rows: Sequence[CoverageRow], out: TextIO, *, as_json: bool) -> None:
    """How often intervals cover known thresholds."""
    if as_json:
        print_json({"coverage": [asdict(row) for row in rows]}, out)
        return
    names = list(asdict(rows[0])) if rows else []
    lines = [
        [f"{value:.3g}" if isinstance(value, float) else str(value) for value in asdict(row).values()] for row in rows
    ]
    print_table("Simulated sweeps with known thresholds", names, lines, out)


def _plain_checks(rows: Sequence[Equivalence]) -> list[dict[str, Any]]:
    return [asdict(row) | {"equivalent": row.verdict} for row in rows]


def show_equivalence(rows: Sequence[Equivalence], out: TextIO, *, as_json: bool) -> None:
    """Factors on k by which operators differ from a dense Gaussian basis."""
    if as_json:
        print_json({"operators": _plain_checks(rows)}, out)
        return
    columns = ("task", "operator", "multiplier of k", "95 % interval", "seeds", "k", "equivalent")
    lines = [
        (
            row.task, row.operator, f"{row.multiplier:.3f}", f"{row.low:.3f} .. {row.high:.3f}", str(row.seeds),
            ", ".join(map(str, row.ks)), row.verdict,
        )
        for row in rows
    ]  # fmt: skip
    print_table("Operators against a dense Gaussian basis: same initial weights and batches", columns, lines, out)


@contextmanager
def busy(what: str, *, live: bool) -> Iterator[None]:
    """A spinner on standard error, where that is a terminal."""
    console = Console(stderr=True)
    if not (live and console.is_terminal):
        yield
        return
    with console.status(what):
        yield


@contextmanager
def counting(what: str, *, live: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; lends a function of (done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (live and console.is_terminal)) as bar:
        job = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(job, completed=done, total=total)


@contextmanager
def progress(*, live: bool) -> Iterator[Callable[[Sequence[SweepState]], None]]:
    """Progress of sweeps on standard error: a live table on a terminal, else a line for each change."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not (live and console.is_terminal):
        yield _Lines()
        return
    console.print("Starting workers ...")
    with Live(console=console, refresh_per_second=4, transient=True) as shown:
        yield lambda states: shown.update(_progress_table(states))


class _Lines:
    """Progress for logs: a line whenever a sweep has advanced."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], int] = {}
        self._begun = time.monotonic()

    def __call__(self, states: Sequence[SweepState]) -> None:
        for state in states:
            key = (state.task, state.method)
            if self._seen.get(key) == state.trainings or not state.trainings:
                continue
            self._seen[key] = state.trainings
            elapsed = time.monotonic() - self._begun
            sys.stderr.write(
                f"[{elapsed:5.0f} s] {state.task} {state.method}: {state.trainings} trainings, "
                f"k* in {interval(state.estimate)}{', done' if state.finished else _left(state)}\n"
            )
            sys.stderr.flush()


def _left(state: SweepState) -> str:
    return "" if state.seconds_left is None else f", about {_duration(state.seconds_left)} left"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _progress_table(states: Sequence[SweepState]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("task", "method", "k*", "95 % interval", "trainings", "under way", "time left"):
        table.add_column(column)
    for state in states:
        left = "failed" if state.failure else "done" if state.finished else _left(state).removeprefix(", ") or "..."
        table.add_row(
            state.task, state.method, threshold(state.estimate), interval(state.estimate),
            str(state.trainings), str(state.under_way), left,
        )  # fmt: skip
    return table
