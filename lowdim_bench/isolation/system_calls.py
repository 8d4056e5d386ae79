"""seccomp: system calls that no preparation needs are refused, whole or for some of their arguments.

Numbers are those of x86-64 and arm64; from 424 on they agree. See seccomp(2) of the Linux manual.
"""

from __future__ import annotations

import errno
import platform

from lowdim_bench.isolation import kernel

_FORBIDDEN: dict[str, tuple[int, int]] = {
    "socket": (41, 198), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "kcmp": (312, 272),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "memfd_create": (319, 279), "shmget": (29, 194),
    "msgget": (68, 186), "mq_open": (240, 180), "kexec_load": (246, 104), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224),
    "io_uring_setup": (425, 425), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsmount": (432, 432), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "mount_setattr": (442, 442),
    "memfd_secret": (447, 447),
}  # fmt: skip
"""Sockets of any kind (one inherited goes on), other processes' memory, mounts, namespaces, keys, modules, and memory that
belongs to no process and so escapes every limit."""
_CLONE, _CLONE3, _MMAP = (56, 220), (435, 435), (9, 222)
_OWNERLESS = 0x01 | 0x20
"""MAP_SHARED | MAP_ANONYMOUS: pages that MADV_DONTNEED takes out of every account without freeing them."""
_NEW_NAMESPACES = (
    kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET | kernel.CLONE_NEWCGROUP
)  # fmt: skip
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_X32 = 0x40000000

_LOAD, _AND, _GIVE = 0x20, 0x54, 0x06  # BPF_LD+W+ABS, BPF_ALU+AND+K, BPF_RET+K
_EQUAL, _AT_LEAST, _ANY_OF = 0x15, 0x35, 0x45  # BPF_JMP+JEQ+K, JGE, JSET
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _FOURTH_ARGUMENT = 0, 4, 16, 40  # offsets in the kernel's struct seccomp_data
_KILL, _ERROR, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000


def forbid() -> None:
    """Refuse, for this process and its descendants, what `_FORBIDDEN` names, new namespaces, and anonymous shared memory.

    `clone3`, whose flags a filter cannot see, is said not to exist: C libraries then use `clone`. Raises OSError where the
    system calls of this machine are not listed.
    """
    if platform.machine() not in _ARCHITECTURES:
        raise OSError(f"the system calls of {platform.machine()} are not listed")
    architecture, column = _ARCHITECTURES[platform.machine()]
    endings = [
        (_GIVE, 0, 0, _ALLOW),
        (_GIVE, 0, 0, _ERROR | errno.EPERM),
        (_GIVE, 0, 0, _ERROR | errno.ENOSYS),
        # clone: its flags
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_OF, 0, 1, _NEW_NAMESPACES),
        (_GIVE, 0, 0, _ERROR | errno.EPERM),
        (_GIVE, 0, 0, _ALLOW),
        # mmap: its flags
        (_LOAD, 0, 0, _FOURTH_ARGUMENT),
        (_AND, 0, 0, _OWNERLESS),
        (_EQUAL, 0, 1, _OWNERLESS),
        (_GIVE, 0, 0, _ERROR | errno.EPERM),
        (_GIVE, 0, 0, _ALLOW),
    ]
    refuse, unknown, clone, mmap = 1, 2, 3, 7  # places among the endings
    told = [(_EQUAL, pair[column], refuse) for pair in _FORBIDDEN.values()]
    told += [(_EQUAL, _CLONE3[column], unknown), (_EQUAL, _CLONE[column], clone), (_EQUAL, _MMAP[column], mmap)]
    told.insert(0, (_AT_LEAST, _X32, refuse))  # which would pass under other numbers
    jumps = [(code, len(told) - 1 - place + ending, 0, number) for place, (code, number, ending) in enumerate(told)]
    kernel.filter_system_calls(
        [
            (_LOAD, 0, 0, _ARCHITECTURE),
            (_EQUAL, 1, 0, architecture),
            (_GIVE, 0, 0, _KILL),
            (_LOAD, 0, 0, _NUMBER),
            *jumps,
            *endings,
        ]
    )
