"""Names under which a sweep is stored: of its run, tags, files and locks. One fact in one place."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Literal, get_args

from lowdim_bench.settings import Settings
from lowdim_bench.specs import digest_of

EXPERIMENT = "lowdim-bench"

SWEEP = "lowdim.sweep"
TASK = "lowdim.task"
TASK_DIGEST = "lowdim.task_digest"
METHOD = "lowdim.method"
METHOD_DIGEST = "lowdim.method_digest"
TRACK = "lowdim.track"
STATUS = "lowdim.status"
FAILURE = "lowdim.failure"
DRIVER = "lowdim.driver"
K_LOW = "lowdim.k_low"
K_HIGH = "lowdim.k_high"
FULL_DIMENSION = "lowdim.full_dimension"
THRESHOLD_DIGEST = "lowdim.threshold_digest"
OPERATOR_CHECK = "lowdim.operator_check"
NOTE = "mlflow.note.content"

TASK_FILE = "task.json"
METHOD_FILE = "method.json"
THRESHOLD_FILE = "threshold.json"
TRIALS = "trials"
FAILURES = "failures"

SweepStatus = Literal["running", "interrupted", "failed", "found", "above_range", "below_range", "unfinished"]
FINAL: Final = frozenset({"found", "above_range", "below_range", "unfinished"})
STATUSES: Final = frozenset(get_args(SweepStatus))


def sweep_id(task_digest: str, method_digest: str) -> str:
    """One sweep for each task and method: running it again continues it."""
    return digest_of({"task": task_digest, "method": method_digest})


def lock_file(settings: Settings, name: str) -> Path:
    """The file that processes on this machine lock for something of one tracking store."""
    folder = settings.state_dir / "locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = hashlib.sha256(settings.tracking_uri.encode()).hexdigest()[:16]
    return folder / f"{store}-{name}.lock"
