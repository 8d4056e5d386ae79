"""From the results of a sweep to the threshold training dimension k*, with its interval and the counts behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, inf, log
from typing import Literal

import numpy as np

from lowdim_bench.records import Estimate, TrialResult
from lowdim_bench.specs import ThresholdSpec
from lowdim_bench.threshold.bisection import Bracket, brackets, quantile_interval
from lowdim_bench.threshold.counts import Counts, count, first_of_each_replicate
from lowdim_bench.threshold.first_rise import bracket_first_rise
from lowdim_bench.threshold.monotonicity import Monotonicity, check
from lowdim_bench.threshold.psychometric import Posterior, posterior

TAIL = 0.025
BEYOND_TRIALS = 5
"""k* may be placed beyond the range on so few trials, since `minimum_replicates` guards numbers, and this is none."""

Status = Literal["found", "above_range", "below_range", "unfinished"]


@dataclass(frozen=True)
class Finding:
    """The part of an estimate that its design decides; ends are None where unknown."""

    status: Status
    k_star: int | None = None
    low: int | None = None
    high: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Assessment:
    """An estimate with what it rests on, for the planner to go on from.

    `rates` are the counts from which success rates can be read. `recheck`: where more trials would tell whether success
    falls again above it. `belief` and `found` are None where the design or a non-monotone success leaves them without a use.
    """

    estimate: Estimate
    rates: Counts
    monotonicity: Monotonicity
    recheck: int | None = None
    belief: Posterior | None = None
    found: tuple[Bracket, ...] | None = None


def estimate(spec: ThresholdSpec, target: str, k_low: int, k_high: int, results: Sequence[TrialResult]) -> Estimate:
    """k* of one target, where a method allows k_low <= k <= k_high; the order of the results does not matter.

    found: the 95 % interval lies within the range and spans at most `precision` (or two neighbouring integers), on at least
    `minimum_replicates` trials (replicates, in the bisection design). above_range, below_range: k* lies beyond with 97.5 %, on
    at least five trials. Where a method allows a single k, k* is that k if the share of successes reaches the level.
    """
    return assess(spec, target, k_low, k_high, results).estimate


def assess(spec: ThresholdSpec, target: str, k_low: int, k_high: int, results: Sequence[TrialResult]) -> Assessment:
    """The estimate, and what it rests on."""
    seen = count(results, target)
    rates = count(first_of_each_replicate(results), target) if spec.design == "bisection" else seen
    monotonicity = check(rates)
    belief, found = None, None
    if k_low == k_high:
        finding = _single(spec, k_low, seen)
    elif monotonicity.peak is not None and monotonicity.rejected:
        finding = _first_rise(spec, k_low, rates, monotonicity.peak, monotonicity.p_value)
    elif spec.design == "bisection":
        found = tuple(brackets(target, k_low, k_high, results))
        finding = _by_order_statistics(spec, k_low, k_high, found)
    else:
        belief = posterior(spec, k_low, k_high, seen)
        finding = _by_posterior(spec, k_low, k_high, seen.total_trials, belief)
    recheck = None if monotonicity.rejected else _recheck(spec, k_high, rates, monotonicity, finding)
    if recheck is not None and finding.status != "unfinished":
        hits, trials = rates.between(recheck / spec.precision, recheck * spec.precision)
        note = f"{hits} of {trials} trials reached near k = {recheck}, which does not fit; more trials there will tell."
        known = finding if finding.status == "found" else Finding("unfinished")
        finding = replace(known, status="unfinished", note=note)
    if failed := sum(result.status == "failed" for result in results):
        note = f"{failed} of {len(results)} trials failed, and count as not reached."
        finding = replace(finding, note=f"{finding.note} {note}".lstrip())
    full = _with_counts(spec, target, seen, finding, monotone=not monotonicity.rejected or k_low == k_high)
    return Assessment(full, rates, monotonicity, recheck, belief, found)


def _recheck(
    spec: ThresholdSpec, k_high: int, rates: Counts, monotonicity: Monotonicity, finding: Finding
) -> int | None:
    """A k at which more trials would tell whether success falls again, or None.

    Either the test has a suspicion that would be lost in an outcome beyond the range, or trials near some k reached often
    enough although k* seems to be more than twice as large: a curve would take that for luck, whatever it is.
    """
    if monotonicity.suspicious and finding.status in {"above_range", "below_range"}:
        return monotonicity.peak
    ceiling = finding.low if finding.low is not None else 0
    for k in rates.k[2 * rates.k < min(ceiling, k_high)].tolist():
        hits, trials = rates.between(k / spec.precision, k * spec.precision)
        if hits and hits >= spec.success_probability * trials:
            return k
    return None


def _with_counts(spec: ThresholdSpec, target: str, seen: Counts, finding: Finding, *, monotone: bool) -> Estimate:
    low = 0.0 if finding.low is None else finding.low / spec.precision
    high = inf if finding.high is None else finding.high * spec.precision
    hits_near, trials_near = seen.between(low, high)
    return Estimate(
        target=target,
        status=finding.status,
        k_star=finding.k_star,
        low=finding.low,
        high=finding.high,
        hits=seen.total_hits,
        trials=seen.total_trials,
        hits_near=hits_near,
        trials_near=trials_near,
        monotone=monotone,
        note=finding.note,
    )


def _single(spec: ThresholdSpec, k: int, seen: Counts) -> Finding:
    """One k is allowed: the plain share of successes decides, once there are enough trials."""
    if seen.total_trials < max(1, spec.minimum_replicates):
        return Finding("unfinished", note=f"The method allows k = {k} alone.")
    share = seen.total_hits / seen.total_trials
    note = f"The method allows k = {k} alone; it reached in {seen.total_hits} of {seen.total_trials} trials."
    if share >= spec.success_probability:
        return Finding("found", k, k, k, note)
    return Finding("above_range", low=k, note=note)


def _by_posterior(spec: ThresholdSpec, k_low: int, k_high: int, trials: int, belief: Posterior) -> Finding:
    """The central 95 % credible interval. A location x means k* = ceil(x); an end is known if that is within the range."""
    if trials == 0:
        return Finding("unfinished", note="No trials yet.")
    if trials >= min(BEYOND_TRIALS, spec.trials):
        if 1 - belief.below(log(k_high)) >= 1 - TAIL:
            return Finding("above_range", low=k_high)
        if belief.below(log(k_low)) >= 1 - TAIL:
            return Finding("below_range", high=k_low)
    ends = [_ceil(exp(x)) for x in belief.quantiles(np.array([TAIL, 0.5, 1 - TAIL])).tolist()]
    low, k_star, high = (k if k_low <= k <= k_high else None for k in ends)
    return Finding("found" if _is_found(spec, trials, low, high) else "unfinished", k_star, low, high)


def _by_order_statistics(spec: ThresholdSpec, k_low: int, k_high: int, found: Sequence[Bracket]) -> Finding:
    """The interval of the bisection design; its low end is unknown at k_low > 1, where k* may lie below the range."""
    if not found:
        return Finding("unfinished", note="No trials yet.")
    interval = quantile_interval(spec.success_probability, k_low, k_high, found)
    if len(found) >= min(BEYOND_TRIALS, spec.trials):
        if interval.low > k_high:
            return Finding("above_range", low=k_high)
        if interval.high <= k_low:
            return Finding("below_range", high=k_low)
    low = interval.low if k_low == 1 or interval.low > k_low else None
    high = interval.high if interval.high <= k_high else None
    middle = _ceil(interval.quantile)
    k_star = middle if k_low <= middle <= k_high else None
    status = "found" if _is_found(spec, len(found), low, high) else "unfinished"
    return Finding(status, k_star, low, high, f"{len(found)} replicates, each bisected.")


def _first_rise(spec: ThresholdSpec, k_low: int, rates: Counts, peak: int, p_value: float) -> Finding:
    """The bracket of the first rise; k* is then the smallest k shown to reach often enough."""
    bracket = bracket_first_rise(spec, rates, peak)
    rising, above = rates.up_to(peak), rates.between(peak + 1, inf)
    note = (
        f"Success is not monotone in k (p = {p_value:.2g}): {rising.total_hits} of {rising.total_trials} trials reached at "
        f"k <= {peak}, {above[0]} of {above[1]} above. Local counts bracket the first rise; no curve is fitted."
    )
    if bracket.reached is not None and bracket.reached <= k_low:
        return Finding("below_range", high=k_low, note=note)
    low = None if bracket.below is None else bracket.below + 1
    found = _is_found(spec, rates.total_trials, low, bracket.reached)
    return Finding("found" if found else "unfinished", bracket.reached, low, bracket.reached, note)


def _is_found(spec: ThresholdSpec, trials: int, low: int | None, high: int | None) -> bool:
    if low is None or high is None or trials < spec.minimum_replicates:
        return False
    return high <= low * spec.precision or high - low <= 1


def _ceil(x: float) -> int:
    """The ceiling, where a float a hair above an integer counts as that integer."""
    return ceil(x * (1 - 1e-12))
