"""The connection to MLflow: opened with care, patient once it stands, and plain data in both directions."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from lowdim_bench.errors import InfrastructureError, UserError
from lowdim_bench.settings import Settings, why_unreachable
from lowdim_bench.tracking.keys import EXPERIMENT, lock_file
from lowdim_bench.tracking.views import experiment_tags

T = TypeVar("T")
RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

SCHEMA_PATIENCE = 300.0
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Seconds between tries while a store that has answered before does not: long enough for a server to be restarted."""
PASSING = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}
FETCHING = PASSING | {"RESOURCE_DOES_NOT_EXIST"}
"""While files are fetched that were listed before: MLflow says of every failure there, a server's restart too, that they do not
exist."""
REFUSED = {"PERMISSION_DENIED", "UNAUTHENTICATED"}
METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100
LONGEST_VALUE = 500


@dataclass(frozen=True)
class StoredRun:
    """One MLflow run, as plain data."""

    run_id: str
    status: str
    started: int
    """Milliseconds since 1970."""
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    """The latest value of each."""


@dataclass(frozen=True)
class Point:
    """One value of one metric."""

    name: str
    value: float | None
    step: int = 0


class Connection:
    """One experiment of one MLflow store. All methods but the first raise `InfrastructureError` when the store is gone."""

    def __init__(self, settings: Settings, experiment: str = EXPERIMENT, *, make: bool = True) -> None:
        """`make`: make the experiment where there is none; else there are no runs. Raises `UserError` where the store cannot
        be reached, or made."""
        self.where = settings.shown_tracking_uri
        self._name = experiment
        self._settings = settings
        self._in_haste = False
        for name in ("alembic", "mlflow.store.db.utils"):  # they tell of every table, on stderr
            logging.getLogger(name).setLevel(logging.WARNING)
        # Ctrl-C in the middle of a query leaves a cursor that cannot be closed, which it would tell with a traceback.
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
        _check_reachable(settings)
        try:
            with FileLock(lock_file(settings, "schema"), timeout=SCHEMA_PATIENCE):
                # Processes that make the schema at the same time leave a database that can never be opened again.
                _write_ahead(settings)
                self._client = MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.tracking_uri)
                self._experiment = self._open_experiment(make=make)
        except Timeout:
            raise UserError(
                f"Another process has been opening the tracking store {self.where} for {SCHEMA_PATIENCE:.0f} s. Wait for it "
                f"to end, or stop it; it holds {lock_file(settings, 'schema')}."
            ) from None
        except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
            if isinstance(error, MlflowException) and error.get_http_status_code() == 401:
                raise UserError(
                    f"The MLflow server {self.where} refuses this machine: no name and password, or not the right ones. Put "
                    "them into ~/.mlflow/credentials (`lowdim-bench serve` says where it keeps them), or into "
                    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
                ) from None
            if isinstance(error, MlflowException) and error.error_code in REFUSED:
                raise UserError(self._refusal(f"opening the experiment '{experiment}'", error)) from None
            raise UserError(
                f"The tracking store {self.where} cannot be opened: {error}. Correct --tracking-uri or "
                "LOWDIM_BENCH_TRACKING_URI, or leave it out to use mlflow.db in this folder."
            ) from error

    @contextlib.contextmanager
    def in_haste(self) -> Iterator[None]:
        """Within, every call is made once: for what is done on the way out. Raises `InfrastructureError` when the server is
        not there at all, which MLflow would take several seconds a call to say."""
        try:
            _check_reachable(self._settings)
        except UserError as error:
            raise InfrastructureError(str(error)) from None
        self._in_haste = True
        try:
            yield
        finally:
            self._in_haste = False

    def runs(self, condition: str) -> list[StoredRun]:
        """Runs of the experiment that satisfy a filter of MLflow, oldest first."""
        found: list[StoredRun] = []
        token: str | None = None
        if not self._experiment:
            return found
        while True:
            page = self._patiently(
                "searching runs",
                lambda token=token: self._client.search_runs(
                    [self._experiment],
                    condition,
                    max_results=500,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                ),
            )
            found += [plain_run(run) for run in page]
            if not (token := page.token):
                return found

    def run(self, run_id: str) -> StoredRun:
        return plain_run(self._patiently("reading a run", lambda: self._client.get_run(run_id)))

    def create_run(self, name: str, tags: Mapping[str, str]) -> StoredRun:
        made = self._patiently(
            "making a run", lambda: self._client.create_run(self._experiment, run_name=name, tags=dict(tags))
        )
        return plain_run(made)

    def write(
        self,
        run_id: str,
        *,
        points: Iterable[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        timestamp: int | None = None,
    ) -> None:
        """Metrics, parameters and tags in as few calls as can be. What is not a finite number never becomes a metric:
        MLflow would store infinity as the largest number there is, and rank it first."""
        when = timestamp if timestamp is not None else int(time.time() * 1000)
        metrics = [
            Metric(point.name, float(point.value), when, point.step)
            for point in points
            if point.value is not None and math.isfinite(point.value)
        ]
        new_params = [Param(name, value[:LONGEST_VALUE]) for name, value in (params or {}).items()]
        new_tags = [RunTag(name, value) for name, value in (tags or {}).items()]
        calls = max(1, -(-len(metrics) // METRICS_PER_CALL), -(-len(new_params) // PARAMS_PER_CALL))
        for call in range(calls):
            some_metrics = metrics[call * METRICS_PER_CALL : (call + 1) * METRICS_PER_CALL]
            some_params = new_params[call * PARAMS_PER_CALL : (call + 1) * PARAMS_PER_CALL]
            some_tags = new_tags if call == 0 else []
            self._patiently(
                "writing a run",
                lambda m=some_metrics, p=some_params, t=some_tags: self._client.log_batch(run_id, m, p, t),
            )

    def delete_tag(self, run_id: str, name: str) -> None:
        self._patiently("releasing a run", lambda: self._client.delete_tag(run_id, name))

    def add_input(self, run_id: str, name: str, digest: str, source: str) -> None:
        """Name the training data of a run, for MLflow's column of data sets."""
        given = DatasetInput(Dataset(name, digest, "local", source), [InputTag("mlflow.data.context", "training")])
        self._patiently("naming the data", lambda: self._client.log_inputs(run_id, datasets=[given]))

    def set_status(self, run_id: str, status: RunStatus) -> None:
        if status == "RUNNING":
            self._patiently("marking a run", lambda: self._client.update_run(run_id, status=status))
        else:
            self._patiently("ending a run", lambda: self._client.set_terminated(run_id, status=status))

    def upload(self, run_id: str, folder: str, files: Mapping[str, bytes]) -> None:
        """Store files under a folder of the run ('' for its top). Each is complete on disk before MLflow sees it."""
        with tempfile.TemporaryDirectory(prefix="lowdim-") as scratch:

            def store() -> None:
                for name, content in files.items():
                    (Path(scratch) / name).write_bytes(content)  # here too the disk may be full for a while
                self._client.log_artifacts(run_id, scratch, folder or None)  # one call: each looks the run up anew

            self._patiently(f"storing {', '.join(files)}", store)

    def names(self, run_id: str, folder: str = "") -> set[str]:
        """Names of the files in a folder of a run, without the folder."""
        listed = self._patiently("listing files", lambda: self._client.list_artifacts(run_id, folder or None))
        return {Path(item.path).name for item in listed if not item.is_dir}

    def download(self, run_id: str, path: str) -> dict[str, bytes]:
        """The files of a folder of a run, or one file, by name; empty where there is none."""
        folder, _, name = path.rpartition("/") if "." in path else (path, "", "")
        there = self.names(run_id, folder)
        if not there or (name and name not in there):
            return {}
        with tempfile.TemporaryDirectory(prefix="lowdim-") as scratch:
            local = Path(
                self._patiently(
                    f"fetching {path}", lambda: self._client.download_artifacts(run_id, path, scratch), FETCHING
                )
            )
            files = [local] if local.is_file() else [local / name for name in there]
            return {file.name: file.read_bytes() for file in files if file.is_file()}

    @contextlib.contextmanager
    def everything(self, run_id: str) -> Iterator[Path]:
        """A folder with all files of a run, as long as the context lasts; an empty one where it has none."""
        with tempfile.TemporaryDirectory(prefix="lowdim-") as scratch:
            there = self._patiently("listing files", lambda: self._client.list_artifacts(run_id))
            if there:
                self._patiently(
                    "fetching all files", lambda: self._client.download_artifacts(run_id, "", scratch), FETCHING
                )
            yield Path(scratch)

    def _open_experiment(self, *, make: bool) -> str:
        """Its identifier; empty where there is none and none is to be made."""
        found = self._client.get_experiment_by_name(self._name)
        if found is None and not make:
            return ""
        if found is None:
            tags = experiment_tags(self._name)
            with contextlib.suppress(MlflowException):  # another driver may have made it meanwhile
                self._client.create_experiment(self._name, self._settings.artifact_location, tags)
            found = self._client.get_experiment_by_name(self._name)
        if found is None:
            raise UserError(f"The tracking store {self.where} refuses to make the experiment '{self._name}'.")
        self._check_experiment(found)
        return found.experiment_id

    def _check_experiment(self, experiment: Experiment) -> None:
        if experiment.lifecycle_stage != "active":
            raise UserError(
                f"The experiment '{self._name}' of {self.where} is deleted. Restore it with "
                f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, or use another store."
            )
        place = urlsplit(experiment.artifact_location)
        if self._settings.is_server and place.scheme in {"", "file"} and not Path(unquote(place.path)).is_dir():
            raise UserError(
                f"The experiment '{self._name}' of {self.where} keeps its files in {experiment.artifact_location}, which is "
                "not on this machine. Use an MLflow server that serves artifacts (the default of `mlflow server`) with a store "
                "of its own."
            )

    def _refusal(self, doing: str, error: MlflowException) -> str:
        return (
            f"The tracking store {self.where} does not let this account do it ({doing}): {error.message}. Ask its "
            "administrator, or set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to an account that may."
        )

    def _patiently(self, doing: str, call: Callable[[], T], passing: AbstractSet[str] = PASSING) -> T:
        """The result of a call, which is tried again while the store does not answer. `passing`: MLflow's codes for that."""
        pauses = iter(() if self._in_haste else PAUSES)
        while True:
            try:
                # A server ends its own transactions, and is not waited for.
                with contextlib.nullcontext() if self._settings.is_server else _interrupted_afterwards():
                    return call()
            except (MlflowException, OSError, SQLAlchemyError) as error:
                if isinstance(error, MlflowException) and error.error_code in REFUSED:
                    raise UserError(self._refusal(doing, error)) from None
                if isinstance(error, MlflowException) and error.error_code not in passing:
                    raise
                pause = None if isinstance(error, PermissionError) else next(pauses, None)
                if pause is None:
                    raise InfrastructureError(
                        f"The tracking store {self.where} failed while {doing}, again and again: {error}. Put it right and "
                        "run the same command again: finished trials are kept."
                    ) from error
                time.sleep(pause)


@contextlib.contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """Within, Ctrl-C is kept for the end; a second one is not.

    In the middle of a transaction it would leave the transaction open, and the database locked for what is yet to be written
    on the way out.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is None or threading.current_thread() is not threading.main_thread():  # never interrupted
        yield
        return
    kept = False

    def keep(*_: object) -> None:
        nonlocal kept
        kept = True
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, keep)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if kept:
            signal.raise_signal(signal.SIGINT)


def plain_run(run: Run) -> StoredRun:
    """A run as plain data."""
    return StoredRun(
        run.info.run_id, run.info.status, run.info.start_time, run.data.tags, run.data.params, run.data.metrics
    )


def _check_reachable(settings: Settings) -> None:
    """A quick look before MLflow's own retries, which take much longer. Raises `UserError`."""
    path = settings.sqlite_path
    if path is not None and not path.parent.is_dir():
        raise UserError(
            f"The tracking store {settings.shown_tracking_uri} cannot be made: there is no folder {path.parent}."
        )
    if not settings.is_server:
        return
    parts = urlsplit(settings.tracking_uri)
    host = parts.hostname or ""
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return  # the way leads through a proxy
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if (why := why_unreachable(host, port)) is not None:
        raise UserError(
            f"The MLflow server {settings.shown_tracking_uri} cannot be reached: {why}. Start it (`mlflow server --host {host} "
            f"--port {port}`), correct --tracking-uri or LOWDIM_BENCH_TRACKING_URI, or leave it out to use mlflow.db in this "
            "folder."
        )


def _write_ahead(settings: Settings) -> None:
    """Let readers of a SQLite store not wait for its writer; the file remembers it."""
    path = settings.sqlite_path
    if path is not None:
        with contextlib.closing(sqlite3.connect(path, timeout=20)) as database:
            database.execute("pragma journal_mode=wal")
