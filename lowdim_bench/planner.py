"""Which trainings to run next: a pure function of the rounds that are done, so that a sweep resumes from its results alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np

from lowdim_bench.records import Estimate, Trial, TrialResult
from lowdim_bench.specs import Task, ThresholdSpec
from lowdim_bench.threshold.bisection import next_bisections
from lowdim_bench.threshold.estimation import Assessment, assess
from lowdim_bench.threshold.first_rise import next_on_first_rise
from lowdim_bench.threshold.information import most_informative


def plan_round(
    task: Task, k_low: int, k_high: int, results: Sequence[TrialResult], first_replicate: int = 0
) -> tuple[Trial, ...]:
    """The trials of the round after the last one in `results`, by replicate; empty when the sweep is finished.

    `results` are all of the rounds so far, in any order. A sweep is finished when k* of the ranked target is found or lies
    beyond the range (see `threshold.estimate`), or when `trials` are spent. A method allows k_low <= k <= k_high.

    In the Bayesian design the i-th trial of a sweep is replicate `first_replicate` + i, so that two methods share
    initializations and batch orders. In the bisection design a replicate goes on for several rounds, with one trial in each.
    """
    spec = task.threshold
    size = min(spec.trials_per_round, spec.trials - len(results))
    if size <= 0:
        return ()
    number = max((result.trial.round for result in results), default=-1) + 1
    first_new = max((result.trial.replicate for result in results), default=first_replicate - 1) + 1
    if k_low == k_high:
        asked = _fresh([k_low] * min(size, spec.minimum_replicates - len(results)), first_new)
    elif not results:
        asked = _fresh(spread(k_low, k_high, size), first_new)
    else:
        assessment = assess(spec, task.ranked_target.name, k_low, k_high, results)
        if assessment.estimate.status != "unfinished":
            return ()
        asked = _next(spec, k_low, k_high, assessment, first_new, size)
    return tuple(
        Trial(k=k, replicate=replicate, round=number) for k, replicate in sorted(asked, key=lambda pair: pair[1])
    )


def expected_trials(spec: ThresholdSpec, current: Estimate, trials: int) -> float:
    """How many trials a sweep will have taken at its end, for those who wait: a forecast, on which nothing else rests.

    The trials near k* have narrowed its interval so far, and as many are still to come for each time that it is too wide. The
    square root of chance would ask for more, but each round goes where more is to be learnt. In most of the simulated sweeps
    of the tests it is right within a factor of two. Raises ValueError where the interval has an open end.
    """
    if current.low is None or current.high is None:
        raise ValueError("an interval with an open end tells nothing")
    ratio = log(max(current.high, 1) / max(current.low, 1)) / log(spec.precision)
    missing = current.trials_near * max(ratio - 1.0, 0.0)
    return min(max(trials + missing, spec.minimum_replicates), spec.trials)


def spread(k_low: int, k_high: int, size: int) -> list[int]:
    """`size` training dimensions at even steps of ln k: both ends and between, or inside the range where there are few."""
    steps = np.linspace(0.0, 1.0, size) if size > 2 else (np.arange(size) + 0.5) / size
    ks = np.rint(np.exp(np.log(k_low) + steps * (np.log(k_high) - np.log(k_low)))).astype(np.int64)
    return np.clip(ks, k_low, k_high).tolist()


def _fresh(ks: Sequence[int], first_new: int) -> list[tuple[int, int]]:
    """Each k with a replicate of its own."""
    return [(k, first_new + i) for i, k in enumerate(ks)]


def _next(
    spec: ThresholdSpec, k_low: int, k_high: int, assessment: Assessment, first_new: int, size: int
) -> list[tuple[int, int]]:
    """(k, replicate) of a later round.

    Where success is not monotone the search goes on at the first rise. Where that is only suspected, half of the round
    repeats the k in question: it is what tells a fall from luck.
    """
    peak = assessment.monotonicity.peak
    if peak is not None and assessment.monotonicity.rejected:
        top = min(max(peak, k_low), k_high)
        return _fresh(next_on_first_rise(spec, k_low, top, assessment.rates, size), first_new)
    doubted = assessment.recheck if assessment.recheck is not None else assessment.monotonicity.suspected_peak
    at_doubted = [] if doubted is None else [min(max(doubted, k_low), k_high)] * (size // 2)
    size -= len(at_doubted)
    if assessment.found is not None:
        going_on = next_bisections(spec, k_low, k_high, assessment.found, first_new, size)
        first_new = max([first_new, *(replicate + 1 for _, replicate in going_on)])
        return going_on + _fresh(at_doubted, first_new)
    if assessment.belief is None:
        raise AssertionError("a sweep that is neither bisected nor non-monotone has a posterior")
    return _fresh(most_informative(spec, k_low, k_high, assessment.belief, size) + at_doubted, first_new)
