"""Coverage: simulated sweeps with a known k*, through the real planner and estimate. Do the 95 % intervals hold it?

Sweeps stop when the interval is narrow enough, and that choice could spoil its coverage, so coverage is counted at the stop.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil, exp, expm1, log
from multiprocessing import get_context

import numpy as np
from scipy.stats import binomtest

from lowdim_bench.planner import plan_round
from lowdim_bench.records import Estimate, Outcome, Trial, TrialResult
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Task
from lowdim_bench.threshold import estimate
from lowdim_bench.threshold.psychometric import GUMBEL_SCALE

K_LOW, K_HIGH = 1, 4096
TRUTH_RANGE = (8.0, 2048.0)


@dataclass(frozen=True)
class Case:
    """A truth to simulate: how success rises with ln k around k*, the level being 0.5.

    logistic: trials are independent, logit P rises by `slope` per unit of ln k, and P ends at 1 - `lapse`. cloglog: the
    complementary log-log with the same interquartile range. nested: each replicate has a threshold of its own, their logarithms
    with a logistic distribution; the bisection design looks for their median.
    """

    name: str
    shape: str
    slope: float
    lapse: float = 0.0
    trials: int = 400

    def success(self, distance: float) -> float:
        """P at ln k - ln k* = distance."""
        if self.shape == "cloglog":
            return -expm1(-exp(min(log(log(2)) + self.slope * GUMBEL_SCALE * distance, 4.0)))
        odds = log(0.5 / (0.5 - self.lapse)) + self.slope * distance
        return (1 - self.lapse) / (1 + exp(-max(odds, -700.0)))


CASES = (
    Case("logistic, slope 4", "logistic", 4.0, trials=600),
    Case("logistic, slope 12", "logistic", 12.0),
    Case("logistic, slope 30", "logistic", 30.0),
    Case("slope 12, 3 % lapses", "logistic", 12.0, lapse=0.03),
    Case("cloglog, slope 12", "cloglog", 12.0),
    Case("nested bisection, slope 12", "nested", 12.0),
)


@dataclass(frozen=True)
class CoverageRow:
    """What the sweeps of one case gave, at their stop."""

    case: str
    sweeps: int
    coverage: float
    """Share of sweeps whose interval holds the true k*; an end that is not known holds everything on its side."""
    coverage_low: float
    coverage_high: float
    """Wilson's 95 % interval of the coverage."""
    found: float
    """Share of sweeps that stopped because the interval was narrow enough, not because trials were spent."""
    flagged: float
    """Share of sweeps called non-monotone, which none of these truths is."""
    median_trainings: float
    median_width: float | None
    """Median of high / low at the stop, over sweeps with both ends."""


def calibration_task(case: Case, trials_per_round: int = 8) -> Task:
    """A task with the search of a case; its problem is never trained."""
    recipe = {"optimizer": {"kind": "adam"}, "learning_rate": {"value": 0.1}, "batch_size": None, "steps": 1}
    data = {
        "name": "coverage",
        "problem": {"kind": "quadratic_well", "dimension": K_HIGH, "spectrum": {"kind": "power", "exponent": 1.0}},
        "training": recipe | {"evaluate_every": 1},
        "full_training": recipe,
        "targets": [{"metric": "train_loss", "at_most": 0.1}],
        "preparation": {"gradient_evaluations": 0},
        "threshold": {
            "k_max": K_HIGH,
            "trials": case.trials,
            "trials_per_round": trials_per_round,
            "design": "bisection" if case.shape == "nested" else "bayesian",
        },
    }
    return Task.from_data(data, "The task of the coverage simulation")


def simulate_sweep(task: Task, case: Case, log_k_star: float, rng: np.random.Generator) -> Estimate:
    """One sweep from its first round to its stop, for a true location in ln k."""
    results = simulate_trials(task, case, log_k_star, rng, (K_LOW, K_HIGH))
    return estimate(task.threshold, task.ranked_target.name, K_LOW, K_HIGH, results)


def simulate_trials(
    task: Task, case: Case, log_k_star: float, rng: np.random.Generator, k_range: tuple[int, int]
) -> list[TrialResult]:
    """The trials of one such sweep over a range of k, with what they reached and nothing else."""
    target = task.ranked_target.name
    offsets: dict[int, float] = {}
    results: list[TrialResult] = []

    def reaches(trial: Trial) -> bool:
        distance = log(trial.k) - log_k_star
        if case.shape != "nested":
            return rng.random() < case.success(distance)
        return distance >= offsets.setdefault(trial.replicate, rng.logistic() / case.slope)

    while trials := plan_round(task, *k_range, results):
        for trial in trials:
            outcome = Outcome(target=target, reached=reaches(trial))
            results.append(TrialResult(trial=trial, status="trained", outcomes=(outcome,)))
    return results


def _simulate(case: Case, seed: int, index: int) -> tuple[Estimate, bool]:
    """Sweep number `index` of a case, and whether its interval holds the truth."""
    rng = np.random.default_rng(derive("coverage", case.name, seed, index))
    log_k_star = rng.uniform(*np.log(TRUTH_RANGE))
    stop = simulate_sweep(calibration_task(case), case, log_k_star, rng)
    return stop, holds(stop, ceil(exp(log_k_star)))


def holds(stop: Estimate, k_star: int) -> bool:
    """Whether an interval holds the true k*; beyond the range its one end is exclusive above, inclusive below."""
    if stop.status == "above_range":
        return stop.low is not None and k_star > stop.low
    return (stop.low is None or stop.low <= k_star) and (stop.high is None or k_star <= stop.high)


def coverage_table(
    sweeps: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    cases: Sequence[Case] = CASES,
    processes: int = 1,
) -> list[CoverageRow]:
    """One row for each case, from `sweeps` simulated sweeps each; `progress` is called with (done, total) sweeps."""
    rows: list[CoverageRow] = []
    done, total = 0, sweeps * len(cases)
    with _mapper(processes) as run:
        for case in cases:
            stops: list[tuple[Estimate, bool]] = []
            for stop in run(partial(_simulate, case, seed), range(sweeps)):
                stops.append(stop)
                done += 1
                if progress is not None:
                    progress(done, total)
            rows.append(_row(case, stops))
    return rows


Simulation = Callable[[int], tuple[Estimate, bool]]


@contextmanager
def _mapper(processes: int) -> Iterator[Callable[[Simulation, Iterable[int]], Iterable[tuple[Estimate, bool]]]]:
    """`map`, here or in processes of their own; the results do not depend on which."""
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(max_workers=processes, mp_context=get_context("spawn")) as pool:
        yield lambda simulation, indices: pool.map(simulation, indices, chunksize=5)


def _row(case: Case, stops: Sequence[tuple[Estimate, bool]]) -> CoverageRow:
    held = sum(hit for _, hit in stops)
    interval = binomtest(held, len(stops)).proportion_ci(method="wilson")
    widths = [stop.high / stop.low for stop, _ in stops if stop.low is not None and stop.high is not None]
    return CoverageRow(
        case=case.name,
        sweeps=len(stops),
        coverage=held / len(stops),
        coverage_low=float(interval.low),
        coverage_high=float(interval.high),
        found=float(np.mean([stop.status == "found" for stop, _ in stops])),
        flagged=float(np.mean([not stop.monotone for stop, _ in stops])),
        median_trainings=float(np.median([stop.trials for stop, _ in stops])),
        median_width=float(np.median(widths)) if widths else None,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m lowdim_bench.calibration.coverage --sweeps 200 [--json]`."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals of k* in simulated sweeps.")
    parser.add_argument("--sweeps", type=int, default=200, help="simulated sweeps for each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    rows = [asdict(row) for row in coverage_table(asked.sweeps, asked.seed, processes=asked.processes)]
    if asked.json:
        sys.stdout.write(json.dumps({"coverage": rows}, indent=2) + "\n")
        return
    for row in rows:
        cells = (f"{name} {value:.3g}" if isinstance(value, float) else f"{value}" for name, value in row.items())
        sys.stdout.write("  ".join(cells) + "\n")


if __name__ == "__main__":
    main()
