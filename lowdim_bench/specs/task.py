"""A task: what is trained, how, and which loss sub-level set has to be reached with how few degrees of freedom."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lowdim_bench.specs.base import Spec
from lowdim_bench.specs.problem import PositiveFloat, PositiveInt, Problem

Track = Literal["cold", "prepared", "open"]
TRACKS: tuple[Track, ...] = ("cold", "prepared", "open")
"""From strict to lax. cold: no data seen before the k-dimensional training. prepared: metered preparation, fixed network,
linear map. open: own network or non-linear map."""


class Descent(Spec):
    """What steps along gradients have in common."""

    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """This times half the squared length of the D weights is added to the loss that is trained on, as torch's optimizers do.
    It pulls at the weights, not at theta: at a base as far as theta can undo it, and no other weight moves."""


class Adam(Descent):
    """Adam (Kingma & Ba 2015) with true bias correction."""

    kind: Literal["adam"]
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: PositiveFloat = 1e-7


class Sgd(Descent):
    """Stochastic gradient descent with heavy-ball (or Nesterov) momentum."""

    kind: Literal["sgd"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class AlternatingLeastSquares(Spec):
    """Each step solves one block of parameters by least squares, all others fixed; the blocks take turns.

    The learning rate is the share of the way that goes to the solution: 1 is alternating least squares itself.
    """

    kind: Literal["alternating_least_squares"]


Optimizer = Annotated[Adam | Sgd | AlternatingLeastSquares, Field(discriminator="kind")]


class LearningRate(Spec):
    """The learning rate at training dimension k: value * (k / reference_k) ** exponent, times each of `multipliers`.

    With more than one multiplier every trial trains once with each, from the same seed, and reaches a target if any of
    these runs does: tuning at equal budget, counted in the trial's price.
    """

    value: PositiveFloat
    reference_k: PositiveInt = 1
    exponent: Annotated[float, Field(ge=-2, le=2)] = 0.0
    multipliers: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=16)] = (1.0,)
    schedule: Literal["constant", "cosine"] = "constant"

    def at(self, k: int) -> float:
        """The learning rate at training dimension k, before multipliers and schedule."""
        return self.value * (k / self.reference_k) ** self.exponent


class Recipe(Spec):
    """How a vector of numbers is trained. `batch_size: null` trains on the full data at every step."""

    optimizer: Optimizer
    learning_rate: LearningRate
    batch_size: PositiveInt | None
    steps: PositiveInt


class TrainingRecipe(Recipe):
    """The recipe of the scored k-dimensional training, with its schedule of evaluations on the full training set."""

    evaluate_every: PositiveInt


Metric = Literal["train_loss", "train_accuracy"]


class Target(Spec):
    """A loss sub-level set (`at_most`) or an accuracy super-level set (`at_least`), on the full training set."""

    metric: Metric
    at_most: float | None = None
    at_least: float | None = None

    @model_validator(mode="after")
    def _one_direction(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give exactly one of at_most and at_least")
        if (self.metric == "train_loss") != (self.at_most is not None):
            raise ValueError("train_loss takes at_most, train_accuracy takes at_least")
        return self

    @property
    def name(self) -> str:
        """For people and for keys: 'train_loss <= 0.1'. Different levels have different names."""
        short = f"{self.level:g}"
        level = short if float(short) == self.level else repr(self.level)
        return f"{self.metric} {'<=' if self.at_most is not None else '>='} {level}"

    @property
    def level(self) -> float:
        level = self.at_most if self.at_most is not None else self.at_least
        assert level is not None
        return level

    def reached(self, value: float) -> bool:
        """Whether a value of the metric lies in the level set; NaN never does."""
        return value <= self.level if self.at_most is not None else value >= self.level


class ThresholdSpec(Spec):
    """What is asked of the threshold training dimension k* and how it is searched.

    k* is the smallest k whose success probability reaches `success_probability`. The search ends when the 95 % interval
    of the last target's k* spans no more than a factor of `precision`, and at least `minimum_replicates` trials stand
    behind it; or when `trials` are spent.
    """

    success_probability: Annotated[float, Field(gt=0, lt=1)] = 0.5
    precision: Annotated[float, Field(gt=1, le=64)] = 1.2
    k_min: PositiveInt = 1
    k_max: PositiveInt
    minimum_replicates: Annotated[int, Field(ge=1, le=10_000)] = 20
    design: Literal["bayesian", "bisection"] = "bayesian"
    trials_per_round: Annotated[int, Field(ge=1, le=1024)] = 8
    trials: PositiveInt = 200

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.k_min >= self.k_max:
            raise ValueError(f"k_min ({self.k_min}) must lie below k_max ({self.k_max})")
        if self.trials < self.minimum_replicates:
            raise ValueError("trials must be at least minimum_replicates")
        return self


class PreparationBudget(Spec):
    """The most that one trial may spend before its k-dimensional training."""

    gradient_evaluations: Annotated[int, Field(ge=0)]
    """Gradients over all D parameters, and full passes over the training set without one, together."""


class Futility(Spec):
    """When a run is given up because its next target is out of reach (see `lowdim_bench.futility`).

    A run is futile when it slows down and lies above the line that leads to the target just in time, drawn in ln loss over
    ln step. Only runs of methods that saw no data are judged. The defaults were set on `digits-mlp`.
    """

    onset: Annotated[float, Field(gt=0, lt=1)] = 0.013
    """Share of the steps at which that line stands at the loss of guessing."""
    margin: Annotated[float, Field(ge=0)] = 0.08
    """How far above the line, in ln loss."""
    bend: PositiveFloat = 1.1
    """A run slows down once ln loss fell no more than this many times as far as over the span of ln steps before."""
    earliest: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """No run is judged before this share of its steps."""
    audit_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The share of replicates whose futile runs run on all the same, and count with their true outcome."""

    def identity(self) -> dict[str, Any]:
        """Every constant, the defaults too: they were measured, and a better measured set must not pass for this one."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class Task(Spec):
    """One task. Everything here decides the number, except `description`; where it runs is never part of it."""

    not_identity: ClassVar[frozenset[str]] = frozenset({"description"})

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    description: str = ""
    track: Track = "prepared"
    problem: Problem
    training: TrainingRecipe
    full_training: Recipe
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=16)]
    threshold: ThresholdSpec
    preparation: PreparationBudget
    futility: Futility | None = None

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if len({target.metric for target in self.targets}) > 1:
            raise ValueError("targets of one task must share one metric, so that they are nested")
        levels = [target.level if target.at_least is not None else -target.level for target in self.targets]
        if any(easier >= harder for easier, harder in pairwise(levels)):
            raise ValueError("targets must go strictly from easy to hard; the last one is ranked")
        without_accuracy = {
            "quadratic_well": "a quadratic well",
            "quadratic_network": "a quadratic network",
            "tensor_decomposition": "a tensor decomposition",
        }
        if self.problem.kind in without_accuracy and self.ranked_target.metric != "train_loss":
            raise ValueError(f"{without_accuracy[self.problem.kind]} has no accuracy: use train_loss")
        if self.full_training.learning_rate.multipliers != (1.0,):
            raise ValueError("full_training takes no multipliers: only the k-dimensional training is tuned")
        return self

    @model_validator(mode="after")
    def _batches_can_be_normalized(self) -> Self:
        if self.problem.kind == "classification" and self.problem.normalizes_batches:
            for name, recipe in (("training", self.training), ("full_training", self.full_training)):
                if recipe.batch_size == 1:
                    raise ValueError(f"batch normalization needs a {name}.batch_size of at least 2")
        return self

    @model_validator(mode="after")
    def _blocks_can_be_solved(self) -> Self:
        for name, recipe in (("training", self.training), ("full_training", self.full_training)):
            if not isinstance(recipe.optimizer, AlternatingLeastSquares):
                continue
            if self.problem.kind != "tensor_decomposition":
                raise ValueError(f"{name}: alternating_least_squares is for tensor_decomposition; use adam or sgd")
            if recipe.batch_size is not None:
                raise ValueError(f"{name}: alternating_least_squares takes batch_size: null; methods choose its rows")
        return self

    @model_validator(mode="after")
    def _futility_applies(self) -> Self:
        if self.futility is None:
            return self
        if self.problem.kind != "classification":
            others = self.problem.kind.replace("_", " ") + "s"
            raise ValueError(f"futility is for classification: the rule is not proven for {others}; leave it out")
        if self.ranked_target.metric != "train_loss":
            raise ValueError("futility extrapolates the loss: it takes train_loss targets, so leave it out here")
        if self.targets[-1].level <= 0:
            raise ValueError("futility extrapolates the logarithm of the loss: every at_most must lie above 0")
        if self.training.learning_rate.schedule != "constant":
            raise ValueError("futility needs a constant learning rate: under another schedule the loss falls late")
        return self

    @property
    def ranked_target(self) -> Target:
        """The hardest target: the one whose threshold is searched to `precision` and ranked."""
        return self.targets[-1]
