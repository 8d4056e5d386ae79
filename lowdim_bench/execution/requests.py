"""What is sent to a cluster: the content of a submission, its tasks and where results go. It is kept on this machine, so that
the same thing can be sent again after the cluster has forgotten it. Pure: knows nothing of Ray."""

from __future__ import annotations

import hashlib
import json
import secrets
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from lowdim_bench.errors import UserError
from lowdim_bench.specs import digest_of

# Neither can be the name of a module: the folder they lie in is the first place where the driver and its workers look for one.
SUBMISSION = "the-submission"
TASKS = "task-files"
BUNDLE = "bundle"
_NOTE = "request.json"


@dataclass(frozen=True)
class Request:
    """A submission to be measured on tasks, with results recorded in one tracking store."""

    name: str
    files: Mapping[str, bytes]
    """What is sent, by relative path: the submission below `the-submission/`, task files below `task-files/`."""
    tasks: tuple[str, ...]
    """Names of shipped tasks, or paths of files that are sent."""
    task_digests: tuple[str, ...]
    tracking_uri: str
    environment: Mapping[str, str] = field(default_factory=dict)
    """How it shall run (LOWDIM_BENCH_*): not part of what it is."""

    @property
    def key(self) -> str:
        """Equal for equal content, tasks and tracking store, whoever sends it from wherever."""
        digest = digest_of(
            {
                "files": {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()},
                "tasks": sorted(self.task_digests),
                "tracking_uri": self.tracking_uri,
            }
        )
        return f"{self.name}-{digest[:12]}"

    @property
    def command(self) -> str:
        """What the cluster's head shall run, in the folder of the files."""
        return shlex.join(["lowdim-bench", "run", *self.tasks, "-m", f"./{SUBMISSION}"])


def store(request: Request, state_dir: Path) -> Path:
    """Keep a request on this machine; the folder of the files that are to be sent, written anew and without links."""
    home = _home(state_dir, request.key)
    draft = home.with_name(f"{home.name}.{secrets.token_hex(8)}")
    try:
        for name, content in request.files.items():
            path = draft / BUNDLE / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        note = {
            "name": request.name,
            "tasks": request.tasks,
            "task_digests": request.task_digests,
            "tracking_uri": request.tracking_uri,
            "environment": dict(request.environment),
        }
        (draft / _NOTE).write_text(json.dumps(note, indent=2))
        with FileLock(home.with_suffix(".lock")):
            if home.exists():
                home.rename(draft.with_suffix(".old"))
            draft.rename(home)
    except OSError as error:
        raise UserError(
            f"What is to be sent cannot be written to {home}: {error.strerror}. Make room, or give another folder with "
            "LOWDIM_BENCH_STATE_DIR."
        ) from None
    finally:
        for leftover in (draft, draft.with_suffix(".old")):
            shutil.rmtree(leftover, ignore_errors=True)
    return home / BUNDLE


def load(key: str, state_dir: Path) -> Request:
    """What was sent from this machine under a key. Raises `UserError` where nothing was, or where it was changed since."""
    home = _home(state_dir, key)
    try:
        note = json.loads((home / _NOTE).read_text())
        request = Request(
            name=note["name"],
            files={
                path.relative_to(home / BUNDLE).as_posix(): path.read_bytes()
                for path in sorted((home / BUNDLE).rglob("*"))
                if path.is_file()
            },
            tasks=tuple(note["tasks"]),
            task_digests=tuple(note["task_digests"]),
            tracking_uri=note["tracking_uri"],
            environment=note["environment"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        request = None
    if request is None or request.key != key:
        what = "was not sent from this machine" if not home.exists() else f"was changed in {home} since it was sent"
        raise UserError(
            f"{key} {what}, so that it cannot be sent again from here. Send its folder: `lowdim-bench submit FOLDER` goes on "
            "where it stopped, since finished trials are kept in the tracking store."
        )
    return request


def key_of(job: str) -> str:
    """The key of a job's name, which is KEY-NUMBER. Raises `UserError` for any other name."""
    key, _, number = job.rpartition("-")
    if not key or not number.isdecimal():
        raise UserError(
            f"'{job}' is not the name of a job that `lowdim-bench submit` sends (NAME-DIGEST-NUMBER). "
            "`lowdim-bench jobs` lists them."
        )
    return key


def _home(state_dir: Path, key: str) -> Path:
    if not key.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"'{key}' is not the name of anything that was sent; `lowdim-bench jobs` lists what was.")
    return state_dir / "submitted" / key
