"""The store of all sweeps: opening one to run it, and reading all of them to rank them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from pydantic import ValidationError

from lowdim_bench.errors import LowdimError, UserError
from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Predictions, TrialResult
from lowdim_bench.seeds import derive
from lowdim_bench.settings import Settings, prepare_environment
from lowdim_bench.specs import Task
from lowdim_bench.tracking import keys, summary, trial_files, views
from lowdim_bench.tracking.credit import Credit
from lowdim_bench.tracking.dossier import Dossier, Verified, state_of, verified
from lowdim_bench.tracking.run_log import taking
from lowdim_bench.tracking.sweep_log import SweepLog

if TYPE_CHECKING:  # MLflow is imported when a store is opened
    from lowdim_bench.tracking.connection import Connection, StoredRun

FIRST_REPLICATES = 2**31
"""Replicates from which one is drawn to begin a sweep of submitted code."""
LEFT_OUT = "Run %s of %s is left out: %s"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredSweep:
    """One sweep as it is kept, finished or not."""

    run_id: str
    task: Task
    method: MethodChoice
    status: str
    failure: str
    """Why it failed; empty where it did not."""
    k_low: int
    k_high: int
    full_dimension: int
    results: tuple[TrialResult, ...]
    """What every trial came to. Failed ones are among them, and count as not reached, unless the whole sweep failed."""
    method_digest: str
    first_replicate: int = 0
    example_count: int | None = None
    """Training examples of its task; None where there are none, or where an older version did not record it."""
    forward_operations: int | None = None
    """Floating-point operations of the loss at one example; None where an older version did not record it."""
    credit: Credit | None = None
    """The submission that it was made from, if any."""
    verified: Verified = "not yet"
    """Whether its certificates and records were recomputed as they are now; see `lowdim_bench.verification`."""
    predictions: Predictions | None = None
    """What `lowdim-bench predict` found out for its task, if it did."""


class Source(Protocol):
    """Where the files of a run are: a connection, or the server's own process."""

    def names(self, run_id: str, folder: str = "") -> set[str]:
        """Names of the files in a folder of a run, without the folder."""
        ...

    def download(self, run_id: str, path: str) -> dict[str, bytes]:
        """The files of a folder of a run, or one file, by name; empty where there is none."""
        ...


class Store:
    """An open tracking store. Raises `UserError` where it cannot be reached, or made."""

    def __init__(self, settings: Settings) -> None:
        prepare_environment(settings)
        from lowdim_bench.tracking.connection import Connection

        self._settings = settings
        self._connection: Connection = Connection(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open; sweeps are closed by those who opened them."""

    def open_sweep(
        self,
        task: Task,
        method: MethodChoice,
        k_range: tuple[int, int] | None,
        full_dimension: int,
        extra_tags: Mapping[str, str] | None = None,
        credit: Credit | None = None,
    ) -> SweepLog:
        """The record of a task with a method, begun or continued, and the sole right to add to it until it is closed.

        `k_range`: the smallest and largest k that are searched; None where the method does not tell. `extra_tags`
        describe the sweep besides; `credit` is recorded where the sweep begins here. Raises `UserError`, naming the holder,
        where another driver has the sweep.
        """
        sweep = keys.sweep_id(task.digest, method.method_digest)
        what = f"The sweep of {method.label} on task {task.name}"
        with taking(self._settings, self._connection, sweep, what) as take:
            run = self._find(sweep) or self._begin(sweep, task, method, credit)
            right = take(run.run_id)
            self._complete(run, task, method, k_range, full_dimension, extra_tags or {})
            first = self._first_replicate(run, method)
            return SweepLog(self._connection, run, task, method, full_dimension, right, first)

    def _first_replicate(self, run: StoredRun, method: MethodChoice) -> int:
        """Where the replicates of a sweep begin: at 0, or for submitted code at a place drawn once its digest is on record.

        So code cannot hold what it learnt of its replicates beforehand. Other methods keep to the same ones, to be paired. The
        place follows from the random identifier that the store gave the run: drivers that begin at once find the same.
        """
        if method.code is None:
            return 0
        if drawn := run.tags.get(keys.FIRST_REPLICATE):
            return int(drawn)
        first = derive("first replicate", run.run_id) % FIRST_REPLICATES + 1
        self._connection.write(run.run_id, tags={keys.FIRST_REPLICATE: str(first)})
        return first

    def annotate(self, task: Task, method: MethodChoice, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Write beside a sweep's result what was found out about it afterwards. Raises `UserError` where it is not recorded."""
        from lowdim_bench.tracking.connection import Point

        run = self._find(keys.sweep_id(task.digest, method.method_digest))
        if run is None:
            raise UserError(f"No sweep of {method.label} on task {task.name} is recorded. Run it first.")
        self._connection.write(run.run_id, points=[Point(*metric, 0) for metric in metrics.items()], tags=tags)

    def sweeps(self) -> list[StoredSweep]:
        """All sweeps, oldest first. What cannot be read is left out, with a warning that names the run and the reason."""
        found: list[StoredSweep] = []
        for run in self._connection.runs(f"tags.`{keys.SWEEP}` LIKE '%'"):
            try:
                found.append(read_sweep(self._connection, run))
            except KeyError as error:
                log.warning(LEFT_OUT, run.run_id, self._connection.where, f"it has no {error}")
            except (LowdimError, ValueError) as error:
                log.warning(LEFT_OUT, run.run_id, self._connection.where, error)
        return found

    def dossiers(self, wanted: Sequence[str] | None = None) -> list[Dossier]:
        """Runs of sweeps as they are stored, oldest first: all of them, or those whose identifier begins as one of `wanted`.

        Raises `UserError` where one of these is no run's, or that of several.
        """
        runs = self._connection.runs(f"tags.`{keys.SWEEP}` LIKE '%'")
        if wanted is None:
            return [Dossier(self._connection, run) for run in runs]
        chosen = [
            Dossier(self._connection, _only(runs, name, self._connection.where)) for name in dict.fromkeys(wanted)
        ]
        return list({dossier.run_id: dossier for dossier in chosen}.values())

    def _find(self, sweep: str) -> StoredRun | None:
        """The oldest run of a sweep. Drivers that made one each, at the same time, thus meet in the same one."""
        runs = self._connection.runs(f"tags.`{keys.SWEEP}` = '{sweep}'")
        if len(runs) > 1:
            log.warning("Sweep %s has %d runs; %s is used.", sweep, len(runs), runs[0].run_id)
        return runs[0] if runs else None

    def _begin(self, sweep: str, task: Task, method: MethodChoice, credit: Credit | None) -> StoredRun:
        tags = {
            keys.SWEEP: sweep,
            keys.TASK: task.name,
            keys.TASK_DIGEST: task.digest,
            keys.METHOD: method.name,
            keys.METHOD_DIGEST: method.method_digest,
            keys.TRACK: task.track,
            **(credit.tags() if credit else {}),
        }
        self._connection.create_run(f"{task.name}: {method.label}", tags)
        run = self._find(sweep)
        assert run is not None, "a run that was made cannot be found"
        return run

    def _complete(
        self,
        run: StoredRun,
        task: Task,
        method: MethodChoice,
        k_range: tuple[int, int] | None,
        full_dimension: int,
        extra_tags: Mapping[str, str],
    ) -> None:
        """Write what describes the sweep, where it is not there yet: a driver may have died before it could."""
        params = {
            name: value for name, value in summary.parameters(task, method).items() if name not in run.params and value
        }
        tags = {keys.FULL_DIMENSION: str(full_dimension), **extra_tags}
        if k_range is not None or keys.K_LOW not in run.tags:
            low, high = k_range or (1, full_dimension)
            tags |= {keys.K_LOW: str(low), keys.K_HIGH: str(high)}
        if keys.DESCRIBED not in run.tags:
            files = {
                keys.TASK_FILE: task.model_dump_json(indent=2).encode(),
                keys.METHOD_FILE: method.model_dump_json(indent=2).encode(),
            }
            self._connection.upload(run.run_id, "", files)
            if data := summary.data_input(task):
                self._connection.add_input(run.run_id, *data)
            tags[keys.NOTE] = views.described(f"{method.label} on {task.name}: no threshold yet.", run.run_id)
            tags[keys.DESCRIBED] = "yes"  # last: files that were cut short are stored again
        new = {name: value for name, value in tags.items() if run.tags.get(name) != value}
        if params or new:
            self._connection.write(run.run_id, params=params, tags=new)


def read_sweep(source: Source, run: StoredRun) -> StoredSweep:
    """What a run holds. Raises KeyError, `LowdimError` or ValueError where it is not what was written."""
    task = Task.from_json(_file(source, run, keys.TASK_FILE), keys.TASK_FILE)
    method = MethodChoice.from_json(_file(source, run, keys.METHOD_FILE), keys.METHOD_FILE)
    method_digest = run.tags[keys.METHOD_DIGEST]
    # An installed method is not imported to be shown: its package may be elsewhere, or changed, since it was measured.
    altered = not method.origin and method.method_digest != method_digest
    if altered or keys.sweep_id(task.digest, method_digest) != run.tags[keys.SWEEP]:
        raise UserError(
            f"its {keys.TASK_FILE} and {keys.METHOD_FILE} are not those of sweep {run.tags[keys.SWEEP]}; they were "
            "altered, or this version of lowdim-bench reads them otherwise"
        )
    k_low, k_high, full_dimension = (int(run.tags[key]) for key in (keys.K_LOW, keys.K_HIGH, keys.FULL_DIMENSION))
    if not 1 <= k_low <= k_high <= full_dimension:
        raise UserError(f"its range of k, {k_low} to {k_high} of {full_dimension}, is none; its tags were altered")
    raw = {folder: source.download(run.run_id, folder) for folder in (keys.TRIALS, keys.FAILURES)}
    trials, failures = (trial_files.decode(raw[folder], f"run {run.run_id}: {folder}") for folder in raw)
    certificates = source.names(run.run_id, keys.CERTIFICATES)
    status = run.tags.get(keys.STATUS, "running")
    return StoredSweep(
        run_id=run.run_id,
        task=task,
        method=method,
        status=status,
        failure=run.tags.get(keys.FAILURE, ""),
        k_low=k_low,
        k_high=k_high,
        full_dimension=full_dimension,
        # A sweep that failed as a whole has no threshold: its failures say nothing of k.
        results=tuple(trial_files.standing(trials, {} if status == "failed" else failures)),
        method_digest=method_digest,
        first_replicate=int(run.tags.get(keys.FIRST_REPLICATE, "0")),
        example_count=_number(run.tags.get(keys.EXAMPLES)),
        forward_operations=_number(run.tags.get(keys.OPERATIONS)),
        credit=Credit.of(run.tags),
        predictions=_predictions(run.tags.get(keys.PREDICTION)),
        verified=verified(run.tags, state_of(run.tags, raw[keys.TRIALS], raw[keys.FAILURES], certificates)),
    )


def _file(source: Source, run: StoredRun, name: str) -> bytes:
    """Raises KeyError where the run has no such file."""
    return source.download(run.run_id, name)[name]


def _only(runs: Sequence[StoredRun], name: str, where: str) -> StoredRun:
    matching = [run for run in runs if name and run.run_id.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    known = ", ".join(run.run_id[:8] for run in runs) or "(none)"
    problem = f"{len(matching)} runs begin with" if matching else "There is no run that begins with"
    raise UserError(f"{problem} '{name}' in {where}. Runs: {known}. `lowdim-bench rank` shows them too.")


def _predictions(text: str | None) -> Predictions | None:
    """None where there are none, or not as they were written: nothing rests on them."""
    if text is None:
        return None
    try:
        return Predictions.model_validate_json(text)
    except ValidationError:
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text else None
