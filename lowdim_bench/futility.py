"""Futility: when a run is given up because its next target is out of reach, and how well that rule did. Pure.

Learning curves of cold starts fall about as a power law of the step, ever less steeply (Hestness et al. 2017; extrapolation
of curves to stop runs: Domhan et al. 2015). So the slope of ln loss against ln step over the last doubling of steps says how
steeply a run can be hoped to go on. It is out of reach of a level when the slope that is needed from here to the last step

    needed = ln(lowest loss so far / level) / ln(steps / step)

exceeds `factor` times that slope. The factor rises with the step, since little is left then and a lucky evaluation weighs
more. Its constants stand in the task (`specs.Futility`); nothing is fitted within a sweep, so a result stays a function of
task, method and seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lowdim_bench.records import CurvePoint, TrialResult
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Spec
from lowdim_bench.specs.task import Futility

_FEWEST_EVALUATIONS = 3
"""Within the last doubling of steps: two would always fit, however they scatter."""


def out_of_reach(rule: Futility, curve: Sequence[CurvePoint], level: float, steps: int) -> bool:
    """Whether a run of `steps` steps in all, with this curve so far, is not expected to reach train loss <= `level`.

    False as long as it is too early to say, at the last step, where a loss was not finite, and where the level was met.
    """
    step = curve[-1].step
    losses = [point.train_loss for point in curve if point.train_loss is not None]
    if not rule.earliest * steps <= step < steps or len(losses) < len(curve) or min(losses) <= level:
        return False
    recent = [(point.step, loss) for point, loss in zip(curve, losses, strict=True) if 2 * point.step >= step]
    if len(recent) < _FEWEST_EVALUATIONS:
        return False
    slope = _steepness(*np.log(np.array(recent, dtype=float)).T)
    share = step / steps
    factor = (1 - share) * rule.factor_at_start + share * rule.factor_at_end
    needed = math.log(min(losses) / level) / math.log(steps / step)
    return needed > factor * slope


def _steepness(log_step: np.ndarray, log_loss: np.ndarray) -> float:
    """How much ln loss falls per unit of ln step: least squares over two arrays of shape (n,)."""
    centred = log_step - log_step.mean()
    return -float(centred @ log_loss) / float(centred @ centred)


def runs_on(rule: Futility, task: str, replicate: int) -> bool:
    """Whether futile runs of this replicate run on all the same, to audit the rule; the same for all methods and k."""
    return derive("futility audit", task, replicate) < rule.audit_share * 2**63


class FutilityReport(Spec):
    """What giving up saved in a sweep, and how often it was wrong where that can be known."""

    futile: int
    """Runs that the rule called futile."""
    audited: int
    """Of these, runs that ran on all the same."""
    wrong: int
    """Of the audited ones, runs that reached the target after all."""
    wrong_low: float | None
    """Clopper and Pearson's 95 % interval of the share of wrong calls; None without an audited one."""
    wrong_high: float | None
    steps_saved: int
    """Scheduled steps that runs given up did not train."""
    share_saved: float
    """`steps_saved` out of the steps that would have been trained if runs stopped at success only."""


def report(results: Sequence[TrialResult]) -> FutilityReport | None:
    """The report of a sweep; None where no run was called futile."""
    calls = [call for result in results for call in result.futility]
    if not calls:
        return None
    audited = [call for call in calls if call.audited]
    wrong = sum(call.reached for call in audited)
    saved = sum(call.steps_saved for call in calls)
    low, high = proportion_interval(wrong, len(audited))
    return FutilityReport(
        futile=len(calls),
        audited=len(audited),
        wrong=wrong,
        wrong_low=low,
        wrong_high=high,
        steps_saved=saved,
        share_saved=saved / (saved + sum(result.trained_steps for result in results)),
    )


def proportion_interval(hits: int, n: int) -> tuple[float | None, float | None]:
    """Clopper and Pearson's exact 95 % interval of a share (1934); (None, None) for n = 0."""
    if not n:
        return None, None
    from scipy.stats import binomtest  # takes a second to import, and workers do not need it

    interval = binomtest(hits, n).proportion_ci(method="exact")
    return float(interval.low), float(interval.high)
