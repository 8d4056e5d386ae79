"""Jobs on a standing cluster: sent, listed, followed and ended through Ray's job server. The only place that knows Ray Jobs.

A job is one driver, `lowdim-bench run ...`, on the cluster's head. As many run at a time as the head has of the resource
`lowdim_bench_driver`; the others wait in the order in which they came.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from lowdim_bench.errors import InfrastructureError, UserError, unknown
from lowdim_bench.execution.requests import Request, key_of, load, store
from lowdim_bench.settings import Settings, prepare_environment, why_unreachable

DRIVER = "lowdim_bench_driver"
"""The resource of which a driver takes one."""
PATIENCE = 120.0
"""Seconds that a job server which has answered before may stay away while a log is followed, or a waiting job ended."""
FOLLOW_EVERY = 1.0
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers that tell of every upload, on stderr."""
_KEY = "lowdim_bench.key"
_NOT_FOUND = 127

T = TypeVar("T")
Status = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]


@dataclass(frozen=True)
class ClusterJob:
    """One driver that was sent to the cluster."""

    id: str
    submission: str
    tasks: tuple[str, ...]
    tracking_uri: str
    status: Status
    position: int | None
    """Place in the queue, from 1; None for what does not wait."""
    submitted: datetime
    ended: datetime | None
    note: str
    """Why it failed, in a line; empty otherwise."""

    @property
    def key(self) -> str:
        return key_of(self.id)

    @property
    def over(self) -> bool:
        return self.status in {"STOPPED", "SUCCEEDED", "FAILED"}


class JobService:
    """The job server of a standing cluster. Its methods raise `UserError` for unknown jobs and a refused secret, and
    `InfrastructureError` when the server stops answering."""

    def __init__(self, settings: Settings, address: str) -> None:
        """Raises `UserError` where no job server answers, or where it refuses this machine's secret."""
        # The secret is that of a cluster which stands already, as when a driver joins one.
        prepare_environment(replace(settings, ray_address=settings.ray_address or "auto"))
        self.address = address
        self._state_dir = settings.state_dir
        parts = urlsplit(self.address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if (why := why_unreachable(parts.hostname or "", port)) is not None:
            raise UserError(
                f"The job server {self.address} cannot be reached: {why}. Start a cluster (`ray start --head ...`, see "
                "docs/cluster.md), bring its dashboard here (ssh -L 8265:127.0.0.1:8265 HEAD), or correct --address or "
                "LOWDIM_BENCH_JOB_SERVER."
            )
        from ray.job_submission import JobSubmissionClient

        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = self._call(lambda: JobSubmissionClient(self.address))

    def submit(self, request: Request) -> ClusterJob:
        """Send a request as a job. Raises `UserError`, naming the job, where the same thing waits or runs already, and where
        the cluster cannot queue drivers."""
        self._check_places()
        folder = store(request, self._state_dir)
        before = [job for job in self.jobs() if job.key == request.key]
        for job in before:
            if not job.over:
                raise UserError(
                    f"The same submission, tasks and tracking store are on this cluster already: job {job.id} is "
                    f"{job.status}. Follow it with `lowdim-bench logs {job.id} --follow`, or end it with "
                    f"`lowdim-bench cancel {job.id}`."
                )
        name = f"{request.key}-{1 + max((int(job.id.rpartition('-')[2]) for job in before), default=0)}"
        try:
            self._call(lambda: self._send(name, request, folder))
        except RuntimeError as error:
            if "already exists" not in str(error):
                raise
            raise UserError(
                f"The same submission, tasks and tracking store were sent at this moment by somebody else, as job {name}. "
                f"Follow it with `lowdim-bench logs {name} --follow`."
            ) from None
        return self.find(name)

    def resume(self, job: str) -> ClusterJob:
        """Send again what a job was sent with; it trains only what is not recorded yet. Raises `UserError` as `submit` does."""
        return self.submit(load(key_of(job), self._state_dir))

    def jobs(self) -> list[ClusterJob]:
        """All drivers that the cluster remembers, oldest first; it forgets them when its head ends."""
        known = [job for job in self._call(self._client.list_jobs) if _KEY in (job.metadata or {})]
        known.sort(key=lambda job: (job.start_time or 0, job.submission_id or ""))
        waiting = [job.submission_id or "" for job in known if job.status == "PENDING"]
        return [_plain(job, waiting) for job in known]

    def find(self, job: str) -> ClusterJob:
        return self._find_all([job])[0]

    def _find_all(self, jobs: Sequence[str]) -> list[ClusterJob]:
        known = {one.id: one for one in self.jobs()}
        for job in jobs:
            if job not in known:
                raise unknown("job", job, known)
        return [known[job] for job in jobs]

    def log(self, job: str) -> str:
        """What a driver has printed so far."""
        return self._call(lambda: self._client.get_job_logs(self.find(job).id))

    def follow(self, job: str) -> Iterator[str]:
        """What a driver prints, as it comes, until it ends; waits for one that has not begun. Outlives interruptions of the
        connection of up to two minutes."""
        shown, answered = 0, time.monotonic()
        while True:
            try:
                over = self.find(job).over  # asked first, so that nothing is missed that is printed at the end
                text = self.log(job)
            except InfrastructureError:
                if time.monotonic() - answered > PATIENCE:
                    raise
            else:
                answered = time.monotonic()
                if len(text) > shown:
                    yield text[shown:]
                    shown = len(text)
                if over:
                    return
            time.sleep(FOLLOW_EVERY)

    def cancel(self, jobs: Sequence[str]) -> list[ClusterJob]:
        """End jobs, whether they run or wait. Returns once they have ended."""
        asked: set[str] = set()
        until = time.monotonic() + PATIENCE
        while True:
            found = self._find_all(jobs)
            if all(job.over for job in found):
                return found
            if time.monotonic() > until:
                left = ", ".join(job.id for job in found if not job.over)
                raise InfrastructureError(f"Not ended after {PATIENCE:.0f} s: {left}. Run the same command again.")
            for job in found:
                if job.status == "RUNNING" and job.id not in asked:
                    self._call(lambda job=job: self._client.stop_job(job.id))
                    asked.add(job.id)
            if waiting := [job.id for job in found if job.status == "PENDING"]:
                self._end_waiting(waiting)
                until = time.monotonic() + PATIENCE
            time.sleep(0.5)

    def _send(self, name: str, request: Request, folder: Path) -> None:
        self._client.submit_job(
            entrypoint=request.command,
            submission_id=name,
            runtime_env={"working_dir": str(folder), "env_vars": _environment(request)},
            metadata={
                _KEY: request.key,
                "submission": request.name,
                "tasks": " ".join(Path(task).stem for task in request.tasks),
                "tracking_uri": request.tracking_uri,
            },
            entrypoint_resources={DRIVER: 1},
        )

    def _end_waiting(self, jobs: Sequence[str]) -> None:
        """Ray's own way to stop a job says yes to one that waits, and does nothing. So a job of ours on the head ends them."""
        command = shlex.join(["python", "-m", "lowdim_bench.execution.end_waiting", *jobs])
        name = f"end-waiting-{secrets.token_hex(6)}"
        helper = self._call(lambda: self._client.submit_job(entrypoint=command, submission_id=name))
        until = time.monotonic() + PATIENCE
        while not (info := self._call(lambda: self._client.get_job_info(helper))).status.is_terminal():
            if time.monotonic() > until:
                raise InfrastructureError(
                    f"Ending jobs that wait takes longer than {PATIENCE:.0f} s on {self.address}: the cluster's head is "
                    "overloaded. Run the same command again."
                )
            time.sleep(0.5)
        if info.status != "SUCCEEDED":
            raise InfrastructureError(f"Jobs that wait could not be ended: {_why(info)}")

    def _check_places(self) -> None:
        """A cluster must have places for drivers: without them it would start all at once that are sent at once."""

        def nodes() -> list[Any]:
            from ray.util.state import list_nodes

            return list(list_nodes(address=self.address, detail=True))

        heads = [node for node in self._call(nodes) if node.is_head_node and node.state == "ALIVE"]
        if not any((node.resources_total or {}).get(DRIVER, 0) >= 1 for node in heads):
            raise UserError(
                f"The cluster at {self.address} has no places for drivers, so that jobs could not queue. Start its head with "
                f"some, such as four: ray start --head --resources='{{\"{DRIVER}\": 4}}' ... (in a cluster's YAML: among "
                "the head's resources)."
            )

    def _call(self, ask: Callable[[], T]) -> T:
        """What the server says, or its refusal in our words."""
        from ray.exceptions import AuthenticationError
        from ray.util.state.exception import RayStateApiException

        try:
            return ask()
        except AuthenticationError as error:
            secret = os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")
            raise UserError(
                f"The job server {self.address} refuses this machine: {str(error).splitlines()[0]}. The cluster's token is "
                f"looked for in RAY_AUTH_TOKEN, then in {secret}. Copy it from the head: `ray get-auth-token` prints it there."
            ) from None
        except (OSError, RayStateApiException) as error:
            raise InfrastructureError(
                f"The job server {self.address} does not answer: {str(error).splitlines()[0]}. Jobs go on without it while "
                "the cluster stands; run the same command again."
            ) from error
        except RuntimeError as error:
            if "Version check" in str(error) or "Jobs API is not supported" in str(error):
                raise UserError(
                    f"What answers at {self.address} is not the job server of a Ray cluster. Give the address of its "
                    "dashboard (port 8265 unless changed; --address, LOWDIM_BENCH_JOB_SERVER)."
                ) from None
            if not str(error).startswith("Request failed with status code 5"):
                raise
            hint = ""
            if "No available agent" in str(error) or "Port out of range" in str(error):
                hint = (
                    " Ray's agent on the head does not answer: it takes a few seconds to start, and does not where another "
                    "Ray has port 52365 of that machine; then start the head with --dashboard-agent-listen-port=52367."
                )
            raise InfrastructureError(
                f"The job server {self.address} failed: {str(error).strip().splitlines()[-1]}{hint}"
            ) from error


def _environment(request: Request) -> dict[str, str]:
    where = {"LOWDIM_BENCH_RAY_ADDRESS": "auto", "LOWDIM_BENCH_TRACKING_URI": request.tracking_uri}
    return where | dict(request.environment)


def _plain(job: Any, waiting: Sequence[str]) -> ClusterJob:
    return ClusterJob(
        id=job.submission_id,
        submission=job.metadata["submission"],
        tasks=tuple(job.metadata["tasks"].split()),
        tracking_uri=job.metadata["tracking_uri"],
        status=job.status.value,
        position=waiting.index(job.submission_id) + 1 if job.submission_id in waiting else None,
        submitted=_when(job.start_time or 0),
        ended=_when(job.end_time) if job.end_time else None,
        note=_why(job) if job.status == "FAILED" else "",
    )


def _when(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // 1000, UTC)


def _why(job: Any) -> str:
    """Why a job has failed, in one line."""
    if job.driver_exit_code == _NOT_FOUND:
        return "lowdim-bench is not on the PATH of the head; start Ray there from the environment it is installed in"
    if job.error_type == "JOB_SUPERVISOR_ACTOR_START_TIMEOUT":
        return "waited longer than its cluster allows; start the head with RAY_JOB_START_TIMEOUT_SECONDS=31536000"
    lines = [line.strip() for line in (job.message or "").splitlines() if line.strip()]
    said = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")] or lines
    return re.sub(r"(//[^/@:]*):[^@/]*@", r"\1:***@", said[-1])[:500] if said else ""
