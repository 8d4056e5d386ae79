"""What a sweep would take on machines that are not here: counted operations, stated speeds, and a simulated cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lowdim_bench.calibration.coverage import Case, calibration_task
from lowdim_bench.errors import UserError
from lowdim_bench.forecast.machines import FIRST_PACK, Machine
from lowdim_bench.forecast.schedule import PlannedSweep, Timeline, simulate
from lowdim_bench.forecast.sweeps import SHARES, SLOPES, Range
from lowdim_bench.forecast.workloads import Workload
from lowdim_bench.records import Trial
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Task, ThresholdSpec

SIMULATIONS = 24
"""Simulated clusters."""
IMAGENET_THRESHOLD = ThresholdSpec(precision=1.5, k_max=2**20, trials=120)
"""What is asked of the threshold where no task says it: as the larger tasks that ship."""


@dataclass(frozen=True)
class Extrapolation:
    """What sweeps of one workload, side by side, would take on a cluster."""

    workload: Workload
    machine: Machine
    workers: int
    sweeps: int
    trials_per_round: int
    step_seconds: float
    trial_hours: float
    """Of a trial that trains all its steps, on one worker."""
    pack: int | None
    """Trials that a worker trains at once; None where memory does not bound them."""
    trainings: Range
    """Of all sweeps together."""
    worker_hours: Range
    """In packs, of all workers together."""
    wall_hours: Range
    idle_share: Range
    """Of all workers' time."""
    assumed: tuple[str, ...]


def extrapolate(
    work: Workload,
    threshold: ThresholdSpec,
    machine: Machine,
    workers: int,
    sweeps: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Extrapolation:
    """Simulate `sweeps` methods on one task, side by side. Nothing is trained; what preparation costs is left out.

    Raises `UserError` where not even one trial fits into the machine's memory.
    """
    pack = machine.pack(work)
    if pack == 0:
        raise UserError(
            f"One trial of {work.name} takes about {work.trial_bytes / 1e9:.0f} GB, more than {machine.name} has. Take a "
            "smaller batch, or a larger device."
        )
    lines: list[Timeline] = []
    for index in range(SIMULATIONS):
        planned = [_planned(work, threshold, machine, index, place) for place in range(sweeps)]
        lines.append(simulate(planned, workers, [machine.start_seconds] * workers))
        if progress is not None:
            progress(index + 1, SIMULATIONS)
    return Extrapolation(
        workload=work,
        machine=machine,
        workers=workers,
        sweeps=sweeps,
        trials_per_round=threshold.trials_per_round,
        step_seconds=machine.step_seconds(work),
        trial_hours=machine.trial_seconds(work) / 3600,
        pack=pack,
        trainings=_range([line.trainings for line in lines]),
        worker_hours=_range([line.busy / 3600 for line in lines]),
        wall_hours=_range([line.makespan / 3600 for line in lines]),
        idle_share=_range([line.idle_share for line in lines]),
        assumed=_assumed(machine, threshold, work),
    )


def _planned(work: Workload, threshold: ThresholdSpec, machine: Machine, index: int, place: int) -> PlannedSweep:
    """A sweep whose k* lies anywhere in the range, evenly in ln k. What a trial comes to is a function of the trial alone."""
    top = min(threshold.k_max, work.dimension)
    where = np.random.default_rng(derive("extrapolation", work.name, index, place))
    log_k_star = where.uniform(math.log(threshold.k_min), math.log(top))
    shape = "nested" if threshold.design == "bisection" else "logistic"
    slope = SLOPES[index % len(SLOPES)]
    case = Case(f"slope {slope:g}", shape, slope, trials=threshold.trials)

    def drawn(trial: Trial) -> tuple[bool, float]:
        rng = np.random.default_rng(derive("extrapolated trial", work.name, index, place, trial.replicate))
        # One draw a replicate, compared with its chance at k: nested in k, as the bisection design has it, and right for one k.
        reached = rng.random() < case.success(math.log(trial.k) - log_k_star)
        return reached, rng.uniform(*SHARES) if reached else 1.0

    def seconds(trials: Sequence[Trial]) -> float:
        return sum(machine.trial_seconds(work, drawn(trial)[1]) for trial in trials)

    task = _task(case, threshold)
    return PlannedSweep(task, (threshold.k_min, top), lambda trial: drawn(trial)[0], seconds)


def _task(case: Case, threshold: ThresholdSpec) -> Task:
    """What the planner asks of a task: its threshold and its target."""
    return calibration_task(case).model_copy(update={"threshold": threshold})


def _range(values: Sequence[float]) -> Range:
    low, middle, high = np.quantile(np.asarray(values, dtype=float), [0.1, 0.5, 0.9])
    return Range(float(low), float(middle), float(high))


def _assumed(machine: Machine, threshold: ThresholdSpec, work: Workload) -> tuple[str, ...]:
    slopes = ", ".join(f"{slope:g}" for slope in SLOPES)
    recipe = f"{work.steps:,} steps with batches of {work.batch}"
    top = min(threshold.k_max, work.dimension)
    where = f"k* lies anywhere from {threshold.k_min} to {top}, evenly in ln k"
    ends = f"after {SHARES[0]:.0%} to {SHARES[1]:.0%} of its steps"
    left_out = "preparation, data loading and the store are left out"
    return (
        machine.source,
        f"{recipe}; {work.evaluations} evaluations a run on {work.examples:,} examples",
        f"{where}; success rises with a slope of {slopes} per unit of ln k ({SIMULATIONS} simulated clusters)",
        f"a run that reaches its target ends {ends}, another trains all of them",
        f"a worker's first pack has up to {FIRST_PACK} trials, and no pack is lost; {left_out}",
    )
