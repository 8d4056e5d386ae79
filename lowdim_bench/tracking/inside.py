"""The store as MLflow's own server process sees it: read without a request to itself, and again only where it changed."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lowdim_bench.errors import LowdimError
from lowdim_bench.specs import digest_of
from lowdim_bench.tracking import keys
from lowdim_bench.tracking.claim_log import WHICH, StoredVerdict, newest_verdicts
from lowdim_bench.tracking.store import LEFT_OUT, StoredSweep, read_sweep

if TYPE_CHECKING:  # MLflow's server is imported by the server alone
    from mlflow.entities import Experiment
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    from lowdim_bench.tracking.connection import StoredRun

_PAGE = 500
_UNTOLD = frozenset({keys.DRIVER})
"""Tags that change all the time and say nothing of a result: the heartbeat of a driver."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remembered:
    """A run as it was last read: what named its state, and the sweep; None where it could not be read."""

    state: str
    sweep: StoredSweep | None


class LiveStore:
    """All sweeps of the server that this process is. Not safe for several threads at once.

    MLflow's errors pass through: in a server they are bugs or a database that is away, and its log is where they belong.
    """

    where = "this server"

    def __init__(self) -> None:
        self._remembered: dict[str, Remembered] = {}
        self._verdicts: dict[str, dict[str, bytes]] = {}
        """Files of decided claims by run, which do not change any more."""
        self._roots: dict[str, str] = {}
        """Where the files of each run are."""

    def sweeps(self) -> Sequence[StoredSweep]:
        """All sweeps, oldest first, the same objects as long as they are unchanged. What cannot be read is left out, and
        logged once."""
        remembered: dict[str, Remembered] = {}
        for run in self._runs(keys.EXPERIMENT, f"tags.`{keys.SWEEP}` LIKE '%'"):
            state = self._state(run)
            known = self._remembered.get(run.run_id)
            remembered[run.run_id] = (
                known if known is not None and known.state == state else Remembered(state, self._read(run))
            )
        self._remembered = remembered
        return [one.sweep for one in remembered.values() if one.sweep is not None]

    def verdicts(self) -> list[StoredVerdict]:
        """What each claim came to, in the newest attempt at each digest, oldest first."""
        return newest_verdicts(self._runs(keys.CLAIMS_EXPERIMENT, WHICH), _Kept(self, self._verdicts))

    def experiment_id(self) -> str | None:
        """MLflow's identifier of the experiment that holds all sweeps; None before the first."""
        found = self._experiment(keys.EXPERIMENT)
        return None if found is None else found.experiment_id

    def names(self, run_id: str, folder: str = "") -> set[str]:
        """Names of the files in a folder of a run, without the folder."""
        repository, root = self._files(run_id)
        listed = repository.list_artifacts(str(root / folder))
        return {PurePosixPath(item.path).name for item in listed if not item.is_dir}

    def download(self, run_id: str, path: str) -> dict[str, bytes]:
        """The files of a folder of a run, or one file, by name; empty where there is none."""
        folder, _, name = path.rpartition("/") if "." in path else (path, "", "")
        there = self.names(run_id, folder)
        wanted = sorted(there) if not name else [name] if name in there else []
        repository, root = self._files(run_id)
        found: dict[str, bytes] = {}
        with tempfile.TemporaryDirectory(prefix="lowdim-") as scratch:
            for file in wanted:
                found[file] = Path(repository.download_artifacts(str(root / folder / file), scratch)).read_bytes()
        return found

    def _experiment(self, name: str) -> Experiment | None:
        from mlflow.server.handlers import _get_tracking_store

        return _get_tracking_store().get_experiment_by_name(name)

    def _runs(self, name: str, which: str) -> list[StoredRun]:
        from mlflow.entities import ViewType
        from mlflow.server.handlers import _get_tracking_store

        from lowdim_bench.tracking.connection import plain_run

        experiment = self._experiment(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            return []
        found: list[StoredRun] = []
        token: str | None = None
        while True:
            page = _get_tracking_store().search_runs(
                [experiment.experiment_id],
                which,
                ViewType.ACTIVE_ONLY,
                _PAGE,
                ["attributes.start_time ASC"],
                token,
            )
            self._roots |= {run.info.run_id: run.info.artifact_uri for run in page}
            found += [plain_run(run) for run in page]
            if not (token := page.token):
                return found

    def _state(self, run: StoredRun) -> str:
        """Names all that a sweep is read from. Files are listed while trials are added to them; then its tags tell."""
        tags = {name: value for name, value in run.tags.items() if name not in _UNTOLD}
        under_way = run.tags.get(keys.STATUS) not in keys.FINAL
        files = [sorted(self.names(run.run_id, folder)) for folder in (keys.TRIALS, keys.FAILURES)] if under_way else []
        return digest_of({"tags": tags, "metrics": dict(run.metrics), "files": files})

    def _read(self, run: StoredRun) -> StoredSweep | None:
        try:
            return read_sweep(self, run)
        except KeyError as error:
            log.warning(LEFT_OUT, run.run_id, self.where, f"it has no {error}")
        except (LowdimError, ValueError) as error:
            log.warning(LEFT_OUT, run.run_id, self.where, error)
        return None

    def _files(self, run_id: str) -> tuple[ArtifactRepository, PurePosixPath]:
        """Where the files of a run are kept: a repository that this process can read, and the folder of the run in it."""
        from mlflow.server import handlers
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        root = self._roots[run_id]
        if not handlers._is_servable_proxied_run_artifact_root(root):  # noqa: SLF001 - what its own routes use
            return get_artifact_repository(root), PurePosixPath()
        path = handlers._get_proxied_run_artifact_destination_path(root)  # noqa: SLF001
        return handlers._get_artifact_repo_mlflow_artifacts(), PurePosixPath(path)  # noqa: SLF001


class _Kept:
    """Files of a store, each read once."""

    def __init__(self, store: LiveStore, kept: dict[str, dict[str, bytes]]) -> None:
        self._store, self._kept = store, kept

    def names(self, run_id: str, folder: str = "") -> set[str]:
        return self._store.names(run_id, folder)

    def download(self, run_id: str, path: str) -> dict[str, bytes]:
        if run_id not in self._kept:
            self._kept[run_id] = self._store.download(run_id, path)
        return self._kept[run_id]
