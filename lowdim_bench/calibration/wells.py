"""Known answers: sweeps of quadratic wells against the thresholds that theory gives and the minima that QR gives."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowdim_bench import problems
from lowdim_bench.bench import SweepState, Watcher, run_sweeps
from lowdim_bench.errors import InfrastructureError
from lowdim_bench.methods import MethodChoice
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems.quadratic import QuadraticProblem
from lowdim_bench.records import Estimate, Trial
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task
from lowdim_bench.theory import deterministic_equivalent, exact_minimum, gaussian_width_formula
from lowdim_bench.trial import run_pack

DIMENSION = 200
SPECTRA: dict[str, dict[str, Any]] = {
    "isotropic": {"kind": "power", "exponent": 0.0},
    "power1": {"kind": "power", "exponent": 1.0},
    "power2": {"kind": "power", "exponent": 2.0},
    "two-level": {"kind": "two_level", "high_count": 20, "low": 1e-3},
    "lognormal": {"kind": "lognormal", "sigma": 2.0},
}
EPSILONS = (0.5, 0.1, 0.01)
METHOD = MethodChoice(name="random_subspace", parameters={"operator": "signed_hash"})
"""Its columns are orthonormal, so that the optimizer leaves little unreached also where k is nearly D."""
_RECIPE: dict[str, Any] = {
    "optimizer": {"kind": "adam"},
    "learning_rate": {"value": 0.05, "schedule": "cosine"},
    "batch_size": None,
    "steps": 3000,
}


@dataclass(frozen=True)
class WellRow:
    """One well at one target: what was measured, what theory says, and whether they agree."""

    spectrum: str
    epsilon: float
    status: str
    k_star: int | None
    low: int | None
    high: int | None
    trials: int
    equivalent: float
    """Median over the measured replicates of the deterministic-equivalent threshold."""
    width_formula: float
    optimizer_gap: float
    """Median over trials at k* of (final loss) / (exact minimum) - 1: what the optimizer leaves unreached."""

    @property
    def agrees(self) -> bool:
        """The interval contains the theoretical threshold, or lies within 5 % or 3 units of it."""
        if self.low is None or self.high is None:
            return False
        allowed = max(3.0, 0.05 * self.equivalent)
        return self.low - allowed <= self.equivalent <= self.high + allowed

    @property
    def contains(self) -> bool:
        """The interval itself contains the theoretical threshold; to be expected of 95 in 100 rows."""
        return (
            self.low is not None
            and self.high is not None
            and self.low <= math.ceil(round(self.equivalent, 6)) <= self.high
        )


def well_tasks() -> Iterator[Task]:
    """One task for each spectrum and epsilon, with a recipe strong enough that the optimizer is not what is measured."""
    for name, spectrum in SPECTRA.items():
        for epsilon in EPSILONS:
            data = {
                "name": f"well-{name}-{str(epsilon).replace('.', 'p')}",
                "track": "cold",
                "problem": {"kind": "quadratic_well", "dimension": DIMENSION, "spectrum": spectrum},
                "training": {**_RECIPE, "evaluate_every": 500},
                "full_training": _RECIPE,
                "targets": [{"metric": "train_loss", "at_most": epsilon}],
                "threshold": {"k_max": DIMENSION, "precision": 1.1, "minimum_replicates": 48, "trials": 160},
                "preparation": {"gradient_evaluations": 0},
            }
            yield Task.from_data(data, f"Calibration task {data['name']}")


def compare(task: Task, estimate: Estimate, replicates: Iterable[int]) -> WellRow:
    """Hold a sweep's estimate against theory, over the replicates that it measured."""
    problem = problems.build(task, {})
    assert isinstance(problem, QuadraticProblem)
    epsilon = task.ranked_target.level
    level, values = epsilon * problem.unit, problem.eigenvalues
    starts = [(problem.initial(r).double() @ problem.eigenvectors).numpy() for r in sorted(set(replicates))]
    name = next(name for name in SPECTRA if task.name.startswith(f"well-{name}-"))
    return WellRow(
        spectrum=name,
        epsilon=epsilon,
        status=estimate.status,
        k_star=estimate.k_star,
        low=estimate.low,
        high=estimate.high,
        trials=estimate.trials,
        equivalent=statistics.median(deterministic_equivalent(values, start, level) for start in starts),
        width_formula=statistics.median(
            gaussian_width_formula(values, float(np.linalg.norm(start)), level) for start in starts
        ),
        optimizer_gap=_optimizer_gap(task, problem, estimate.k_star or DIMENSION),
    )


def _optimizer_gap(task: Task, problem: QuadraticProblem, k: int, count: int = 8) -> float:
    # Without a target in reach no run stops early, so that what is compared is where the optimizer ends.
    unreachable = task.targets[0].model_copy(update={"at_most": -1.0})
    endless = task.model_copy(update={"targets": (unreachable,)})
    trials = [Trial(k=k, replicate=replicate, round=0) for replicate in range(count)]
    hessian = problem.hessian.double().cpu().numpy()
    gaps = []
    for result in run_pack(problem, endless, METHOD, trials):
        final = result.curve[-1].train_loss
        assert final is not None
        item = prepare_pack(problem, task, METHOD.build(), [result.trial])[0]
        assert isinstance(item.subspace, AffineSubspace)
        start = problem.initial(result.trial.replicate).double().numpy()
        gaps.append(
            final * problem.unit / exact_minimum(hessian, start, item.subspace.operator.matrix().double().numpy()) - 1
        )
    return statistics.median(gaps)


def measure_wells(settings: Settings, watch: Watcher | None = None) -> list[SweepState]:
    """Run the sweeps of all wells, recorded like any other. Raises `InfrastructureError` where one failed."""
    states = run_sweeps(settings, list(well_tasks()), [METHOD], watch)
    failures = [state.failure for state in states if state.failure]
    if failures:
        raise InfrastructureError(failures[0])
    return states


def compare_wells(states: Sequence[SweepState], progress: Callable[[int, int], None] | None = None) -> list[WellRow]:
    """Hold the measured wells against theory; `progress` is called with (done, total) wells."""
    rows: list[WellRow] = []
    for task, state in zip(well_tasks(), states, strict=True):
        rows.append(compare(task, state.estimate, range(state.trainings)))
        if progress:
            progress(len(rows), len(states))
    return rows
