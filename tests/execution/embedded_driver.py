"""A driver with a Ray cluster of its own, for tests that need a process to interrupt, or a cluster to lose.

Prints JSON lines on its real standard output. Arguments: what to do, the state folder, a folder for marks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lowdim_bench.errors import InfrastructureError
from lowdim_bench.execution import Answer, Executor, Job, Work
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.settings import Settings, quiet_stdout
from lowdim_bench.specs import Task


def die_once(mark: Path, trials: Sequence[Trial]) -> list[TrialResult]:
    if not mark.exists():
        mark.touch()
        os.abort()
    sys.stdout.write("a worker prints this\n")
    return [TrialResult(trial=trial, status="trained") for trial in trials]


def hang(trials: Sequence[Trial]) -> list[TrialResult]:
    time.sleep(600)
    return []


WORK = Work(
    load=lambda task, root: {},
    build=lambda task, arrays, device: None,
    run=lambda problem, task, method, trials: Answer(method(trials)),
    start=lambda: None,
)


def head_process() -> int:
    children = subprocess.run(
        ["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
    )
    return next(int(line.split()[0]) for line in children.stdout.splitlines() if "gcs_server" in line)


def main(what: str, state: Path, marks: Path, task: Task) -> None:
    trials = (Trial(k=3, replicate=0, round=0),)
    with quiet_stdout() as out:

        def tell(**facts: Any) -> None:
            out.write(json.dumps(facts) + "\n")
            out.flush()

        settings = Settings.resolve(
            tracking_uri=f"sqlite:///{state}/x.db", state_dir=state, workers=2, gpus_per_worker=0
        )
        with Executor(settings, WORK) as executor:
            executor.submit(Job(sweep="s", task=task, method=partial(die_once, marks / "died"), trials=trials))
            (finished,) = executor.wait(60)
            tell(ks=[result.trial.k for result in finished.results], attempts=finished.attempts)
            executor.submit(Job(sweep="s", task=task, method=hang, trials=trials))
            if what == "lose":
                os.kill(head_process(), 9)
            tell(waiting=True)
            try:
                executor.wait(60)
            except KeyboardInterrupt:
                tell(interrupted=True)
            except InfrastructureError as error:
                tell(lost=str(error))
            start = time.monotonic()
            executor.close()
            tell(seconds_to_close=time.monotonic() - start)
        sys.stdout.write("the driver prints this\n")


if __name__ == "__main__":
    options: Mapping[str, Any] = json.loads(sys.argv[4])
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Task.from_data(options, "task of a test"))
