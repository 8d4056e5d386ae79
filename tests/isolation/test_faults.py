"""What a submission does wrong is its trial's failure, with a reason; what is not there cannot be had."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lowdim_bench.methods import FrozenCode, MethodChoice
from tests.isolation.code import COUNT, failure, prepared, submission

pytestmark = pytest.mark.slow

SMALL = {"METHOD_SECONDS": "20", "METHOD_GIGABYTES": "1", "METHOD_PROCESSES": "16"}
BRIEF = SMALL | {"METHOD_SECONDS": "1"}
FULL = "AffineSubspace.full_space(setting.initial)"
HASH = "SignedHash(setting.k, 7, 0, torch.device('cpu'))"


class Fault(NamedTuple):
    """What `prepare` does, the reason that is told, and what stands above it in its module."""

    code: str
    reason: str
    before: str = ""
    rest: dict[str, Any] = {}
    limits: dict[str, str] = SMALL


SLOW = "it took more than 1 s of its own time"
FAULTS = {
    "raises": Fault("raise ZeroDivisionError('no idea')", r"ZeroDivisionError: no idea \(method.py, line \d+\)"),
    "writes to the terminal": Fault(r"raise ValueError('\x1b[2Jred')", r"ValueError: \?\[2Jred"),
    "raises later": Fault(f"yield Train({FULL}, 0, 2)\nraise KeyError('lost')", "KeyError: 'lost'"),
    "leaves": Fault("sys.exit(3)", "SystemExit: 3"),
    "leaves when imported": Fault("pass", "its process ended by itself", "os._exit(0)"),
    "breaks down": Fault("ctypes.string_at(0)", "its process was killed by signal 11", "import ctypes"),
    "syntax": Fault("return (", "SyntaxError"),
    "two classes": Fault("return 1", "found Other, Mine", "class Other(Method):\n    def prepare(self, setting): pass"),
    "unknown parameter": Fault("return 1", "it has no parameter 'size'", rest={"parameters": {"size": 1}}),
    "wrong parameter": Fault(
        "return 1", "size: Input should be a valid integer", rest={"fields": "size: int", "parameters": {"size": "x"}}
    ),
    "returns nothing": Fault("pass", "returned a NoneType; prepare must end in an AffineSubspace"),
    "yields garbage": Fault("yield 3", "it yielded a int; only Train requests may be yielded"),
    "trains nothing": Fault("yield Train(None, 0, 2)", "it made a NoneType; only an AffineSubspace can leave"),
    "trains backwards": Fault(f"yield Train({FULL}, 5, 2)", "start must lie below stop"),
    "tampers with a hash": Fault(
        "found = good(setting); found.operator.code += 2; return found", "SignedHash that cannot leave its process"
    ),
    "own operator": Fault(
        "found = good(setting); object.__setattr__(found, 'operator', Own(setting)); return found",
        "a Own that cannot leave its process",
        "class Own:\n    def __init__(self, setting): self.k = setting.k",
    ),
    "not finite": Fault("return AffineSubspace(setting.initial * torch.nan, good(setting).operator)", "not finite"),
    "overspends": Fault(
        "while True: setting.problem.loss_and_gradient(setting.initial[None], None)", "it asked for 1001 gradient"
    ),
    "overspends at once": Fault(f"yield Train({FULL}, 0, 1001)", "asked for 1001"),
    "weights of another network": Fault(
        "setting.problem.train_metrics(torch.zeros(1, 3))", r"'weights' is torch.float32 of shape \(1, 3\)"
    ),
    "weights of another precision": Fault(
        "setting.problem.train_metrics(setting.initial.double()[None])", "'weights' is torch.float64"
    ),
    "examples out of range": Fault(
        f"setting.problem.loss_and_gradient(setting.initial[None], torch.tensor([[{COUNT}]]))", "lie outside 0.."
    ),
    "too many examples": Fault(
        "setting.problem.loss_and_gradient(setting.initial[None], torch.zeros(1, 10**4, dtype=torch.int64))",
        "a gradient on 10000 examples",
    ),
    "another network": Fault(f"return AffineSubspace(torch.zeros(7), {HASH})", r"of shape \(7,\)"),
    "more dimensions than there are": Fault(
        "return AffineSubspace(torch.zeros(99), SignedHash(98, 99, 0, torch.device('cpu')))", "98 dimensions"
    ),
    "memory": Fault("held = [bytearray(2**20) for _ in range(10**6)]", "MemoryError"),
    "memory of many": Fault(
        """
        for _ in range(8):
            if not os.fork():
                held = bytearray(2**28)
                time.sleep(60)
        time.sleep(60)
        """,
        "took more than 1 GB of memory",
    ),
    "threads": Fault(
        "for _ in range(99): threading.Thread(target=time.sleep, args=(60,)).start()\ntime.sleep(60)",
        "more than 16 processes and threads|can't start new thread",
        "import threading",
    ),
    "fork bomb": Fault("while True: os.fork()", "more than 16 processes and threads|took more than 1 GB"),
    "fork bomb of small programs": Fault(
        "os.execv('/bin/sh', ['sh', '-c', 'bomb() { bomb | bomb & }; bomb; sleep 60'])",
        "more than 16 processes and threads|closed its connection",
    ),
    "sleeps": Fault("time.sleep(600)", SLOW, limits=BRIEF),
    "spins": Fault("while True: pass", f"{SLOW}|CPU time", limits=BRIEF),
    "spins when imported": Fault("return good(setting)", f"{SLOW}|CPU time", "while True: pass", limits=BRIEF),
    "asks what is free for ever": Fault(
        "order = setting.problem.batch_order(1)\nstep = 0\nwhile True: order.examples(step); step += 600",
        f"{SLOW}|CPU time",
        limits=BRIEF,
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_fails_the_trial_and_says_why(what: str) -> None:
    fault = FAULTS[what]
    told = failure(submission(fault.code, before=fault.before, **fault.rest), limits=fault.limits)
    assert re.search(fault.reason, told)


def test_code_without_a_method_is_refused() -> None:
    choice = MethodChoice(name="mine", code=FrozenCode.of({"method.py": b"x = 1"}))
    assert "found none" in failure(choice)


FORBIDDEN = {
    "the network": "socket.create_connection(('127.0.0.1', 22), 1)",
    "a socket of the machine": "socket.socket(socket.AF_UNIX).connect('/run/anything')",
    "the home": "open({home!r} + '/anything').read()",
    "the tests": "open({here!r}).read()",
    "the folder above": "os.listdir({above!r})",
    "the state": "os.listdir({state!r})",
    "other processes": "open('/proc/{pid}/environ').read()",
    "signals": "os.kill({pid}, 0)",
    "packages": "open(torch.__file__, 'a')",
    "temporary folders": "open('/tmp/anything', 'w')",
    "memory without an owner": "os.memfd_create('anything')",
    "shared memory without a file": "import mmap; mmap.mmap(-1, 4096)",
    "shared memory of zeros": "import mmap; mmap.mmap(os.open('/dev/zero', os.O_RDONLY), 4096, prot=mmap.PROT_READ)",
    "namespaces of a new process": "call(56 if os.uname().machine == 'x86_64' else 220, 0x10000000 | 17)",
    "namespaces of its own": "call(272 if os.uname().machine == 'x86_64' else 97, 0x10000000)",
    "another user": "os.setuid(12345)",
    "a larger limit": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "too much scratch": "open('large', 'wb').write(bytes(2**29))",
    "rights over the machine": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))",
}
CALL = """
import ctypes

def call(*numbers):
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(*(ctypes.c_long(number) for number in numbers)) < 0:
        raise OSError(ctypes.get_errno(), "refused")
"""
REFUSED = ("PermissionError", "FileNotFoundError", "ProcessLookupError", "OSError", "ValueError: not allowed to raise")


def test_threads_processes_and_files_in_memory_work_as_ever() -> None:
    works = """
    import mmap, subprocess, threading
    thread = threading.Thread(target=time.sleep, args=(0,)); thread.start(); thread.join()
    assert subprocess.run(["/bin/true"]).returncode == 0
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with open("shared", "w+b") as file:
        file.truncate(4096)
        mmap.mmap(file.fileno(), 4096)[0] = 1
    return good(setting)
    """
    (item,) = prepared(submission(works), 3)
    assert not item.failure


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_is_fenced_off_is_refused(what: str) -> None:
    named = {
        "home": str(Path.home()),
        "here": __file__,
        "above": str(Path(__file__).parents[2]),
        "pid": os.getpid(),
        "state": os.environ["LOWDIM_BENCH_STATE_DIR"],
    }
    told = failure(submission(FORBIDDEN[what].format(**named), before=f"import socket, resource\n{CALL}"))
    assert told.startswith(REFUSED), told


def test_secrets_do_not_reach_it() -> None:  # which were in the environment when the nursery was started
    told = failure(submission("raise ValueError(sorted(os.environ.items()), os.listdir('/proc/self/fd'))"))
    assert "PATH" in told
    for name in ("sesame", "RAY", "MLFLOW", "AWS", "LOWDIM_BENCH", "PYTHONPATH"):
        assert name not in told


def test_a_folder_of_its_own_can_be_written_and_is_nobody_elses() -> None:
    writes = "import tempfile\nwith tempfile.NamedTemporaryFile() as f: f.write(b'x')\nopen('mine', 'w').close()"
    for first in (writes, "assert not os.path.exists('mine')"):
        (item,) = prepared(submission(f"{first}\nreturn good(setting)"), 3)
        assert not item.failure
