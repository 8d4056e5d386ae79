"""What the leaderboard consists of: frozen records that terminal, page and report show alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from lowdim_bench.futility import FutilityReport
from lowdim_bench.records import Estimate, Predictions
from lowdim_bench.specs import Spec
from lowdim_bench.tracking.dossier import Verified

Progress = Literal["running", "interrupted", "failed", "finished"]
"""Of a sweep: finished is what its driver ended by itself, whether its threshold was found or not."""


class Relative(Spec):
    """How many times fewer k than the random subspace: k*(random) / k*, with a 95 % bootstrap interval over seeds."""

    value: float
    low: float
    high: float
    tasks: int


class Row(Spec):
    """One sweep on the board. Counts and prices are those of the trials behind its threshold."""

    rank: int | None
    """Among the rows of its task; None where nothing can be ranked (no threshold, or a control)."""
    rank_low: int | None = None
    rank_high: int | None = None
    """The 95 % interval of its rank, over bootstrap draws in which all methods see the same replicates."""
    rank_if_stopped: int | None = None
    """Of an unfinished sweep with an estimate: the rank that it would have if it were stopped now."""
    rank_if_stopped_low: int | None = None
    rank_if_stopped_high: int | None = None
    """From the ends of the interval of k* as far as it is known."""
    progress: Progress = "finished"
    task: str
    task_digest: str
    method: str
    params: dict[str, Any]
    method_digest: str
    submission: str | None = None
    """The submission that it was made from, if any."""
    authors: tuple[str, ...] = ()
    track: str
    status: str
    target: str
    k_star: int | None
    low: int | None
    high: int | None
    full_dimension: int
    efficiency: float | None = Field(description="D / k*")
    relative: Relative | None
    hits: int
    trials: int
    monotone: bool
    note: str
    side_information_bits: float | None
    preparation_gradient_evaluations: int | None
    preparation_examples: int | None
    preparation_evaluations: int | None
    preparation_labels: int | None = Field(
        description="different training examples that preparation looked at; None where the problem has no examples"
    )
    preparation_operations: int | None = Field(
        description="floating-point operations of preparation; a backward pass is two"
    )
    union_k: int | None = Field(
        default=None,
        description="weights that training opened, at most, where a mask moves in training; None for others",
    )
    active_k: int | None = Field(default=None, description="of these, the most that were away from their base at once")
    attempts: int = Field(
        description="sweeps of this method or submission on this task on record, whatever its parameters"
    )
    attempt_bits: float = Field(description="log2(attempts): what picking the best of them may be worth")
    code_bits: int = Field(description="submitted code, compressed; 0 for methods that ship")
    code_cpu_seconds: float | None = Field(
        default=None, description="CPU time of submitted code in a trial, at most; None for methods that ship"
    )
    trainings: int = Field(default=0, description="trials on record, failed ones included")
    failed_trials: int = 0
    sequential_steps: int | None = Field(
        default=None,
        description="layers and recurrent steps that wait for each other; None where the task does not say",
    )
    multiply_accumulates: int | None = Field(
        default=None,
        description="multiplications with a weight for one example; a shared weight as often as it is used",
    )
    solved_rows: int | None = Field(
        default=None,
        description="rows of the least-squares problems of a training that reached the target, their median; None for others",
    )
    solved_seconds: float | None = Field(default=None, description="worker time of such a training, the median")
    seconds: float = Field(description="worker time of all trials on record")
    verified: Verified = Field(default="not yet", description="by `lowdim-bench verify`; stale: the run changed since")
    run_id: str
    ladder: tuple[Estimate, ...]
    predictions: Predictions | None = None
    """What the curvature of the loss predicts for random subspaces, where `lowdim-bench predict` was run."""
    futility: FutilityReport | None
    """None where no run was called futile."""


class Overall(Spec):
    """One method over all tasks that it shares with the random subspace."""

    rank: int | None = None
    """Among the methods with a threshold on every task where the random subspace has one; None for others."""
    rank_low: int | None = None
    rank_high: int | None = None
    """The 95 % interval of that rank, over the same draws."""
    method: str
    params: dict[str, Any]
    method_digest: str
    label: str
    relative: Relative
    """Over the tasks on which both thresholds were found."""
    tasks_without_threshold: int
    """Tasks that it was run on, with a threshold of the random subspace, where its own was not found: not in the mean."""
    tasks_not_run: int = 0
    """Tasks with a threshold of the random subspace that it was not run on."""


class Standing(Spec):
    """A method's performance profile over all tasks of the board; see `lowdim_bench.statistics`."""

    tau: tuple[float, ...]
    share: tuple[float, ...]
    area: float
    solved: int
    unsolved: dict[str, int]
    """Tasks that it is not solved on, by reason: above_range, unfinished, not_run."""


class Win(Spec):
    """How likely one method needs fewer k than another, over the tasks on which they can be compared."""

    probability: float | None
    tasks: int


class Pair(Spec):
    """Two solved sweeps of one task, on the replicates that they share and those that they do not."""

    task_digest: str
    run: str
    other: str
    ratio: float
    """k* of the other over k* of the first: above 1, the first needs fewer. The median of the bootstrap draws."""
    low: float
    high: float
    """Its 95 % interval."""
    probability: float
    """That the first needs fewer, ties counting half."""
    seeds: int
    """Replicates that both have trained on."""


class Board(Spec):
    """What `rank` shows: rows by task, and methods over all tasks."""

    rows: tuple[Row, ...]
    overall: tuple[Overall, ...]
    pairs: tuple[Pair, ...] = ()
    """Every pair of the best solved rows of a task, the better one first; see `leaderboard.pairs.PAIRED_AT_MOST`."""
    profiles: dict[str, Standing] = {}
    """By method as `label` writes it, controls left out; the best area first."""
    wins: dict[str, dict[str, Win]] = {}
    """`wins[a][b]`: a against b."""


def label(method: str, params: Mapping[str, Any], submission: str | None = None) -> str:
    """A method for people: its name and parameters, or the name of the submission that it came from. One plain line."""
    return plain(submission or ",".join([method, *(f"{key}={value}" for key, value in sorted(params.items()))]))


def plain(text: str) -> str:
    """Text that somebody else chose, as one line without anything that steers a terminal or turns the direction of writing."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)
