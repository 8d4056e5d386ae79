"""Does a fast operator stand in for a dense Gaussian basis? How many times its k brings training to the same loss.

Both are trained at the same few k, on the same initial weights and batches for each seed, to the last step of the recipe.
Where mean ln(final loss) falls along ln k with slope -b, an operator that ends higher by d needs exp(d / b) times the k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lowdim_bench import problems
from lowdim_bench.engine import Span, train
from lowdim_bench.errors import InfrastructureError, UserError
from lowdim_bench.methods import MethodChoice
from lowdim_bench.methods.random_subspace import RandomSubspace, default_operator
from lowdim_bench.parametrizations import Pack, Parametrization
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import Ledger, MeteredProblem, Problem
from lowdim_bench.records import Estimate, Trial
from lowdim_bench.seeds import derive
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task
from lowdim_bench.threads import use_one_thread
from lowdim_bench.tracking import Store, keys

REFERENCE = "gaussian"
ALLOWED = (0.95, 1.05)
"""Between these a multiplier changes a threshold by less than its interval."""
AROUND = (0.7, 0.84, 1.0, 1.2, 1.44)
"""Where to compare, in units of k*: wide enough that the slope is known, narrow enough that it is one slope."""
_STORED = {REFERENCE, "orthonormal"}
_PACK_BYTES = 400_000_000
_LARGEST_PACK = 40
_DRAWS = 4000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Equivalence:
    """How many times the k of a dense Gaussian basis an operator needs for the same final training loss."""

    task: str
    operator: str
    multiplier: float
    low: float
    high: float
    """Ends of the 95 % bootstrap interval over seeds."""
    seeds: int
    ks: tuple[int, ...]
    slope: float
    """d mean ln(final loss) / d ln k, of both together."""

    diverged: int
    """Of these seeds, those left out since the operator's training, and not the dense one's, was not finite in the end."""

    @property
    def verdict(self) -> Literal["yes", "no", "undecided"]:
        """Whether the operator stands in for a dense one: where its whole interval lies within, or outside, what is allowed."""
        if self.diverged or self.high < ALLOWED[0] or self.low > ALLOWED[1]:
            return "no"
        return "yes" if ALLOWED[0] <= self.low and self.high <= ALLOWED[1] else "undecided"

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        return (
            f"{self.operator} needs {self.multiplier:.3f} times the k of a dense Gaussian basis for the same final loss "
            f"(95 % interval {self.low:.3f} to {self.high:.3f}; {self.seeds} seeds at k = {', '.join(map(str, self.ks))})"
        )


def check_operators(
    task: Task,
    data_root: Path,
    operators: Sequence[str] | None = None,
    ks: Sequence[int] | None = None,
    seeds: int = 40,
    progress: Callable[[int, int], None] | None = None,
) -> list[Equivalence]:
    """Compare operators on a task in this process, about its threshold unless `ks` says where; by default its default one.

    Raises `UserError` for an unknown operator, missing data, or a place at which nothing can be compared.
    """
    for name in operators or ():
        MethodChoice(name="random_subspace", parameters={"operator": name}).build()
    if REFERENCE in (operators or ()):
        raise UserError(f"'{REFERENCE}' is what the others are compared with. Give another --operator.")
    use_one_thread()
    problem = problems.build(task, problems.load_arrays(task, data_root))
    own = default_operator(problem.full_dimension)
    names = [own if name == "auto" else name for name in operators or [own]]
    places = sorted(set(ks)) if ks else around(rough_threshold(problem, task), problem.full_dimension)
    if places[-1] > problem.full_dimension:
        raise UserError(f"k = {places[-1]} is more than the {problem.full_dimension} parameters of {task.name}.")
    return compare_operators(problem, task, names, places, seeds, progress)


def operator_of(method: MethodChoice) -> str | None:
    """The operator of a random subspace that can be checked; None where there is none, or it is the reference itself."""
    built = method.build()
    return built.operator if isinstance(built, RandomSubspace) and built.operator != REFERENCE else None


def check_sweeps(
    settings: Settings,
    sweeps: Sequence[tuple[Task, MethodChoice, Estimate]],
    progress: Callable[[int, int], None] | None = None,
) -> list[Equivalence]:
    """Check the operators of finished sweeps about their k*, and record what came out with each of them.

    Recorded are the metrics operator_multiplier, operator_multiplier_low and operator_multiplier_high, and a tag in words.
    """
    checks: list[Equivalence] = []
    for task, method, estimate in sweeps:
        operator = operator_of(method)
        if operator is None:
            continue
        ks = around(estimate.k_star, task.threshold.k_max) if estimate.k_star else None
        (check,) = check_operators(task, settings.data_root, [operator], ks, progress=progress)
        values = {"": check.multiplier, "_low": check.low, "_high": check.high}
        with Store(settings) as store:
            store.annotate(
                task,
                method,
                metrics={f"operator_multiplier{end}": value for end, value in values.items()},
                tags={keys.OPERATOR_CHECK: check.sentence},
            )
        checks.append(check)
    return checks


def compare_operators(
    problem: Problem,
    task: Task,
    operators: Sequence[str],
    ks: Sequence[int],
    seeds: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Equivalence]:
    """Compare each operator with dense Gaussian bases at the same k, seed by seed; `progress` is told (done, total) trainings.

    Raises `UserError` where the loss does not fall with k at all, so that no factor on k could make up for anything.
    """
    if len(set(ks)) < 2:
        raise UserError(f"One k ({ks[0]}) does not tell how the loss falls with k. Give at least two: --k K --k K.")
    names = [REFERENCE, *dict.fromkeys(name for name in operators if name != REFERENCE)]
    total, done = len(names) * len(ks) * seeds, 0
    losses = {name: np.empty((seeds, len(ks))) for name in names}
    for column, k in enumerate(ks):
        for name in names:
            for replicates in _packs(problem, name, k, seeds):
                losses[name][list(replicates), column] = _final_losses(problem, task, name, k, replicates)
                done += len(replicates)
                if progress:
                    progress(done, total)
    return [_equivalence(task, name, ks, losses[REFERENCE], losses[name]) for name in names[1:]]


def around(k: int, k_max: int) -> list[int]:
    """The training dimensions at which to compare where the threshold is about k."""
    return sorted({min(max(1, round(k * factor)), k_max) for factor in AROUND})


def rough_threshold(problem: Problem, task: Task, trials: int = 5) -> int:
    """About where k* lies: the first power of two at which most of a few trainings end below the ranked target, or better.

    Raises `UserError` where none does, or the ranked target is no training loss.
    """
    level = task.ranked_target.at_most
    if level is None:
        raise UserError(
            f"The ranked target of {task.name} is no training loss. Say where to compare: --k K, several times."
        )
    before = task.threshold.k_min
    k_max = min(task.threshold.k_max, problem.full_dimension)
    for k in [k for power in range(32) if before <= (k := 2**power) <= k_max]:
        losses = _final_losses(problem, task, "signed_hash", k, range(trials))
        if np.median(losses) <= level:
            return max(1, round((k * before) ** 0.5))
        before = k
    raise UserError(
        f"{task.name} is not trained to {task.ranked_target.name} by any k up to {k_max}. Say where: --k K."
    )


def _packs(problem: Problem, operator: str, k: int, seeds: int) -> Iterator[range]:
    """Replicates that are trained side by side: as many as the memory for stored matrices allows."""
    bytes_each = 4 * k * problem.full_dimension if operator in _STORED else 1
    size = min(_LARGEST_PACK, max(1, _PACK_BYTES // bytes_each))
    return (range(start, min(start + size, seeds)) for start in range(0, seeds, size))


def _final_losses(problem: Problem, task: Task, operator: str, k: int, replicates: Sequence[int]) -> Floats:
    """Loss on the full training set after the last step, (len(replicates),); no run stops at a target."""
    method = MethodChoice(name="random_subspace", parameters={"operator": operator}).build()
    prepared = prepare_pack(problem, task, method, [Trial(k=k, replicate=r, round=0) for r in replicates])
    subspaces = [item.subspace for item in prepared if item.subspace is not None]
    if len(subspaces) < len(prepared):
        raise InfrastructureError(next(item.failure for item in prepared if item.failure))
    metered = MeteredProblem(problem, replicates, [Ledger() for _ in replicates])
    rate = task.training.learning_rate
    tried = [_trained(metered, task, subspaces, rate.at(k) * multiplier) for multiplier in rate.multipliers]
    return np.fmin.reduce(tried)


def _trained(metered: MeteredProblem, task: Task, subspaces: Sequence[Parametrization], rate: float) -> Floats:
    span = Span(0, task.training.steps)
    thetas = train(metered, subspaces, task.training, [rate] * len(subspaces), span)
    return metered.train_metrics(Pack.of(subspaces).map(torch.stack(thetas))).loss.numpy()


def _equivalence(task: Task, operator: str, ks: Sequence[int], reference: Floats, losses: Floats) -> Equivalence:
    finite = np.isfinite(reference).all(axis=1) & np.isfinite(losses).all(axis=1)
    count = int(finite.sum())
    if count < 2:
        raise UserError(
            f"Trainings of {task.name} diverge at k = {', '.join(map(str, ks))}. Compare at other k: --k K."
        )
    # Loss at zero is as good as gets: below the smallest float32 there is nothing to compare.
    logs = np.log(np.maximum(np.stack([reference[finite], losses[finite]]), np.finfo(np.float32).tiny))
    rng = np.random.default_rng(derive("operator equivalence", task.name, operator))
    weights = np.vstack([np.ones(count), rng.multinomial(count, np.full(count, 1 / count), size=_DRAWS)]) / count
    means = np.einsum("ds,osk->dok", weights, logs)
    place = np.log(ks) - np.mean(np.log(ks))
    slope = (means.mean(axis=1) @ place) / (place @ place)
    if np.quantile(slope[1:], 0.975) >= 0:
        raise UserError(
            f"On {task.name} the loss does not fall between k = {min(ks)} and {max(ks)}, so no factor on k can be told. "
            "Compare at other k, with a wider spread or more seeds: --k K, --seeds N."
        )
    with np.errstate(divide="ignore"):
        factor = np.exp((means[:, 0] - means[:, 1]).mean(axis=1) / slope)
    low, high = np.quantile(factor[1:], [0.025, 0.975])
    diverged = int((np.isfinite(reference).all(axis=1) & ~np.isfinite(losses).all(axis=1)).sum())
    return Equivalence(
        task.name, operator, float(factor[0]), float(low), float(high), count, tuple(ks), float(slope[0]), diverged
    )
