"""Simulated clusters: schedules worked out by hand, and the same trials as the planner gives to everybody else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from lowdim_bench.calibration.coverage import Case, calibration_task, simulate_trials
from lowdim_bench.forecast.schedule import PlannedSweep, simulate
from lowdim_bench.records import Trial
from lowdim_bench.specs import Task
from lowdim_bench.testing import TINY

SLOPE = Case("slope 12", "logistic", 12.0)


def fixed(trials: int, per_round: int) -> Task:
    """A task that asks for `trials` at k = 1, the only k there is, in rounds of `per_round`."""
    threshold = {"trials": trials, "minimum_replicates": trials, "trials_per_round": per_round}
    return TINY.model_copy(update={"threshold": TINY.threshold.model_copy(update=threshold)})


def one_k(task: Task, seconds: float = 1.0) -> PlannedSweep:
    return PlannedSweep(task, (1, 1), lambda trial: False, lambda pack: seconds * len(pack))


def test_rounds_of_one_sweep_follow_each_other() -> None:
    """8 trials in rounds of 4 on 4 workers that are ready after 10 s: 2 s of training each, 2 rounds."""
    found = simulate([one_k(fixed(8, 4), 2.0)], 4, [10.0] * 4)
    assert (found.makespan, found.busy, found.trainings, found.rounds, found.packs) == (14, 16, 8, 2, 8)
    assert found.idle_share == 0


def test_a_round_waits_for_its_last_pack() -> None:
    """4 workers, of which one gets a pack of 5 s and the others of 1 s, in each of 2 rounds: (4 + 4 + 4) / 20 idle."""
    sweep = PlannedSweep(
        fixed(8, 4), (1, 1), lambda trial: False, lambda pack: 5.0 if pack[0].replicate % 4 == 0 else 1.0
    )
    found = simulate([sweep], 4, [0.0] * 4)
    assert (found.makespan, found.busy) == (10, 16)
    assert found.idle_share == pytest.approx(0.6)


def test_a_round_smaller_than_the_cluster_leaves_workers_idle() -> None:
    found = simulate([one_k(fixed(8, 4))], 8, [0.0] * 8)
    assert (found.makespan, found.idle_share) == (2, pytest.approx(0.5))


def test_more_trials_than_workers_are_dealt_out_in_packs() -> None:
    """A round of 8 on 3 workers: packs of 3, 3 and 2 trials."""
    sizes: list[int] = []

    def seconds(pack: Sequence[Trial]) -> float:
        sizes.append(len(pack))
        return float(len(pack))

    found = simulate([PlannedSweep(fixed(8, 8), (1, 1), lambda trial: False, seconds)], 3, [0.0] * 3)
    assert (sizes, found.makespan) == ([3, 3, 2], 3)


def test_two_sweeps_share_the_workers_until_one_ends() -> None:
    """4 workers. Both sweeps get 2 packs of 2 trials in the first round. The short one is over then (2 s); the other's second
    round is dealt out when its own first one ends, by a rule that counts the short one only if it still runs."""
    short, long = one_k(fixed(4, 4)), one_k(fixed(8, 4), 2.0)
    found = simulate([short, long], 4, [0.0] * 4)
    assert (short.trainings, long.trainings, short.rounds, long.rounds) == (4, 8, 1, 2)
    assert found.packs == 2 + 2 + 4
    assert found.makespan == 4 + 2
    assert found.busy == 4 + 16


def test_a_late_worker_takes_what_waits() -> None:
    found = simulate([one_k(fixed(4, 4), 10.0)], 4, [0.0, 0.0, 0.0, 4.0])
    assert found.makespan == 14
    assert found.starting == 4


def test_a_worker_for_each_time_of_readiness() -> None:
    with pytest.raises(ValueError, match="3 workers need as many times"):
        simulate([one_k(fixed(4, 4))], 3, [0.0])


def test_its_trials_are_those_of_the_real_planner() -> None:
    """With outcomes that are a function of the trial alone, the number of workers changes nothing but the time."""
    task = calibration_task(SLOPE)

    def reaches(trial: Trial) -> bool:
        rng = np.random.default_rng([trial.replicate, trial.k])
        return rng.random() < SLOPE.success(math.log(trial.k / 300))

    def sweep() -> PlannedSweep:
        return PlannedSweep(task, (1, 4096), reaches, lambda pack: float(len(pack)))

    narrow, wide = sweep(), sweep()
    times = simulate([narrow], 1, [0.0]), simulate([wide], 8, [0.0] * 8)
    assert sorted(one.trial.key for one in narrow.results) == sorted(one.trial.key for one in wide.results)
    assert times[0].makespan == times[0].trainings > times[1].makespan
    assert times[0].rounds == times[1].rounds
    rng = np.random.default_rng(0)
    count = len(simulate_trials(task, SLOPE, math.log(300), rng, (1, 4096)))
    assert count / 3 < times[0].trainings < 3 * count
