"""What the records of a driver's work share: one run of MLflow, the sole right to add to it, and how it stands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lowdim_bench.settings import Settings
from lowdim_bench.tracking import keys, views
from lowdim_bench.tracking.driver_lock import Holder, Lease, MachineLock

if TYPE_CHECKING:  # MLflow is imported when a store is opened
    from lowdim_bench.tracking.connection import Connection, StoredRun

LONGEST_NOTE = 4000

log = logging.getLogger(__name__)

Right = tuple[MachineLock, Lease]
"""The sole right to add to a run, on this machine and among all."""


@contextmanager
def taking(settings: Settings, connection: Connection, name: str, what: str) -> Iterator[Callable[[str], Right]]:
    """Lock a piece of work on this machine, by its name, while its run is looked for; then take that run, by its identifier.

    `what` is the work in words. Raises `UserError`, naming the holder, where another driver has it. Whatever else goes wrong
    within, the lock is given back.
    """
    me = Holder.me()
    lock = MachineLock(keys.lock_file(settings, name), me, what)

    def take(run_id: str) -> Right:
        lease = Lease(
            lambda: connection.run(run_id).tags.get(keys.DRIVER),
            lambda text: connection.write(run_id, tags={keys.DRIVER: text}),
            me,
            what,
            shared=settings.sqlite_path is None,
        )
        return lock, lease

    try:
        yield take
    except BaseException:
        lock.release()
        raise


class RunLog:
    """One run while a driver adds to it; close it at the end.

    Methods that write raise `InfrastructureError` when the store has not answered for about two minutes.
    """

    def __init__(self, connection: Connection, run: StoredRun, claim: Right) -> None:
        self.run_id = run.run_id
        self._connection = connection
        self._status = run.tags.get(keys.STATUS, "")
        self._lock, self._lease = claim
        self._closed = False

    @property
    def status(self) -> str:
        """running, interrupted, failed, or what it came to."""
        return self._status

    def fail(self, reason: str) -> None:
        """Mark the work as failed; run again, it goes on from what is kept."""
        self._connection.write(
            self.run_id,
            tags={
                keys.STATUS: "failed",
                keys.FAILURE: reason[:LONGEST_NOTE],
                keys.NOTE: views.described(f"Failed: {reason[:LONGEST_NOTE]}", self.run_id),
            },
        )
        self._connection.set_status(self.run_id, "FAILED")
        self._status = "failed"

    def interrupt(self) -> None:
        """Mark the work as interrupted, to be continued. Never raises: it is what one does when all else ends."""
        if self._status != "running":
            return
        try:
            with self._connection.in_haste():
                if not self._lease.is_mine():
                    return  # another driver has taken it over, and is running it
                self._connection.write(self.run_id, tags={keys.STATUS: "interrupted"})
                self._connection.set_status(self.run_id, "KILLED")
            self._status = "interrupted"
        except Exception as error:  # noqa: BLE001 - see above
            log.warning("Run %s could not be marked as interrupted: %s", self.run_id, error)

    def heartbeat(self) -> None:
        """Tell other machines that this driver lives; to be called often, and cheap.

        Raises `InfrastructureError` when another driver has taken the work over.
        """
        self._lease.heartbeat()

    def close(self) -> None:
        """Give up the right to write. What is left in the middle is marked as interrupted. Never raises."""
        if self._closed:
            return
        self._closed = True
        self.interrupt()
        try:
            with self._connection.in_haste():
                if self._lease.is_mine():
                    self._connection.delete_tag(self.run_id, keys.DRIVER)
        except Exception as error:  # noqa: BLE001 - the lease runs out by itself
            log.warning("The claim to run %s could not be withdrawn: %s", self.run_id, error)
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, *, marked: bool = False) -> None:
        self._connection.write(self.run_id, tags={keys.STATUS: "running", keys.FAILURE: ""})
        if not marked:
            self._connection.set_status(self.run_id, "RUNNING")
        self._status = "running"
