"""One driver for each sweep: a lock that the kernel releases on this machine, and a lease in the store between machines."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from lowdim_bench.errors import InfrastructureError, UserError
from lowdim_bench.specs import Spec

LEASE_SECONDS = 180.0
"""A driver that has not renewed its lease for so long is taken for dead. Clocks must agree better than this."""
RENEW_EVERY = 30.0
LOOK_EVERY = 2.0
"""Seconds between two looks at the lease of a driver that may have died."""
SETTLE_SECONDS = 1.0
"""How long after writing a lease it is read back: of two drivers that wrote at once, the later one then has it."""

Moment = Annotated[float, Field(ge=0, lt=1e11)]

log = logging.getLogger(__name__)


class Holder(Spec):
    """Who drives a sweep, since when, and until when it need not say so again. Times are seconds since 1970."""

    host: str
    machine: str
    """Tells one boot and one process table from another: process ids compare only where this is equal."""
    pid: Annotated[int, Field(ge=1, lt=2**31)]
    id: str
    since: Moment
    expires: Moment

    @classmethod
    def me(cls) -> Holder:
        now = time.time()
        return cls(
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            id=secrets.token_hex(8),
            since=now,
            expires=now + LEASE_SECONDS,
        )

    @classmethod
    def read(cls, text: str) -> Holder | None:
        """From JSON; None for anything else, which holds nothing."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None

    def renewed(self) -> Holder:
        return self.model_copy(update={"expires": time.time() + LEASE_SECONDS})

    def holds(self) -> bool:
        """Whether this driver must be taken for alive."""
        if time.time() >= self.expires:
            return False
        return self.machine != _machine() or _is_alive(self.pid)

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"process {self.pid} on {self.host}, since {since}"


class MachineLock:
    """Excludes other drivers on this machine that use the same state folder. Released by `release`, or by death."""

    def __init__(self, path: Path, me: Holder, what: str) -> None:
        """Raises `UserError`, naming the holder, where another process has it."""
        self._lock = FileLock(path, timeout=0)
        self._note = path.with_suffix(".json")
        try:
            self._lock.acquire()
        except Timeout:
            holder = Holder.read(self._note.read_text()) if self._note.exists() else None
            raise UserError(refusal(what, holder)) from None
        draft = self._note.with_suffix(f".{me.id}")
        try:
            draft.write_text(me.model_dump_json())
            draft.replace(self._note)
        except OSError as error:
            draft.unlink(missing_ok=True)
            self._lock.release()
            raise UserError(
                f"The lock of a sweep cannot be written to {path.parent}: {error.strerror}. Make room there, or give another "
                "folder with LOWDIM_BENCH_STATE_DIR, and run the same command again."
            ) from None

    def release(self) -> None:
        self._note.unlink(missing_ok=True)
        self._lock.release()


class Lease:
    """The claim to a sweep that other machines can see: a tag of its run, renewed while the driver lives."""

    def __init__(
        self, read: Callable[[], str | None], write: Callable[[str], None], me: Holder, what: str, *, shared: bool
    ) -> None:
        """Take the lease. Raises `UserError`, naming the holder, where a living driver has it.

        Whether a driver elsewhere lives can only be waited for: it renews its lease, or that runs out. A head that died with
        its driver is thus followed after three minutes at most, by `resume` too.

        `shared`: drivers on other machines can reach the store, so two may write at once; see `confirm`.
        """
        self._read, self._write, self._me, self._what = read, write, me, what
        held = Holder.read(read() or "")
        if held is not None and held.id != me.id and held.holds():
            self._outlive(held)
        self._renew()
        self._settled = time.monotonic() + SETTLE_SECONDS if shared else None

    def _outlive(self, held: Holder) -> None:
        """Return once a lease has run out or was given up. Raises `UserError` where its holder shows that it lives."""
        if held.machine == _machine():
            raise UserError(refusal(self._what, held))
        left = held.expires - time.time()
        log.warning(
            "%s was being run by %s, which may have died. Waiting to see whether it has: %.0f s at most.",
            self._what, held, left,
        )  # fmt: skip
        while held.holds():
            time.sleep(LOOK_EVERY)
            now = Holder.read(self._read() or "")
            if now is None:
                return
            if now != held:
                raise UserError(refusal(self._what, now))

    def confirm(self) -> None:
        """Before the first result is added: read a lease that others could have written at the same moment back, once that
        moment is over. Raises `UserError`, naming the holder, where another driver has it."""
        if self._settled is None:
            return
        time.sleep(max(0.0, self._settled - time.monotonic()))
        held = Holder.read(self._read() or "")
        if held is not None and held.id != self._me.id:
            raise UserError(refusal(self._what, held))
        self._settled = None

    def heartbeat(self) -> None:
        """Renew the lease if that is due. Raises `InfrastructureError` when another driver has taken it meanwhile, as it
        may after this process, or its connection, stood still for minutes."""
        if time.monotonic() < self._due:
            return
        held = Holder.read(self._read() or "")
        if held is not None and held.id != self._me.id:
            raise InfrastructureError(
                f"{self._what} has been taken over by {held}, since this process was not heard of for {LEASE_SECONDS:.0f} s. "
                "Nothing is lost: let the other one go on, or stop it and run this command again."
            )
        self._renew()

    def is_mine(self) -> bool:
        held = Holder.read(self._read() or "")
        return held is not None and held.id == self._me.id

    def _renew(self) -> None:
        self._me = self._me.renewed()
        self._write(self._me.model_dump_json())
        self._due = time.monotonic() + RENEW_EVERY


def refusal(what: str, holder: Holder | None) -> str:
    who = str(holder) if holder else "another process on this machine"
    return (
        f"{what} is being run already, by {who}. Wait for it, or stop it and run this command again: "
        "what it has finished is kept."
    )


def _machine() -> str:
    """Of this boot and this process namespace; the host's name where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
