"""Ends jobs that wait for their turn. Runs on the cluster's head, as a job of its own, because only there can it be done: Ray's
job server says that it has stopped a job that waits, and leaves it waiting. See `service`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

import ray
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue] - compiled, without stubs
from ray.dashboard.modules.job.common import (
    JOB_ACTOR_NAME_TEMPLATE,
    SUPERVISOR_ACTOR_RAY_NAMESPACE,
    JobInfoStorageClient,
    JobStatus,
)

SAID = "Cancelled while it waited."


async def end(jobs: Sequence[str]) -> None:
    """Write down that the jobs are stopped, and take back the places that they wait for; one that has begun is left alone."""
    stored = JobInfoStorageClient(GcsClient(address=ray.get_runtime_context().gcs_address))
    for job in jobs:
        if await stored.get_status(job) != JobStatus.PENDING:
            continue
        await stored.put_status(job, JobStatus.STOPPED, message=SAID)
        try:
            actor = ray.get_actor(JOB_ACTOR_NAME_TEMPLATE.format(job_id=job), namespace=SUPERVISOR_ACTOR_RAY_NAMESPACE)
        except ValueError:
            continue  # it was not made yet, and will find that its job is stopped
        ray.kill(actor, no_restart=True)


if __name__ == "__main__":
    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    asyncio.run(end(sys.argv[1:]))
