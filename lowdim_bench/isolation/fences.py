"""What a process puts up around itself before it imports submitted code. Each fence that holds is named; none is assumed.

A fence, not a proof: a flaw of the kernel or of a library that is loaded passes through all of them. What a submission could
gain inside is nothing that decides its number: the harness holds the data, draws seeded maps anew, trains and counts.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from lowdim_bench.isolation import kernel, system_calls
from lowdim_bench.isolation.limits import Limits

NAMESPACES = "namespaces: no network, no process but its own"
SCRATCH = "namespaces: a folder of its own, in memory, and no data of packages"
LANDLOCK = "landlock: reads packages, writes its own folder"
SECCOMP = "seccomp: no sockets, no memory of other processes or of none, no namespaces"
NO_PRIVILEGES = "no privileges to gain"
OTHER_USER = "an unprivileged user"
RESOURCES = "limits of memory, time and files"
ENOUGH = frozenset({LANDLOCK})
"""What must hold for submitted code to be run, unless weak isolation is asked for: else it could read this user's files."""

MOUNT_POINT = Path("/dev/shm")  # noqa: S108 - each process sees a file system of its own there
"""It is on every Linux, holds no package, and nothing has to be made or removed."""

_NOBODY = 65534
_TRIALS_AT_ONCE = 64
_READABLE = (
    "/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
    "/etc/localtime", "/etc/nsswitch.conf", "/etc/passwd", "/dev/urandom", "/dev/random", "/dev/null",
    "/sys/devices/system/cpu",
)  # fmt: skip
_DATA_IN_PACKAGES = ("sklearn/datasets/data",)
"""Training and test data of tasks that lie among the packages: there is none but through the oracle."""
_NEW_NAMESPACES = (
    kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
)  # fmt: skip


def enter_namespaces() -> bool:
    """Have the next child of this process be the first of a process namespace of its own, without network or privileges.

    To be called while there is one thread. False, with nothing changed, where this machine does not allow it.
    """
    if not _try_in_a_child(_unshare_all):
        return False
    _unshare_all()
    return True


def _unshare_all() -> None:
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(_NEW_NAMESPACES)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    kernel.mount("none", "/", "none", kernel.MS_REC | kernel.MS_PRIVATE)


def _try_in_a_child(attempt: Callable[[], None]) -> bool:
    """Whether it works, down to a /proc that shows the new processes alone."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            attempt()
            inner = os.fork()
            if inner == 0:
                mount_own_proc()
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
        except OSError:
            code = 1
        finally:
            os._exit(0 if code == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def mount_own_proc() -> None:
    """A /proc of this process namespace, in this mount namespace."""
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def put_up(scratch: Path, readable: Sequence[str], limits: Limits, *, in_namespaces: bool) -> tuple[str, ...]:
    """Fence this process in, for good; returns what holds. Afterwards it may write below `scratch` alone."""
    held: list[str] = []

    def attempt(name: str, fence: Callable[[], None]) -> None:
        try:
            fence()
        except OSError:
            return
        held.append(name)

    os.setsid()
    if in_namespaces:
        held.append(NAMESPACES)
        attempt(SCRATCH, lambda: _own_mounts(scratch, limits))
    os.chdir(scratch)
    os.umask(0o077)
    attempt(RESOURCES, lambda: _limit_resources(limits))
    if not in_namespaces and os.geteuid() == 0:
        attempt(OTHER_USER, lambda: _become_nobody(scratch))
    kernel.hide_memory()
    kernel.no_new_privileges()
    attempt(NO_PRIVILEGES, kernel.drop_capabilities)
    visible = [*_READABLE, *python_folders(), *readable, *(["/proc"] if in_namespaces else [])]
    attempt(LANDLOCK, lambda: kernel.landlock(visible, [str(scratch)]))
    attempt(SECCOMP, system_calls.forbid)
    return tuple(held)


def _own_mounts(scratch: Path, limits: Limits) -> None:
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
    mount_own_proc()
    for folder in _DATA_IN_PACKAGES:
        if (path := Path(sysconfig.get_path("purelib")) / folder).is_dir():
            kernel.mount("tmpfs", str(path), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=4k,mode=0555")
    options = f"size={limits.scratch},nr_inodes=10000,mode=0700"
    kernel.mount("tmpfs", str(scratch), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)


def python_folders() -> list[str]:
    """Where Python and its packages lie, and this package itself; not what else lies beside it in a checkout."""
    packages = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return [sys.prefix, sys.base_prefix, *packages, str(Path(__file__).resolve().parents[1])]


def _limit_resources(limits: Limits) -> None:
    own = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    seconds = int(limits.seconds) + 1
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: own + limits.memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: limits.scratch,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        # Of this user's in all trials at once; the nursery counts those of each trial.
        resource.RLIMIT_NPROC: _TRIALS_AT_ONCE * limits.processes,
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails


def _become_nobody(scratch: Path) -> None:
    os.chown(scratch, _NOBODY, _NOBODY)
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
