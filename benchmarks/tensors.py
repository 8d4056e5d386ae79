"""Sampled least squares against all of it: the true fit, the time and the rows that a CP decomposition takes.

    python -m benchmarks.tensors --seeds 8

Every method decomposes the same planted tensor from the same starts, with as many components as were planted, for all steps of
the task. `fit` is 1 - |X - M| / |X| over the whole tensor, evaluated after the clock has stopped: the median over seeds, and
the share of seeds within half a percent of the median fit of alternating least squares, with its 95 % interval. `seconds` are
medians of processor time of the training alone on one thread, with the interval of the paired ratio to alternating least
squares (Student's t over seeds, on logarithms); `rows` the least-squares rows that were solved.

Tensors: `plain` is the task tensor-planted (60 x 60 x 60 x 20, rank 5), `concentrated` the task of that name, `large` is
80 x 80 x 80 x 40; `digits` is tensor-digits, real images, as nine components. With --file and --rank, an .npz of your own with
the tensor `x`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from lowdim_bench import problems
from lowdim_bench.engine import Span, train
from lowdim_bench.futility import proportion_interval
from lowdim_bench.methods import parse_choice
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import Ledger, MeteredProblem, Problem
from lowdim_bench.records import Trial
from lowdim_bench.specs import Task, load_task
from lowdim_bench.specs.tensors import TensorDecomposition
from lowdim_bench.threads import use_one_thread

REFERENCE = "cp_als"
METHODS = (
    REFERENCE,
    "cp_leverage,samples=256",
    "cp_leverage",
    "cp_leverage,combine=false",
    "cp_leverage,deterministic=true",
    "cp_leverage,samples=4096",
    "cp_uniform,samples=256",
    "cp_uniform",
)
TENSORS: dict[str, tuple[str, dict[str, Any], int]] = {
    "plain": ("tensor-planted", {}, 5),
    "concentrated": ("tensor-planted-concentrated", {}, 5),
    "large": ("tensor-planted", {"shape": [80, 80, 80, 40]}, 5),
    "digits": ("tensor-digits", {}, 9),
}
"""A task, what is changed of its data, and as how many components it is decomposed."""
FIRST_REPLICATE = 6_000_000
CLOSE = 0.995


@dataclass(frozen=True)
class Line:
    """A method on one tensor."""

    tensor: str
    method: str
    seeds: int
    fit: float
    lowest_fit: float
    close: int
    """Seeds whose fit is at least `CLOSE` times the median one of alternating least squares."""
    close_low: float
    close_high: float
    seconds: float
    faster: float | None
    """How many times as fast as alternating least squares; None for itself."""
    faster_low: float | None
    faster_high: float | None
    rows: int


@dataclass(frozen=True)
class Runs:
    """What each seed gave, (seeds,): the true fit, seconds of processor time, rows solved."""

    fits: np.ndarray
    seconds: np.ndarray
    rows: np.ndarray


def task_of(name: str) -> Task:
    """The task of one of `TENSORS`."""
    task, changes, _ = TENSORS[name]
    plain = load_task(task).model_dump(mode="json", exclude_none=True)
    plain["training"]["batch_size"] = plain["full_training"]["batch_size"] = None
    plain["problem"]["data"] |= changes
    return Task.from_data(plain, name)


def own_task(file: Path, rank: int) -> Task:
    """As tensor-planted, for a tensor of one's own."""
    plain = load_task("tensor-planted").model_dump(mode="json", exclude_none=True)
    plain["training"]["batch_size"] = plain["full_training"]["batch_size"] = None
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    plain["problem"] |= {
        "data": {"kind": "array_tensor", "path": str(file.resolve()), "sha256": digest},
        "rank": rank,
    }
    return Task.from_data(plain, str(file))


def decompose(problem: Problem, task: Task, method: str, components: int, seeds: int) -> Runs:
    """One training a seed, one after the other, so that each has the caches to itself. Raises RuntimeError where one fails."""
    k = components * problem.blocks[-1].stop // task_rank(task)
    found: list[tuple[float, float, int]] = []
    for replicate in range(FIRST_REPLICATE - 1, FIRST_REPLICATE + seeds):
        trial = Trial(k=k, replicate=replicate, round=0)
        (item,) = prepare_pack(problem, task, parse_choice(method).build(), [trial])
        if item.subspace is None:
            raise RuntimeError(f"{method}: {item.failure}")
        ledger = Ledger()
        metered = MeteredProblem(problem, [replicate], [ledger])
        began = time.process_time()
        (theta,) = train(metered, [item.subspace], task.training, [1.0], Span(0, task.training.steps))
        seconds = time.process_time() - began
        error = float(problem.train_metrics(item.subspace.map(theta).unsqueeze(0)).loss[0])
        found.append((1 - error, seconds, ledger.spent.rows))
    fits, seconds, rows = (np.array(column) for column in zip(*found[1:], strict=True))  # the first one only warms up
    return Runs(fits, seconds, rows)


def task_rank(task: Task) -> int:
    """Columns of the full factors of a task."""
    assert isinstance(task.problem, TensorDecomposition)
    return task.problem.rank


def line(tensor: str, method: str, runs: Runs, reference: Runs) -> Line:
    """The line of a method beside alternating least squares on the same seeds."""
    close = int((runs.fits >= CLOSE * np.median(reference.fits)).sum())
    low, high = proportion_interval(close, len(runs.fits))
    faster: tuple[float | None, float | None, float | None] = (None, None, None)
    if method != REFERENCE:
        logarithms = np.log(reference.seconds / runs.seconds)
        half = float(stats.t.ppf(0.975, len(logarithms) - 1) * logarithms.std(ddof=1)) / math.sqrt(len(logarithms))
        mean = float(logarithms.mean())
        faster = (math.exp(mean), math.exp(mean - half), math.exp(mean + half))
    return Line(
        tensor,
        method,
        len(runs.fits),
        float(np.median(runs.fits)),
        float(runs.fits.min()),
        close,
        low,
        high,
        float(np.median(runs.seconds)),
        *faster,
        int(np.median(runs.rows)),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tensors", nargs="*", metavar="TENSOR", help=f"Of {', '.join(TENSORS)}; without any, all.")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--rank", type=int, default=10, help="Components of the tensor in --file.")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.tensors if name not in TENSORS]:
        parser.error(f"unknown tensor '{unknown[0]}'; choose from {', '.join(TENSORS)}")
    if asked.seeds < 2:
        parser.error(f"--seeds is {asked.seeds}; an interval needs at least 2")
    use_one_thread()
    torch.set_num_threads(1)
    if asked.file is not None:
        tasks = {asked.file.stem: (own_task(asked.file, asked.rank), asked.rank)}
    else:
        tasks = {name: (task_of(name), TENSORS[name][2]) for name in asked.tensors or TENSORS}
    for name, (task, components) in tasks.items():
        problem = problems.build(task, problems.load_arrays(task, Path()))
        reference = decompose(problem, task, REFERENCE, components, asked.seeds)
        for method in asked.methods:
            runs = reference if method == REFERENCE else decompose(problem, task, method, components, asked.seeds)
            _show(line(name, method, runs, reference), as_json=asked.json)


def _show(one: Line, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(asdict(one)) + "\n")
        return
    faster = "" if one.faster is None else f" ({one.faster:.2g}x as fast; {one.faster_low:.2g}..{one.faster_high:.2g})"
    sys.stdout.write(
        f"{one.tensor:12s} {one.method:30s} fit {one.fit:.4f} (lowest {one.lowest_fit:.4f}), close {one.close}/{one.seeds} "
        f"({one.close_low:.2f}..{one.close_high:.2f}), {one.seconds:.3f} s{faster}, {one.rows:,} rows\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
