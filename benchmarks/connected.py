"""How many examples are linearly connected, by when trainings part and by what was pre-trained on (Paul et al. 2022).

    python -m benchmarks.connected --seeds 24

On the digits, with the network and recipe in which trainings that part at the start end apart: five hidden layers of 32, Adam
at 0.03 (`reproduce 10`). From the same weights three trainings go on with other batches; each example's barrier is its loss
half-way between two of them less the mean of that at both, on average over the three pairs. Shown are the mean barrier and the
share of examples with one of at most `--tolerance`, as means over seeds with 95 % intervals by Student's t.

First, trainings part at the start and after some steps with all data. Then all part at `--step`, after that many steps on
the `--size` easiest, hardest or random examples alone, and the easiest are compared with the others on the same seeds. Easy and
hard are by EL2N, on average over three other initializations trained for as many steps.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lowdim_bench import problems
from lowdim_bench.claims.tasks import with_network
from lowdim_bench.claims.verdicts import mean_interval
from lowdim_bench.engine import Span, train
from lowdim_bench.landscape import LinearConnection, spawned_connections
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.problems import Ledger, MeteredProblem
from lowdim_bench.problems.classification import ClassificationProblem
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task, load_task
from lowdim_bench.threads import use_one_thread

FIRST_REPLICATE = 7_000_000
SCORING = range(1_000_000, 1_000_003)
"""Initializations from which examples are scored."""


def unstable(steps: int | None = None) -> Task:
    """digits-mlp with the network and recipe of claim 10."""
    return with_network(
        load_task("digits-mlp"), (32,) * 5, steps, optimizer={"kind": "adam"}, learning_rate={"value": 0.03}
    )


def pretrained(
    task: Task, problem: ClassificationProblem, replicates: Sequence[int], steps: int, examples: Tensor | None = None
) -> list[Tensor]:
    """Weights (D,) of each replicate after some steps of full training, on some examples (n,) alone."""
    spaces = [AffineSubspace.full_space(problem.initial(one)) for one in replicates]
    subsets = None if examples is None else [examples] * len(replicates)
    metered = MeteredProblem(problem, replicates, [Ledger() for _ in replicates], subsets)
    rates = [task.full_training.learning_rate.at(problem.full_dimension)] * len(replicates)
    thetas = train(metered, spaces, task.full_training, rates, Span(0, steps))
    return [space.map(theta) for space, theta in zip(spaces, thetas, strict=True)]


def diets(task: Task, problem: ClassificationProblem, steps: int, size: int) -> dict[str, Tensor]:
    """The easiest, hardest and random examples (size,)."""
    scores = problem.error_norms(torch.stack(pretrained(task, problem, SCORING, steps))).double().mean(dim=0)
    order = scores.sort(stable=True).indices
    some = torch.randperm(len(order), generator=torch.Generator().manual_seed(0))
    chosen = {"easy": order[:size], "hard": order[-size:], "random": some[:size]}
    return {name: rows.sort().values for name, rows in chosen.items()}


def measure(
    task: Task, problem: ClassificationProblem, replicates: Sequence[int], step: int, size: int
) -> tuple[dict[str, list[LinearConnection]], dict[str, list[LinearConnection]]]:
    """By when trainings part, and by what was pre-trained on: the connections of each replicate."""
    last = task.full_training.steps
    parted = {
        f"parted at step {when}": spawned_connections(
            task, problem, pretrained(task, problem, replicates, when), when, replicates
        )
        for when in sorted({0, step, 4 * step} & set(range(last)))
    }
    fed = {
        f"{step} steps on {size} {name}": spawned_connections(
            task, problem, pretrained(task, problem, replicates, step, examples), step, replicates
        )
        for name, examples in diets(task, problem, step, size).items()
    }
    return parted, fed


def show(
    found: Mapping[str, Sequence[LinearConnection]], fed: Mapping[str, Sequence[LinearConnection]], tolerance: float
) -> None:
    """Print both tables, and the differences of the first diet to the others."""
    numbers: dict[str, Callable[[LinearConnection], float]] = {
        "mean barrier": lambda one: one.mean,
        f"share up to {tolerance:g}": lambda one: one.share(tolerance),
    }
    for name, ones in {**found, **fed}.items():
        told = "  ".join(f"{what} {_told([number(one) for one in ones])}" for what, number in numbers.items())
        sys.stdout.write(f"  {name:28s} {told}\n")
    first, *others = fed
    for other in others:
        told = "  ".join(
            f"{what} {_told([number(a) - number(b) for a, b in zip(fed[first], fed[other], strict=True)])}"
            for what, number in numbers.items()
        )
        sys.stdout.write(f"  {first} less {other}: {told}\n")


def _told(values: Sequence[float]) -> str:
    middle, low, high = mean_interval(values)
    return f"{middle:+.3f} ({low:+.3f}..{high:+.3f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--step", type=int, default=50)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument(
        "--steps", type=int, default=None, help="Of full training; those of digits-mlp unless told otherwise."
    )
    parser.add_argument("--tolerance", type=float, default=0.01)
    parser.add_argument("--data-root", type=Path, default=None)
    asked = parser.parse_args(arguments)
    if asked.seeds < 2:
        parser.error(f"--seeds is {asked.seeds}; an interval needs at least 2")
    use_one_thread()
    task = unstable(asked.steps)
    if not 1 <= asked.step < task.full_training.steps:
        parser.error(f"--step is {asked.step}; choose one of 1 to {task.full_training.steps - 1}")
    problem = problems.build(task, problems.load_arrays(task, asked.data_root or Settings.resolve().data_root))
    assert isinstance(problem, ClassificationProblem)
    count = problem.example_count or 0
    if not 1 <= asked.size <= count:
        parser.error(f"--size is {asked.size}; there are {count} examples")
    replicates = range(FIRST_REPLICATE, FIRST_REPLICATE + asked.seeds)
    sys.stdout.write(f"{task.name}, {count} examples, n = {asked.seeds} seeds\n")
    show(*measure(task, problem, replicates, asked.step, asked.size), asked.tolerance)


if __name__ == "__main__":
    main()
