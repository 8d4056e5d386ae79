"""The records of claims: one run for each claim, scale and attempt, in an experiment of their own.

What was measured is kept in immutable JSON files named by their content, what it came to in verdict.json. Plain data here: what
claims are is known above.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from lowdim_bench.settings import Settings, prepare_environment
from lowdim_bench.specs import canonical_json
from lowdim_bench.tracking import keys
from lowdim_bench.tracking.run_log import Right, RunLog, taking

if TYPE_CHECKING:  # MLflow is imported when a store is opened
    from lowdim_bench.tracking.connection import Connection, StoredRun
    from lowdim_bench.tracking.store import Source

DECIDED = "decided"
"""The status of a run whose verdict is stored."""
WHICH = f"tags.`{keys.STATUS}` = '{DECIDED}'"
"""Runs that are decided, as a filter of MLflow."""
_NAME = re.compile(r"([a-z0-9][a-z0-9._-]*)-([0-9a-f]{12})\.json")
LARGEST = 64 * 2**20

log = logging.getLogger(__name__)

Measured = Mapping[int, Mapping[str, Any]]
"""By replicate."""


@dataclass(frozen=True)
class Identity:
    """What a run is of."""

    name: str
    digest: str
    """Of everything that decides its numbers."""
    scale: str
    description: str


@dataclass(frozen=True)
class StoredVerdict:
    """The verdict of one run, as it was written."""

    run_id: str
    digest: str
    content: bytes


class ClaimStore:
    """The claims of an open tracking store. Raises `UserError` where it cannot be reached, or made."""

    def __init__(self, settings: Settings) -> None:
        prepare_environment(settings)
        from lowdim_bench.tracking.connection import Connection

        self._settings = settings
        self._connection: Connection = Connection(settings, keys.CLAIMS_EXPERIMENT)

    def open(self, one: Identity, *, again: bool = False) -> ClaimLog:
        """The newest attempt at a claim, begun or continued, and the sole right to add to it until it is closed.

        `again`: begin a new attempt where the newest is decided. Raises `UserError`, naming the holder, where another driver
        has it.
        """
        with taking(self._settings, self._connection, f"claim-{one.digest}", f"Claim {one.name}") as take:
            run = self._newest(one.digest)
            if run is None or (again and run.tags.get(keys.STATUS) == DECIDED):
                run = self._begin(one, 0 if run is None else _attempt(run) + 1)
            return ClaimLog(self._connection, run, take(run.run_id))

    def verdicts(self) -> list[StoredVerdict]:
        """The verdict of the newest decided attempt of each digest, oldest first."""
        return newest_verdicts(self._connection.runs(WHICH), self._connection)

    def _newest(self, digest: str) -> StoredRun | None:
        """Of the newest attempt the oldest run: drivers that began it at the same time meet in the same one."""
        runs = self._connection.runs(f"tags.`{keys.CLAIM_DIGEST}` = '{digest}'")
        newest = max(map(_attempt, runs), default=0)
        return next((run for run in runs if _attempt(run) == newest), None)

    def _begin(self, one: Identity, attempt: int) -> StoredRun:
        tags = {
            keys.CLAIM: one.name,
            keys.CLAIM_DIGEST: one.digest,
            keys.SCALE: one.scale,
            keys.ATTEMPT: str(attempt),
            keys.NOTE: one.description,
        }
        self._connection.create_run(f"{one.name} ({one.scale})", tags)
        run = self._newest(one.digest)
        assert run is not None, "a run that was made cannot be found"
        return run


def recorded_verdicts(settings: Settings) -> list[StoredVerdict]:
    """As `ClaimStore.verdicts`, for who only reads: where no claim was measured, none are there and nothing is made."""
    prepare_environment(settings)
    from lowdim_bench.tracking.connection import Connection

    connection = Connection(settings, keys.CLAIMS_EXPERIMENT, make=False)
    return newest_verdicts(connection.runs(WHICH), connection)


def newest_verdicts(runs: Sequence[StoredRun], source: Source) -> list[StoredVerdict]:
    """Of decided runs, oldest first, those of the newest attempt at each digest."""
    newest: dict[str, StoredRun] = {}
    for run in runs:
        digest = run.tags.get(keys.CLAIM_DIGEST, "")
        if digest not in newest or _attempt(run) > _attempt(newest[digest]):
            newest.pop(digest, None)
            newest[digest] = run
    found = []
    for digest, run in newest.items():
        files = source.download(run.run_id, keys.VERDICT_FILE)
        if keys.VERDICT_FILE in files:
            found.append(StoredVerdict(run.run_id, digest, files[keys.VERDICT_FILE]))
    return found


@final
class ClaimLog(RunLog):
    """What was measured of one claim. Made by `ClaimStore.open`; close it at the end."""

    def __init__(self, connection: Connection, run: StoredRun, claim: Right) -> None:
        super().__init__(connection, run, claim)
        files = connection.download(self.run_id, keys.PARTS) if self._status else {}
        self._parts: dict[str, dict[int, Mapping[str, Any]]] = {}
        for name, measured in _decode(files, f"run {self.run_id}: {keys.PARTS}"):
            self._parts.setdefault(name, {}).update(measured)
        if not self.decided:
            self._begin(marked=run.status == "RUNNING")

    @property
    def decided(self) -> bool:
        """Whether its verdict is stored."""
        return self._status == DECIDED

    def measured(self, part: str) -> Measured:
        """What is kept of a part."""
        return self._parts.get(part, {})

    def append(self, part: str, measured: Measured) -> None:
        """Keep what was measured of some replicates, in one immutable file."""
        self._lease.confirm()
        plain = {"format": 1, "replicates": {str(replicate): measured[replicate] for replicate in measured}}
        content = canonical_json(plain).encode()
        self._connection.upload(self.run_id, keys.PARTS, {f"{part}-{_hash(content)}.json": content})
        self._parts.setdefault(part, {}).update(measured)

    def decide(self, verdict: str, record: bytes, metrics: Mapping[str, float], note: str) -> None:
        """Keep what the claim comes to: `record` as verdict.json, with metrics and one sentence."""
        from lowdim_bench.tracking.connection import Point

        self._connection.upload(self.run_id, "", {keys.VERDICT_FILE: record})
        points = [Point(name, value) for name, value in metrics.items()]
        self._connection.set_status(self.run_id, "FINISHED")
        tags = {keys.NOTE: note, keys.VERDICT: verdict, keys.STATUS: DECIDED}
        self._connection.write(self.run_id, points=points, tags=tags)  # last: what is cut short before is done again
        self._status = DECIDED


def _attempt(run: StoredRun) -> int:
    text = run.tags.get(keys.ATTEMPT, "0")
    return int(text) if text.isdecimal() else 0


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _decode(files: Mapping[str, bytes], source: str) -> Sequence[tuple[str, Measured]]:
    """Parts by name. What is not as it was written is left out with a warning: it is measured again."""
    found = []
    for name in sorted(files):
        match = _NAME.fullmatch(name)
        if match is None or len(files[name]) > LARGEST or _hash(files[name]) != match[2]:
            log.warning("%s/%s is left out, and measured again: it is torn or was altered", source, name)
            continue
        replicates = json.loads(files[name])["replicates"]
        found.append((match[1], {int(replicate): values for replicate, values in replicates.items()}))
    return found
