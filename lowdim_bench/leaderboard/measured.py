"""What a board is computed from: the estimates of every sweep, and joint bootstrap draws of the thresholds of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lowdim_bench.leaderboard.rows import label
from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Estimate
from lowdim_bench.seeds import derive
from lowdim_bench.statistics import FloatArray, Result, Unsolved
from lowdim_bench.threshold import bootstrap_log_thresholds, estimate
from lowdim_bench.tracking import StoredSweep

REFERENCE = "random_subspace"
"""What every method is compared with: the random subspace with its default parameters."""
_DRAWS = 1000


@dataclass(frozen=True)
class Measured:
    """A sweep with its estimates."""

    sweep: StoredSweep
    ladder: tuple[Estimate, ...]

    @classmethod
    def of(cls, sweep: StoredSweep) -> Measured:
        spec, results = sweep.task.threshold, sweep.results
        ladder = [estimate(spec, target.name, sweep.k_low, sweep.k_high, results) for target in sweep.task.targets]
        return cls(sweep, tuple(ladder))

    @property
    def ranked(self) -> Estimate:
        return self.ladder[-1]

    @property
    def is_control(self) -> bool:
        """Whether it trains everything, and so is no low-dimensional method."""
        return self.sweep.k_low == self.sweep.full_dimension

    @property
    def is_found(self) -> bool:
        return self.ranked.status == "found"

    @property
    def is_solved(self) -> bool:
        return self.ranked.status in {"found", "below_range"} and not self.is_control

    @property
    def label(self) -> str:
        credit, method = self.sweep.credit, self.sweep.method
        return label(method.name, method.parameters, credit.submission if credit else None)

    @property
    def threshold(self) -> float:
        return float(self.ranked.k_star or self.ranked.high or self.sweep.k_low)


@dataclass(frozen=True)
class TaskBoard:
    """All sweeps of one task, and draws of ln k* (draws,) of those that are solved, by run."""

    measured: tuple[Measured, ...]
    draws: Mapping[str, FloatArray]

    @property
    def reference(self) -> Measured | None:
        """The random subspace with its default parameters, where its threshold was found."""
        digest = MethodChoice(name=REFERENCE).method_digest
        return next((one for one in self.measured if one.sweep.method_digest == digest and one.is_found), None)

    def ratios(self, one: Measured) -> FloatArray | None:
        """Draws of ln(k*(random subspace) / k*); None where either threshold is not found, and for the reference itself."""
        reference = self.reference
        if reference is None or one is reference or one.is_control or not one.is_found:
            return None
        return self.draws[reference.sweep.run_id] - self.draws[one.sweep.run_id]

    def results(self, name: Callable[[Measured], str]) -> dict[str, Result]:
        """What `lowdim_bench.statistics` takes, by the name of each method; controls are left out."""
        return {name(one): self._result(one) for one in self.measured if not one.is_control}

    def _result(self, one: Measured) -> Result:
        unsolved: Unsolved = "above_range" if one.ranked.status == "above_range" else "unfinished"
        return self.draws.get(one.sweep.run_id, unsolved)


class Measurements:
    """Measures sweeps, and does not measure again what came before: the same objects, which are frozen.

    The draws of a task are made anew only where the sweeps that it is solved by have changed.
    """

    def __init__(self) -> None:
        self._sweeps: dict[int, Measured] = {}
        self._draws: dict[tuple[int, ...], Mapping[str, FloatArray]] = {}

    def tasks(self, sweeps: Sequence[StoredSweep]) -> dict[str, TaskBoard]:
        """By task digest, in the order of the tasks' names. What is not among `sweeps` is forgotten."""
        # Each `Measured` holds its sweep, so that no other object can have the same id meanwhile.
        self._sweeps = {id(sweep): self._sweeps.get(id(sweep)) or Measured.of(sweep) for sweep in sweeps}
        by_digest: dict[str, list[Measured]] = {}
        for sweep in sorted(sweeps, key=lambda sweep: (sweep.task.name, sweep.task.digest)):
            by_digest.setdefault(sweep.task.digest, []).append(self._sweeps[id(sweep)])
        draws = {key: self._drawn(key) for key in map(_solved, by_digest.values())}
        self._draws = draws
        return {digest: TaskBoard(tuple(some), draws[_solved(some)]) for digest, some in by_digest.items()}

    def _drawn(self, key: tuple[int, ...]) -> Mapping[str, FloatArray]:
        if key in self._draws or not key:
            return self._draws.get(key, {})
        solved = [self._sweeps[one].sweep for one in key]
        task = solved[0].task
        drawn = bootstrap_log_thresholds(
            task.threshold,
            task.ranked_target.name,
            [((sweep.k_low, sweep.k_high), sweep.results) for sweep in solved],
            draws=_DRAWS,
            seed=derive("bootstrap", task.name),
        )
        return {sweep.run_id: draws for sweep, draws in zip(solved, drawn, strict=True)}


def _solved(measured: Sequence[Measured]) -> tuple[int, ...]:
    return tuple(id(one.sweep) for one in measured if one.is_solved)
