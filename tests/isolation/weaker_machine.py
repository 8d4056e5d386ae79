"""Runs submissions on a machine that allows no namespaces, or neither these nor Landlock; prints what came of it as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from lowdim_bench.errors import InfrastructureError
from lowdim_bench.isolation import kernel, system_calls
from lowdim_bench.isolation.host import HOST
from lowdim_bench.isolation.watching import processes
from tests.isolation.code import prepared, submission

WRITES = "with open('mine', 'w') as f: f.write('x')\nreturn good(setting)"
READS = "open('/etc/hostname').read()"
OPENS = "import socket; socket.socket()"
DAEMON = """
if not os.fork():
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(60)
time.sleep(0.2)
return good(setting)
"""


def main(*more: str) -> None:
    """Forbid unshare, and of `more` what is named, to this process and all that it starts."""
    if "namespaces" in more:  # which are then allowed after all
        system_calls._FORBIDDEN.clear()
    system_calls._FORBIDDEN.update({"landlock_create_ruleset": (444, 444)} if "landlock" in more else {})
    kernel.no_new_privileges()
    system_calls.forbid()
    found = {}
    for name, code in {"writes": WRITES, "reads": READS, "opens": OPENS, "daemon": DAEMON}.items():
        try:
            (item,) = prepared(submission(code), 3)
        except InfrastructureError as error:
            found[name] = str(error)
            continue
        found[name] = item.failure
        found["fences"] = item.usage.fences if item.usage else ()
    deadline = time.monotonic() + 60  # a busy machine takes its time
    while _of_the_nursery() and time.monotonic() < deadline:
        time.sleep(0.05)
    found["left"] = len(_of_the_nursery())
    made = Path(os.environ["TMPDIR"])
    found["folders"] = len(list(made.glob("lowdim-bench-*/*")))
    HOST.close()
    found["folder"] = bool(list(made.glob("lowdim-bench-*")))
    sys.stdout.write(json.dumps(found))


def _of_the_nursery() -> list[int]:
    """What the nursery has below it, which itself is the only child of this process."""
    table = processes()
    nursery = {pid for pid, process in table.items() if process.parent == os.getpid()}
    return [pid for pid, process in table.items() if process.parent in nursery]


if __name__ == "__main__":
    main(*sys.argv[1:])
