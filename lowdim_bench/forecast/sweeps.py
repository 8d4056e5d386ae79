"""From the pace of one trial to a whole sweep: its search is simulated with the real planner, for many places of k*."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lowdim_bench import isolation, problems
from lowdim_bench.bench import searched_range
from lowdim_bench.calibration.coverage import Case, simulate_trials
from lowdim_bench.errors import MethodFailure, UserError
from lowdim_bench.forecast.pace import Pace, measure, memory
from lowdim_bench.methods import MethodChoice
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Task
from lowdim_bench.threads import use_one_thread

SWEEPS = 24
"""Simulated sweeps."""
SLOPES = (4.0, 12.0, 30.0)
"""How steeply success rises with ln k, from shallow to steep; those with which the intervals were checked."""
SHARES = (0.4, 1.0)
"""The share of its scored steps that a run trains: it ends when it reaches its target, or when that is out of reach."""
START_SECONDS = 20.0
"""Of a cluster on this machine."""


@dataclass(frozen=True)
class Range:
    """From low to high. Of what is simulated: 10 % of the sweeps lie below, 10 % above."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What a sweep of one method on one task would take."""

    task: str
    method: str
    device: str
    """cpu or cuda: of what the hours are."""
    workers: int
    k_low: int
    k_high: int
    trainings: Range
    hours: Range
    """Of all workers together."""
    wall_minutes: Range
    memory_per_worker: int
    """Bytes."""
    preparation_gradients: Range
    """Of one trial, over the k that were looked at."""
    preparation_gradients_in_all: Range
    paces: tuple[Pace, ...]
    measured: tuple[str, ...]
    assumed: tuple[str, ...]


Progress = Callable[[int, int], None]


def forecast(
    choice: MethodChoice, task: Task, data_root: Path, workers: int, progress: Progress | None = None
) -> Forecast:
    """Measure a few trials here, and simulate the search. Nothing is recorded, and no trial is trained to its end.

    Raises `UserError` where data is missing or the method cannot prepare what the task asks for.
    """
    use_one_thread()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    problem = problems.build(task, problems.load_arrays(task, data_root), str(device))
    method = isolation.build(choice)
    try:
        k_low, k_high = searched_range(task, method.k_range(problem.blocks), problem.full_dimension)
    except MethodFailure as failure:
        raise UserError(f"Method {choice.label} cannot be run: {failure}.") from None
    if k_low > k_high:
        raise UserError(f"Method {choice.label} can prepare no k between those that task {task.name} asks for.")
    sweeps = _simulate(task, (k_low, k_high), progress)
    looked_at = _quantiles([k for ks in sweeps for k in ks])
    pack = max(1, math.ceil(task.threshold.trials_per_round / workers))
    measure(
        problem, task, method, looked_at[0], pack
    )  # what is done once in a process, such as compiling, is not timed
    paces = tuple(measure(problem, task, method, k, pack) for k in looked_at)
    return _combine(choice, task, workers, (k_low, k_high), sweeps, paces, pack, problem.device)


def _simulate(task: Task, k_range: tuple[int, int], progress: Progress | None) -> list[list[int]]:
    """The k of the trials of each simulated sweep."""
    sweeps: list[list[int]] = []
    shape = "nested" if task.threshold.design == "bisection" else "logistic"
    for index in range(SWEEPS):
        slope = SLOPES[index % len(SLOPES)]
        case = Case(f"slope {slope:g}", shape, slope, trials=task.threshold.trials)
        rng = np.random.default_rng(derive("forecast", task.name, index))
        log_k_star = rng.uniform(*np.log(k_range)) if k_range[0] < k_range[1] else math.log(k_range[0])
        sweeps.append([result.trial.k for result in simulate_trials(task, case, log_k_star, rng, k_range)])
        if progress is not None:
            progress(index + 1, SWEEPS)
    return sweeps


def _quantiles(ks: Sequence[int]) -> list[int]:
    return sorted({int(k) for k in np.quantile(ks, [0.1, 0.5, 0.9], method="nearest")})


def _range(values: Sequence[float] | np.ndarray) -> Range:
    low, middle, high = np.quantile(np.asarray(values, dtype=float), [0.1, 0.5, 0.9])
    return Range(float(low), float(middle), float(high))


def _combine(
    choice: MethodChoice,
    task: Task,
    workers: int,
    k_range: tuple[int, int],
    sweeps: Sequence[Sequence[int]],
    paces: Sequence[Pace],
    pack: int,
    device: torch.device,
) -> Forecast:
    ks = [pace.k for pace in paces]

    def total(values: Sequence[float]) -> list[float]:
        """Of each sweep, where a trial takes `values` at the k that were looked at."""
        return [float(np.interp(sweep, ks, values).sum()) for sweep in sweeps]

    fast, slow = (total([pace.seconds(task, share) for pace in paces]) for share in SHARES)
    hours = _range([seconds / 3600 for seconds in (*fast, *slow)])
    rounds = [math.ceil(len(sweep) / task.threshold.trials_per_round) for sweep in sweeps]
    used = min(workers, task.threshold.trials_per_round)
    wall = [
        (START_SECONDS + count + seconds / used) / 60
        for both in (fast, slow)
        for count, seconds in zip(rounds, both, strict=True)
    ]
    gradients = [float(pace.gradient_evaluations) for pace in paces]
    return Forecast(
        task=task.name,
        method=choice.label,
        device=device.type,
        workers=workers,
        k_low=k_range[0],
        k_high=k_range[1],
        trainings=_range([len(sweep) for sweep in sweeps]),
        hours=hours,
        wall_minutes=_range(wall),
        memory_per_worker=memory(device) + max(pace.method_bytes for pace in paces),
        preparation_gradients=Range(min(gradients), float(np.median(gradients)), max(gradients)),
        preparation_gradients_in_all=_range(total(gradients)),
        paces=tuple(paces),
        measured=_measured(paces, pack, device),
        assumed=_assumed(len(sweeps), k_range, used),
    )


def _measured(paces: Sequence[Pace], pack: int, device: torch.device) -> tuple[str, ...]:
    clock = "seconds of this processor" if device.type == "cpu" else "seconds of this GPU"
    at = ", ".join(f"k = {pace.k}: {1000 * pace.step_seconds:.3g} ms a step" for pace in paces)
    return (
        f"{at} ({clock}, in packs of {pack})",
        "the method's own preparation, and the gradients that it asked for, once at each of these k",
        "the most memory that this process took, which trained such packs, without Ray's own part",
    )


def _assumed(count: int, k_range: tuple[int, int], used: int) -> tuple[str, ...]:
    slopes = ", ".join(f"{slope:g}" for slope in SLOPES)
    where = f"k* lies anywhere from {k_range[0]} to {k_range[1]}, evenly in ln k"
    return (
        f"{where}; success rises with a slope of {slopes} per unit of ln k ({count} simulated sweeps)",
        f"a run trains {SHARES[0]:.0%} to {SHARES[1]:.0%} of its steps: it ends at its target, or when that is out of reach",
        f"{used} worker(s) as fast as this machine while nothing else runs on it, and {START_SECONDS:g} s to start them",
    )
