"""Futility: when a run is given up because its next target is out of reach, and how well that rule did. Pure.

Learning curves of cold starts pick up speed, and then fall about as a power law of the step, ever less steeply (Hestness et
al. 2017; extrapolation of curves to stop runs: Domhan et al. 2015). In ln loss over ln step, such a curve that just reaches a
level at the last step lies, once it slows down, near or below the straight line from the loss of guessing at a share `onset`
of the steps to the level at the last one. A run is called out of reach of the level

1. once it slows down: its lowest loss fell, in logarithms, no more than `bend` times as far over the last tripling of its
   steps as over the tripling before; while there are fewer evaluations, over the later and the earlier half of its ln steps;
2. and lies above that line by more than `margin`, for evaluations are noisy:

    ln(lowest loss / level) > ln(loss of guessing / level) * ln(steps / step) / ln(1 / onset) + margin

The first condition is what keeps recipes safe that learn later than those on which the constants were set: a run on a plateau
that is about to end falls ever faster. One on a plateau that is flat to the last digit is called futile all the same, and
only the audit tells. The slope of the run itself was tried in the place of the line's, and mixed with it: it is too noisy to
add anything. The constants stand in the task (`specs.Futility`); nothing is fitted within a sweep, so a result stays a
function of task, method and seeds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from lowdim_bench.records import CurvePoint, TrialResult
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Spec
from lowdim_bench.specs.task import Futility

_SPAN = 3
"""A tripling: long enough that noise does not hide a bend, and two of them fit in early."""


def out_of_reach(rule: Futility, curve: Sequence[CurvePoint], level: float, chance: float, steps: int) -> bool:
    """Whether a run of `steps` steps in all, with this curve so far, is not expected to reach train loss <= `level`.

    `chance` is the loss of guessing. False as long as it is too early to say, at the last step, where a loss was not finite,
    and where the level was met or is no better than chance.
    """
    step = curve[-1].step
    losses = [point.train_loss for point in curve if point.train_loss is not None]
    if not rule.earliest * steps <= step < steps or step < _SPAN * curve[0].step:
        return False
    if len(losses) < len(curve) or min(losses) <= level or level >= chance:
        return False
    log_step = np.log([point.step for point in curve])
    lowest = np.minimum.accumulate(np.log(losses))
    if _picks_up_speed(log_step, lowest, rule.bend):
        return False
    granted = math.log(chance / level) * math.log(steps / step) / -math.log(rule.onset)
    return float(lowest[-1]) - math.log(level) > granted + rule.margin


def _picks_up_speed(log_step: np.ndarray, lowest: np.ndarray, bend: float) -> bool:
    """Whether the lowest ln loss so far, (n,), fell more than `bend` times as far over the last span as over the one before."""
    span = min(math.log(_SPAN), float(log_step[-1] - log_step[0]) / 2)
    before, middle, now = np.interp(log_step[-1] - span * np.array([2, 1, 0]), log_step, lowest)
    return bool(middle - now > bend * (before - middle))


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
    """95 % interval of the share of wrong calls, Clopper and Pearson's; None without an audited one. Audits are drawn by
    replicate, so calls of one replicate are taken to be wrong together: n is Kish's effective number (1965) for that."""
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
    audited = [(result.trial.replicate, call) for result in results for call in result.futility if call.audited]
    wrong = sum(call.reached for _, call in audited)
    saved = sum(call.steps_saved for call in calls)
    repeats = sum(count**2 for count in Counter(replicate for replicate, _ in audited).values()) / max(len(audited), 1)
    low, high = proportion_interval(wrong / repeats, len(audited) / repeats) if audited else (None, None)
    return FutilityReport(
        futile=len(calls),
        audited=len(audited),
        wrong=wrong,
        wrong_low=low,
        wrong_high=high,
        steps_saved=saved,
        share_saved=saved / (saved + sum(result.trained_steps for result in results)),
    )


def proportion_interval(hits: float, n: float) -> tuple[float, float]:
    """Clopper and Pearson's exact 95 % interval of a share (1934), for n > 0; effective numbers need not be whole."""
    from scipy.special import betaincinv  # takes a while to import, and workers do not need it

    low = float(betaincinv(hits, n - hits + 1, 0.025)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, n - hits, 0.975)) if hits < n else 1.0
    return low, high
