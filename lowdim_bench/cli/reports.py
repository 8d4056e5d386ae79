"""What people and machines see of checks and forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from lowdim_bench.cli.display import print_json

if TYPE_CHECKING:
    from lowdim_bench.contract import Finding
    from lowdim_bench.forecast import Extrapolation, Forecast, Range

_NAME_WIDTH = 14


def show_finding(finding: Finding, out: TextIO, heading: str = "") -> None:
    """One line as soon as a check is done; below it what to do, where it failed. `heading`: whose checks begin."""
    if heading:
        out.write(f"{heading}\n")
    found = finding.found.replace("\n", "\n" + " " * (_NAME_WIDTH + 6))
    out.write(f"{'pass' if finding.passed else 'FAIL'}  {finding.check:<{_NAME_WIDTH}}{found}\n")
    if not finding.passed:
        out.write(f"{'':>{_NAME_WIDTH + 6}}To do: {finding.advice}\n")
    out.flush()


def close_findings(folder: Path | None, count: int, out: TextIO) -> None:
    """The end where all passed."""
    if not count:
        out.write("No installed package adds a method or a task.\n")
    else:
        out.write(f"All {count} checks passed.\n")
    if folder is not None:
        out.write(f"Next: lowdim-bench estimate {folder}\n")
    out.flush()


def print_findings(found: Sequence[tuple[str, Finding]], out: TextIO) -> None:
    """All checks as JSON."""
    checks = [{"subject": subject} | asdict(finding) for subject, finding in found]
    print_json({"passed": all(finding.passed for _, finding in found), "checks": checks}, out)


def show_forecasts(rows: Sequence[Forecast], out: TextIO, *, as_json: bool) -> None:
    """What sweeps would take, with what was measured and what was assumed."""
    if as_json:
        print_json({"forecasts": [asdict(row) for row in rows]}, out)
        return
    for row in rows:
        a_trial, in_all = (
            _span(values, "{:,.0f}") for values in (row.preparation_gradients, row.preparation_gradients_in_all)
        )
        unit = "GPU" if row.device == "cuda" else "CPU"
        lines = [
            ("trainings", _span(row.trainings, "{:,.0f}")),
            (f"{unit} time", _time(row.hours)),
            ("wall time", f"{_span(row.wall_minutes, '{:,.2g}')} min with {row.workers} worker(s)"),
            ("memory", f"{row.memory_per_worker / 2**30:.2g} GB each worker"),
            ("preparation", f"{a_trial} gradients a trial, {in_all} in all"),
        ]
        out.write(f"{row.method} on {row.task}, k from {row.k_low} to {row.k_high} (low .. middle .. high)\n")
        out.writelines(f"  {name:<{_NAME_WIDTH}}{text}\n" for name, text in lines)
        out.writelines(f"  {'measured':<{_NAME_WIDTH}}{text}\n" for text in row.measured)
        out.writelines(f"  {'assumed':<{_NAME_WIDTH}}{text}\n" for text in row.assumed)
    out.flush()


def show_extrapolations(rows: Sequence[Extrapolation], out: TextIO, *, as_json: bool) -> None:
    """What sweeps would take on machines that are not here, with everything that was assumed."""
    if as_json:
        print_json({"extrapolations": [asdict(row) for row in rows]}, out)
        return
    for row in rows:
        work, pack = row.workload, "as many as come" if row.pack is None else f"at most {row.pack}"
        wall, used = _time(row.wall_hours), _time(row.worker_hours)
        lines = [
            (
                "one step",
                f"{row.step_seconds:.3g} s: {work.step_operations:.3g} operations, {work.step_bytes:.3g} bytes",
            ),
            ("one trial", f"{_hours(row.trial_hours)} on one worker, at full length"),
            ("memory", f"{work.trial_bytes / 1e9:.2g} GB each trial; {pack} in one pack"),
            ("trainings", _span(row.trainings, "{:,.0f}")),
            ("workers' time", used),
            ("wall time", wall),
            ("idle", f"{_span(row.idle_share, '{:.0%}')} of the workers' time, in tails of rounds"),
        ]
        out.write(
            f"{work.name} (D = {work.dimension:,}) on {row.workers} x {row.machine.name}, {row.sweeps} sweep(s) side by side, "
            f"rounds of {row.trials_per_round} (low .. middle .. high)\n"
        )
        out.writelines(f"  {name:<{_NAME_WIDTH}}{text}\n" for name, text in lines)
        out.writelines(f"  {'assumed':<{_NAME_WIDTH}}{text}\n" for text in row.assumed)
    out.flush()


def _span(values: Range, form: str) -> str:
    texts = [form.format(value) for value in (values.low, values.middle, values.high)]
    return texts[0] if len(set(texts)) == 1 else " .. ".join(texts)


def _time(hours: Range) -> str:
    """From low to high, in the unit in which the middle is no small fraction."""
    unit, many = _unit(hours.middle)
    return f"{' .. '.join(_short(value * many) for value in (hours.low, hours.middle, hours.high))} {unit}"


def _hours(hours: float) -> str:
    unit, many = _unit(hours)
    return f"{_short(hours * many)} {unit}"


def _short(value: float) -> str:
    """Two digits, and none of its whole number as a power of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2g}"


def _unit(hours: float) -> tuple[str, float]:
    """A unit of time, and how many of it an hour has."""
    if hours >= 1:
        return "hours", 1.0
    return ("minutes", 60.0) if hours * 60 >= 1 else ("seconds", 3600.0)
