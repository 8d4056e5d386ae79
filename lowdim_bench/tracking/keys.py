"""Names under which a sweep is stored: of its run, tags, files and locks. One fact in one place."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Literal, get_args

from lowdim_bench.settings import Settings
from lowdim_bench.specs import digest_of

EXPERIMENT = "lowdim-bench"
CLAIMS_EXPERIMENT = "lowdim-bench-claims"

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
DESCRIBED = "lowdim.described"
"""Set once the files that describe the sweep are stored whole."""
FIRST_REPLICATE = "lowdim.first_replicate"
EXAMPLES = "lowdim.examples"
OPERATIONS = "lowdim.forward_operations"
SUBMISSION = "lowdim.submission"
AUTHORS = "lowdim.authors"
DESCRIPTION = "lowdim.description"
EXPECTED_TRACK = "lowdim.expected_track"
SUBMISSION_TASKS = "lowdim.submission_tasks"
THRESHOLD_DIGEST = "lowdim.threshold_digest"
OPERATOR_CHECK = "lowdim.operator_check"
PREDICTION = "lowdim.prediction"
VERIFIED = "lowdim.verified"
CLAIM = "lowdim.claim"
CLAIM_DIGEST = "lowdim.claim_digest"
SCALE = "lowdim.scale"
ATTEMPT = "lowdim.attempt"
VERDICT = "lowdim.verdict"
NOTE = "mlflow.note.content"

RESTED_ON = (
    SWEEP, TASK, TASK_DIGEST, METHOD, METHOD_DIGEST, TRACK, STATUS, FAILURE, K_LOW, K_HIGH, FULL_DIMENSION, FIRST_REPLICATE,
    EXAMPLES, OPERATIONS, THRESHOLD_DIGEST, SUBMISSION, AUTHORS, EXPECTED_TRACK, DESCRIPTION,
)  # fmt: skip
"""Tags that a rank, or what is shown beside it, rests on."""

TASK_FILE = "task.json"
METHOD_FILE = "method.json"
THRESHOLD_FILE = "threshold.json"
TRIALS = "trials"
FAILURES = "failures"
CERTIFICATES = "certificates"
PARTS = "parts"
VERDICT_FILE = "verdict.json"

SweepStatus = Literal["running", "interrupted", "failed", "found", "above_range", "below_range", "unfinished"]
FINAL: Final = frozenset({"found", "above_range", "below_range", "unfinished"})
STATUSES: Final = frozenset(get_args(SweepStatus))


def sweep_id(task_digest: str, method_digest: str) -> str:
    """One sweep for each task and method: running it again continues it."""
    return digest_of({"task": task_digest, "method": method_digest})


def certificate_file(trial: str, sha256: str) -> str:
    """The file of a trial's certificate, named by the trial's key and by its content."""
    return f"{trial}-{sha256[:16]}.safetensors"


def lock_file(settings: Settings, name: str) -> Path:
    """The file that processes on this machine lock for something of one tracking store."""
    folder = settings.state_dir / "locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = hashlib.sha256(settings.tracking_uri.encode()).hexdigest()[:16]
    return folder / f"{store}-{name}.lock"
