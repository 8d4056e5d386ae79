"""One run as it is stored, for who checks it: tags and raw files, nothing interpreted and nothing left out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from lowdim_bench.environment import Environment
from lowdim_bench.records import Count, TrialResult
from lowdim_bench.specs import Spec, canonical_json, digest_of
from lowdim_bench.tracking import keys
from lowdim_bench.tracking.certificate_files import CertificateFiles

if TYPE_CHECKING:  # MLflow is imported when a store is opened
    from lowdim_bench.tracking.connection import Connection, StoredRun

Verified = Literal["yes", "no", "stale", "not yet"]
"""Of a run: it was recomputed and all was right, or something was wrong; it changed since; it was not recomputed."""


class Verdict(Spec):
    """What a verification leaves on the run that it checked."""

    format: Literal[1] = 1
    correct: bool
    state: str
    """Names what was checked: see `state_of`."""
    time: str
    """When, in UTC, ISO 8601."""
    findings: Count
    certificates: Count
    """How many were recomputed."""
    environment: Environment


@dataclass(frozen=True)
class Contents:
    """Everything that one run holds: what MLflow says of it, and its files in a folder of this machine."""

    run_id: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    root: Path

    def names(self, folder: str) -> set[str]:
        """Names of the files in a folder."""
        return {path.name for path in (self.root / folder).glob("*") if path.is_file()}

    def read(self, path: str) -> bytes | None:
        """The content of one file; None where there is none."""
        return (self.root / path).read_bytes() if (self.root / path).is_file() else None

    @cached_property
    def certificates(self) -> CertificateFiles:
        """Those of its trials."""
        return CertificateFiles(self.root / keys.CERTIFICATES)

    def certificate(self, result: TrialResult) -> bytes | None:
        """The certificate that a result names; None where there is none of that name."""
        return self.certificates.read(keys.certificate_file(result.trial.key, result.certificate or ""))

    def folder(self, name: str) -> dict[str, bytes]:
        """The files of a folder, by name."""
        return {file: (self.root / name / file).read_bytes() for file in sorted(self.names(name))}


class Dossier:
    """One run, to be fetched and checked. Methods raise `InfrastructureError` when the store does not answer."""

    def __init__(self, connection: Connection, run: StoredRun) -> None:
        self.run_id = run.run_id
        self._run, self._connection = run, connection

    @contextmanager
    def fetched(self) -> Iterator[Contents]:
        """All that the run holds, as long as the context lasts."""
        run = self._run
        with self._connection.everything(run.run_id) as root:
            yield Contents(run.run_id, run.tags, run.params, run.metrics, root)

    def record(self, verdict: Verdict) -> None:
        """Keep a verdict, in place of the one before."""
        self._connection.write(self.run_id, tags={keys.VERIFIED: canonical_json(verdict.model_dump(mode="json"))})


def state_of(
    tags: Mapping[str, str], trials: Mapping[str, bytes], failures: Mapping[str, bytes], certificates: Iterable[str]
) -> str:
    """A digest of all that a rank rests on: tags, the content of files of trials, and the names of files of
    certificates, which are named by their content."""
    described = {name: tags[name] for name in keys.RESTED_ON if name in tags}
    files = {
        f"{folder}/{name}": hashlib.sha256(content).hexdigest()
        for folder, contents in (("trials", trials), ("failures", failures))
        for name, content in contents.items()
    }
    return digest_of({"tags": described, "files": files, "certificates": sorted(certificates)})


def verified(tags: Mapping[str, str], state: str) -> Verified:
    """What the verdict on a run says of its present state."""
    if keys.VERIFIED not in tags:
        return "not yet"
    try:
        verdict = Verdict.model_validate_json(tags[keys.VERIFIED])
    except ValidationError:  # not what was written
        return "stale"
    if verdict.state != state:
        return "stale"
    return "yes" if verdict.correct else "no"
