"""What Ray's exceptions mean for a job."""

from __future__ import annotations

import re

from ray import exceptions

from lowdim_bench.errors import InfrastructureError, LowdimError
from lowdim_bench.execution.jobs import Trouble

LONGEST_CAUSE = 4000
_NODE_DIED = re.compile(r"because its node has died|the actor's node was (terminated|preempted)")
"""Ray says only in words why an actor died."""


def judge(error: BaseException) -> Trouble:
    """The kind of failure and its cause in words.

    What the harness itself raises in a worker (the method's own failures come back as results) would come again, so it
    is a bug; but for memory, of the machine or the GPU, which a smaller pack may not exhaust, and for processes of
    submitted code that were ended from outside. A node that died took its
    workers along, whatever they did. All else is a crash.
    """
    if isinstance(error, exceptions.RayTaskError):
        cause = error.cause
        words = str(cause) if isinstance(cause, LowdimError) else _plain(str(error))
        if isinstance(cause, InfrastructureError):
            return Trouble("crash", words)
        return Trouble("memory" if _out_of_memory(cause) else "bug", words)
    if isinstance(error, exceptions.OutOfMemoryError):
        return Trouble("memory", _plain(str(error)))
    if isinstance(error, exceptions.NodeDiedError) or _NODE_DIED.search(str(error)):
        return Trouble("node", _plain(f"{type(error).__name__}: {error}"))
    if isinstance(error, exceptions.RayActorError) and error.actor_init_failed:
        return Trouble("bug", _plain(f"{type(error).__name__}: {error}"))  # it raised while it started
    if isinstance(error, exceptions.RayError):
        return Trouble("crash", _plain(f"{type(error).__name__}: {error}"))
    return Trouble("bug", f"{type(error).__name__}: {error}")


def _out_of_memory(cause: object) -> bool:
    return isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"


def _plain(text: str) -> str:
    """Without colours, and no longer than one cares to read."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()
    return (
        plain if len(plain) <= LONGEST_CAUSE else f"{plain[: LONGEST_CAUSE // 2]}\n...\n{plain[-LONGEST_CAUSE // 2 :]}"
    )
