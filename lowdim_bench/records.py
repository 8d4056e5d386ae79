"""What a sweep leaves behind: trials asked for, results with their evidence, estimates. Frozen, and plain JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Annotated, Literal, Self

from pydantic import Field

from lowdim_bench.specs.base import Spec
from lowdim_bench.specs.task import Track

Count = Annotated[int, Field(ge=0)]


class Trial(Spec):
    """One training to run: training dimension k, replicate (seed index), and the planning round that asked for it."""

    k: Annotated[int, Field(ge=1)]
    replicate: Count
    round: Count

    @property
    def key(self) -> str:
        """Its name within the sweep; a sweep never trains the same key twice."""
        return f"k{self.k}-r{self.replicate}"


class Spending(Spec):
    """What one phase of a trial asked of the problem.

    A gradient evaluation is one gradient over all D parameters on one mini-batch; examples are counted with repeats.
    """

    gradient_evaluations: Count = 0
    examples: Count = 0
    evaluations: Count = 0
    """Full passes over the training set without a gradient."""
    labels: Count = 0
    """Of preparation: different training examples, and so labels, that were looked at."""
    data_free_gradients: Count = 0
    """Gradients of a function of the weights alone, by one forward and one backward pass of one made-up input."""
    rows: Count = 0
    """Of the least-squares problems that were solved; each of these counts as one gradient evaluation too."""


def operations(spent: Spending, forward: int, example_count: int | None) -> int:
    """Floating-point operations of what was spent, where one example's forward pass takes `forward`.

    A backward pass counts twice a forward pass, as is usual (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Without
    examples, where every gradient is the exact one, `forward` is of the whole problem.
    """
    if example_count is None:
        return forward * (3 * (spent.gradient_evaluations + spent.data_free_gradients) + spent.evaluations)
    without_gradient = spent.evaluations * example_count
    with_gradient = spent.examples - without_gradient + spent.data_free_gradients
    return forward * (3 * with_gradient + without_gradient)


class Audit(Spec):
    """Degrees of freedom as the harness measured them."""

    measured_k: Count
    """Numerical rank of the map, or of the Jacobian of one that is not affine: how many independent directions training could
    move in at once."""
    rank_evidence: Literal["exact", "sampled"]
    """exact: the rank of the whole map. sampled: all columns of a random sample were independent, and the map is affine, or
    smooth, in k numbers, which bounds its rank by k."""
    affine: bool
    side_information_bits: Annotated[float, Field(ge=0)]
    track: Track
    active_k: Count | None = None
    """Of a mask that moved in training: the most weights that were away from their base at once. `measured_k` is then the union
    of all weights that training opened. None for others."""


class Outcome(Spec):
    """Whether one target was reached, confirmed from the stored float32 theta, and at which step first."""

    target: str
    reached: bool
    step: Count | None = None
    unconfirmed: Count = 0
    """Scheduled evaluations that met the target but whose confirmation did not."""


class CurvePoint(Spec):
    step: Count
    train_loss: float | None
    """None where it was not finite."""
    train_accuracy: float | None = None


class FutilityCall(Spec):
    """The first time that the task's rule called a run futile; see `lowdim_bench.futility`."""

    target: str
    """The easiest target that the run had not reached."""
    step: Annotated[int, Field(ge=1)]
    audited: bool
    """Whether the run went on all the same."""
    reached: bool
    """Whether it reached the target after all; never where it was given up."""
    steps_saved: Count
    """Scheduled steps that it did not train; 0 where it went on."""


class Usage(Spec):
    """What the process of submitted code was measured to take, from outside, in one trial; importing the code included."""

    seconds: Annotated[float, Field(ge=0)] = 0.0
    """Of its own time on the clock: what it waited for the harness does not count."""
    cpu_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Of it and its descendants, whatever they did meanwhile."""
    peak_bytes: Count = 0
    """Of memory, as seen every 25 ms."""
    fences: tuple[str, ...] = ()
    """Those that were in force."""


class TrialResult(Spec):
    """One finished trial.

    diverged: its loss was not finite in the end; targets that it reached before stand, the others count as not reached.
    failed: its method broke its contract, or it took its worker down in every attempt; counts as not reached.
    """

    trial: Trial
    status: Literal["trained", "diverged", "failed"]
    reason: str = ""
    outcomes: tuple[Outcome, ...] = ()
    audit: Audit | None = None
    preparation: Spending = Spending()
    training: Spending = Spending()
    learning_rate: float | None = None
    trained_steps: Count = 0
    test_accuracy: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    futility: tuple[FutilityCall, ...] = ()
    """At most one for each learning-rate multiplier. A run that was given up did not reach its remaining targets."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """On the clock of the worker: its share of the pack's."""
    cpu_seconds: Annotated[float, Field(ge=0)] | None = None
    """Processor time of the worker, its share of the pack's; None where an older version did not record it."""
    submitted_code: Usage | None = None
    """What the process of a submission's own code took; None for methods that ship or are installed."""
    certificate: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """SHA-256 of the certificate of a trial that reached the ranked target; see `lowdim_bench.certificates`."""
    uncertified: str = ""
    """Why there is none although the trial reached it."""

    def reached(self, target: str) -> bool:
        """Whether the target of that name was reached."""
        return any(outcome.reached for outcome in self.outcomes if outcome.target == target)


class Estimate(Spec):
    """The threshold training dimension k* of one target, with its 95 % interval and the counts behind it.

    found: low <= k_star <= high. above_range: k* exceeds `low` = the largest k allowed. below_range: k* is at most
    `high` = the smallest k allowed. unfinished: the interval is still wider than asked; its ends, where known, are given.
    """

    target: str
    status: Literal["found", "above_range", "below_range", "unfinished"]
    k_star: int | None = None
    low: int | None = None
    high: int | None = None
    hits: Count = 0
    trials: Count = 0
    hits_near: Count = 0
    trials_near: Count = 0
    """Successes and trials at k within the interval widened by a factor of `precision` at both ends."""
    monotone: bool = True
    note: str = ""


class Spread(Spec):
    """A number of several replicates: how many have it, their median, and the lowest and highest."""

    n: Annotated[int, Field(ge=1)]
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Self | None:
        """None where no replicate has one."""
        known = [value for value in values if value is not None]
        return cls(n=len(known), median=median(known), low=min(known), high=max(known)) if known else None


class PredictedThreshold(Spec):
    """k* of a target as the curvature of the loss predicts it for random subspaces; see `landscape.Prediction`."""

    target: str
    formula: Spread | None
    equivalent: Spread | None
    simulated: Spread | None


class Predictions(Spec):
    """Predicted thresholds of a task, and what has to hold for them."""

    format: Literal[1] = 1
    thresholds: tuple[PredictedThreshold, ...]
    conditions: tuple[str, ...]


class Price(Spec):
    """What a sweep's threshold costs beside k*: the highest of what the trials near k* were charged."""

    side_information_bits: float | None
    """None where no trial was audited."""
    gradient_evaluations: Count
    examples: Count
    evaluations: Count
    labels: Count
    """Different training examples that preparation looked at."""
    spent: tuple[Spending, ...] = ()
    """What each trial near k* spent on its preparation."""
    union_k: Count | None = None
    """Of masks that moved in training: the most weights that one opened. None for others."""
    active_k: Count | None = None
    """And the most that were away from their base at once."""


def price(results: Sequence[TrialResult], estimate: Estimate) -> Price | None:
    """The price of a threshold, over all trials within a tenth of k*; None without any. A diverged one had its price too."""
    nearest = priced_trial(results, estimate)
    near = [r for r in results if nearest is None or abs(math.log(r.trial.k / nearest.trial.k)) <= math.log(1.1)]
    if not near:
        return None
    bits = [result.audit.side_information_bits for result in near if result.audit]
    moved = [result.audit for result in near if result.audit and result.audit.active_k is not None]
    return Price(
        side_information_bits=max(bits, default=None),
        gradient_evaluations=max(result.preparation.gradient_evaluations for result in near),
        examples=max(result.preparation.examples for result in near),
        evaluations=max(result.preparation.evaluations for result in near),
        labels=max(result.preparation.labels for result in near),
        spent=tuple(result.preparation for result in near),
        union_k=max((audit.measured_k for audit in moved), default=None),
        active_k=max((audit.active_k or 0 for audit in moved), default=None),
    )


def priced_trial(results: Sequence[TrialResult], estimate: Estimate) -> TrialResult | None:
    """The audited trial nearest to k*, or to the known end of its interval."""
    ends = [end for end in (estimate.k_star, estimate.low, estimate.high) if end]
    where = math.log(ends[0]) if ends else 0.0
    audited = [result for result in results if result.audit]

    def distance(result: TrialResult) -> tuple[float, int, int]:
        return abs(math.log(result.trial.k) - where), result.trial.k, result.trial.replicate

    return min(audited, key=distance, default=None)
