"""Real sweeps, made once by the real driver with a stand-in for Ray's executor alone, and copies of them to tamper with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import safetensors.torch
from torch import Tensor

from lowdim_bench import bench, problems
from lowdim_bench.certificates import Certificate
from lowdim_bench.execution import Finished, Job
from lowdim_bench.execution.worker import run_pack
from lowdim_bench.methods import MethodChoice
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task, canonical_json, digest_of
from lowdim_bench.tracking import Store, certificate_files, keys
from lowdim_bench.verification import Report, Verifier

METHODS = {"cold": "random_subspace", "mask": "imp", "burnt": "burn_in_subspace"}
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="session")
def task() -> Task:
    """Digits on a narrow network: a training takes some ten milliseconds."""
    recipe = {"learning_rate": {"value": 0.05}, "batch_size": 64, "steps": 60}
    return Task.from_data(
        {
            "name": "tiny",
            "problem": {
                "kind": "classification",
                "data": {"kind": "sklearn_digits"},
                "network": {"kind": "mlp", "hidden": [16]},
            },
            "training": recipe | {"optimizer": {"kind": "adam"}, "evaluate_every": 20},
            "full_training": recipe | {"optimizer": {"kind": "sgd", "momentum": 0.9}},
            "targets": [{"metric": "train_loss", "at_most": 1.5}, {"metric": "train_loss", "at_most": 1.0}],
            "threshold": {"k_max": 1000, "precision": 1.6, "minimum_replicates": 8, "trials": 40},
            "preparation": {"gradient_evaluations": 2000},
        },
        "task of a test",
    )


@pytest.fixture(scope="session")
def problem(task: Task) -> problems.Problem:
    return problems.build(task, problems.load_arrays(task, Settings.resolve().data_root))


class _HereAndNow:
    """An executor that runs each job in this process as soon as it is waited for."""

    workers = 2

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs: list[Job] = []
        self._problem: problems.Problem | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def wait(self, timeout: float | None = None) -> list[Finished]:
        job = self._jobs.pop(0)
        if self._problem is None:
            self._problem = problems.build(job.task, problems.load_arrays(job.task, self._settings.data_root))
        answer = run_pack(self._problem, job.task, job.method, job.trials)
        return [Finished(job, tuple(answer.results), None, 1, answer.certificates)]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, task: Task) -> Path:
    """The folder of a store with one finished sweep of each of three methods."""
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "Executor", _HereAndNow)
        states = bench.run_sweeps(settings_of(folder), [task], [MethodChoice(name=name) for name in METHODS.values()])
    assert [state.failure for state in states] == [""] * len(METHODS)
    return folder


def settings_of(folder: Path) -> Settings:
    return Settings.resolve(tracking_uri=f"sqlite:///{folder}/mlflow.db", state_dir=folder / "state")


@pytest.fixture(scope="session")
def below(tmp_path_factory: pytest.TempPathFactory, task: Task) -> Run:
    """A finished sweep whose threshold lies below all k, which its first round could not tell yet."""
    folder = tmp_path_factory.mktemp("below")
    changes = {
        "name": "easy",
        "targets": [{"metric": "train_loss", "at_most": 1.9}],
        "threshold": {"k_max": 1000, "precision": 1.3, "minimum_replicates": 16, "trials": 60},
    }
    easy = Task.from_data(task.model_dump(mode="json") | changes, "a task")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "Executor", _HereAndNow)
        (state,) = bench.run_sweeps(settings_of(folder), [easy], [MethodChoice(name="burn_in_subspace")])
    assert state.estimate is not None
    assert state.estimate.status == "below_range"
    with Store(settings_of(folder)) as store:
        (sweep,) = store.sweeps()
    return Run(folder, sweep.run_id)


@dataclass(frozen=True)
class Run:
    """One stored run and what somebody with every right to the store can do to it."""

    store: Path
    run_id: str

    @property
    def folder(self) -> Path:
        (found,) = self.store.glob(f"mlartifacts/**/{self.run_id}/artifacts")
        return found

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.store / "mlflow.db")) as database, database:
            return database.execute(statement, values).fetchall()

    def set_tag(self, name: str, value: str) -> None:
        self.sql("DELETE FROM tags WHERE run_uuid = ? AND key = ?", self.run_id, name)
        self.sql("INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)", self.run_id, name, value)

    def tag(self, name: str) -> str:
        return self.sql("SELECT value FROM tags WHERE run_uuid = ? AND key = ?", self.run_id, name)[0][0]

    def set_metric(self, name: str, value: float) -> None:
        for table in ("metrics", "latest_metrics"):
            self.sql(f"UPDATE {table} SET value = ? WHERE run_uuid = ? AND key = ?", value, self.run_id, name)

    def results(self) -> list[dict[str, Any]]:
        return [result for path in self._trial_files() for result in json.loads(path.read_text())["results"]]

    def key(self, *, reached: bool, which: int = 0) -> str:
        """The key of one of the trials that reached the ranked target, or did not; by k, the largest first."""
        found = [one["trial"] for one in self.results() if one["outcomes"][-1]["reached"] == reached]
        trial = sorted(found, key=lambda one: (-one["k"], one["replicate"]))[which]
        return f"k{trial['k']}-r{trial['replicate']}"

    def result(self, key: str) -> dict[str, Any]:
        return next(one for one in self.results() if _key(one) == key)

    def edit_trials(self, edit: Callable[[list[dict[str, Any]]], None], holding: str) -> None:
        """Edit the results of the file that holds a trial, and name the file by its new content."""
        path = self.file_of(holding)
        data = json.loads(path.read_text())
        edit(data["results"])
        path.unlink()
        self.write_trials(data["results"], path.name[:10])

    def write_trials(self, results: Sequence[dict[str, Any]], prefix: str) -> None:
        content = canonical_json({"format": 1, "results": results}).encode()
        name = f"{prefix}-{hashlib.sha256(content).hexdigest()[:12]}.json"
        (self.folder / "trials" / name).write_bytes(content)

    def edit_trial(self, key: str, edit: Edit) -> None:
        self.edit_trials(lambda results: edit(next(one for one in results if _key(one) == key)), key)

    def file_of(self, key: str) -> Path:
        return next(
            path
            for path in self._trial_files()
            if key in [_key(one) for one in json.loads(path.read_text())["results"]]
        )

    def part_certificates(self) -> None:
        """Give every certificate that shares a file with others one of its own, as large ones have."""
        folder = self.folder / "certificates"
        for path in folder.glob("together-*"):
            for name, content in certificate_files.decode(path.name, path.read_bytes()).items():
                (folder / name).write_bytes(content)
            path.unlink()

    def share_certificates(self, edit: Callable[[dict[str, bytes]], object]) -> Path:
        """Edit the certificates of one shared file, and name it by its new content."""
        path = self.shared_certificates()
        held = certificate_files.decode(path.name, path.read_bytes())
        edit(held)
        path.unlink()
        ((name, content),) = certificate_files.encode(held).items()
        changed = path.with_name(name)
        changed.write_bytes(content)
        return changed

    def shared_certificates(self) -> Path:
        """A file of several certificates: the largest."""
        return max(self.folder.glob("certificates/together-*"), key=lambda path: (path.stat().st_size, path.name))

    def certificate(self, key: str) -> Path:
        self.part_certificates()
        (found,) = self.folder.glob(f"certificates/{key}-*.safetensors")
        return found

    def put_certificate(self, key: str, content: bytes) -> None:
        """Put another certificate in the place of a trial's, and name it everywhere by its content."""
        self.part_certificates()
        for path in self.folder.glob(f"certificates/{key}-*.safetensors"):
            path.unlink()
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / "certificates").mkdir(exist_ok=True)
        (self.folder / "certificates" / keys.certificate_file(key, digest)).write_bytes(content)
        self.edit_trial(key, lambda result: result.update(certificate=digest))

    def edit_certificate(
        self, key: str, claim: Edit | None = None, tensors: Callable[[dict[str, Tensor]], object] | None = None
    ) -> None:
        """Forge a trial's certificate so that every hash fits."""
        certificate = Certificate.from_bytes(self.certificate(key).read_bytes())
        said, held = certificate.claim.model_dump(mode="json"), dict(certificate.tensors)
        if claim:
            claim(said)
        if tensors:
            tensors(held)
        self.put_certificate(key, safetensors.torch.save(held, {"certificate": canonical_json(said)}))

    def edit_json(self, name: str, edit: Edit) -> None:
        path = self.folder / name
        data = json.loads(path.read_text())
        edit(data)
        path.write_text(canonical_json(data))
        if name == keys.THRESHOLD_FILE:
            self.set_tag(keys.THRESHOLD_DIGEST, digest_of(data))

    def _trial_files(self) -> list[Path]:
        return sorted((self.folder / "trials").glob("*.json"))


def _key(result: dict[str, Any]) -> str:
    return f"k{result['trial']['k']}-r{result['trial']['replicate']}"


@dataclass(frozen=True)
class Copy:
    """A store of one's own with the three sweeps."""

    folder: Path
    runs: dict[str, Run]

    def __getitem__(self, name: str) -> Run:
        return self.runs[name]


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Copy:
    folder = tmp_path / "copy"
    shutil.copytree(original, folder)
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        old, new = original.as_uri(), folder.as_uri()
        database.execute("UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)", (old, new))
        database.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)", (old, new))
        found = database.execute("SELECT value, run_uuid FROM tags WHERE key = ?", (keys.METHOD,)).fetchall()
    by_method = {method: Run(folder, run_id) for method, run_id in found}
    return Copy(folder, {name: by_method[method] for name, method in METHODS.items()})


@pytest.fixture(scope="session")
def verifier(original: Path) -> Verifier:
    """Keeps the problem from one test to the next."""
    return Verifier(settings_of(original).data_root, "none")


@pytest.fixture(scope="session")
def spot_checker(original: Path) -> Verifier:
    """Looks at one of the five parts of the digits for each certificate."""
    return Verifier(settings_of(original).data_root, "none", sample=0.1)


@pytest.fixture
def spot_check(spot_checker: Verifier) -> Callable[[Run], Report]:
    def run(one: Run) -> Report:
        (dossier,) = Store(settings_of(one.store)).dossiers([one.run_id])
        return spot_checker.verify(dossier)

    return run


@pytest.fixture
def verify(verifier: Verifier) -> Callable[[Run], Report]:
    def run(one: Run) -> Report:
        (dossier,) = Store(settings_of(one.store)).dossiers([one.run_id])
        return verifier.verify(dossier)

    return run
