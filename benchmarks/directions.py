"""Published directions among masks at equal k, measured: pruning at initialization, tickets and controls, diets, rates.

    python -m benchmarks.directions --seeds 24

On digits-mlp (D = 2,410) without its futility rule, unless told otherwise, every trial to its last step. Each line is a method
at one k: the mean of the last train loss and of the test accuracy over seeds, and the share of seeds that ever had a loss of at
most `--level` at a scheduled evaluation. Each comparison is of two methods on the same seeds (the same initial weights and
batches): the mean difference of the last loss and of the test accuracy, their intervals by Student's t, and in how many of the
seeds the first's loss was lower. Intervals are 95 %.

Sections: `init` prunes before training, at k = 48 (density 0.02 of all parameters); `init_weights` the same with all 42 biases
spared, as the papers do, at k = 89 (density 0.02 of the weights); `tickets` compares lottery tickets with their controls;
`diet` pre-trains on the easiest, random or hardest examples by EL2N for equally many steps, and prunes from there, to k = 48
and to k = 258 (density 0.107, as ten rounds of the paper leave), or `--label-noise` with a share of the labels drawn at random;
`rates` compares fixed pruning rates with the one that the landscape allows, with the gradients that they cost; `bases` compares
new random directions at every step with as many that stay the same, both under plain gradient descent at the best of three
learning rates. These two have not the same degrees of freedom: new directions reach all D. `unstable_diet` is about diets
where rewinding matters: five hidden layers of 32 units (D = 29,674) on 10,000 images of MNIST, at densities of 0.107 and 0.028
(ten and sixteen rounds); of it, as in the paper, the test accuracy is compared.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lowdim_bench import problems
from lowdim_bench.claims.tasks import NOWHERE, with_targets
from lowdim_bench.claims.trainings import last_loss, run_trials
from lowdim_bench.claims.verdicts import mean_interval
from lowdim_bench.futility import proportion_interval
from lowdim_bench.methods import parse_choice
from lowdim_bench.problems import Problem
from lowdim_bench.records import TrialResult
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task, load_task
from lowdim_bench.threads import use_one_thread

FIRST_REPLICATE = 5_000_000
INIT = (
    "synflow_mask", "grasp_mask", "snip_mask", "initial_magnitude_mask", "erk_mask", "layerwise_random_mask", "random_mask",
)  # fmt: skip
INIT_WEIGHTS = (
    "synflow_mask,scope=weights",
    "grasp_mask,scope=weights",
    "snip_mask,scope=weights",
    "initial_magnitude_mask,scope=weights",
    "erk_mask,scope=weights",
    "layerwise_random_mask,scope=weights",
    "random_mask,scope=weights",
)
TICKETS = ("imp", "imp,control=reinitialized", "imp,control=shuffled", "random_mask")
DIETS = (
    *(f"data_diet_imp,size=64,subset={subset}" for subset in ("easy", "random", "hard")),
    *(f"data_diet_imp,size=256,subset={subset}" for subset in ("easy", "random", "hard")),
    "imp",
    "imp,rewind_step=50",
)
UNSTABLE_DIETS = (
    *(f"data_diet_imp,pretrain_steps=100,score_steps=200,size=1024,subset={one}" for one in ("easy", "random", "hard")),
    "imp",
    "imp,rewind_step=100",
)
RATES = ("imp", "imp,rate=0.5", "imp,rate=0.8", "landscape_imp", "landscape_imp,slack=1.0", "one_shot_magnitude")
BASES = ("random_bases,directions={k}", "random_subspace")
PLAIN_DESCENT: dict[str, Any] = {
    "optimizer": {"kind": "sgd"},
    "learning_rate": {"value": 10.0, "multipliers": [0.3, 1.0, 3.0]},
}
"""Of the section `bases`. A gradient's projection onto k of D directions is about k / D times as long."""


@dataclass(frozen=True)
class Section:
    """What is compared."""

    methods: tuple[str, ...]
    ks: tuple[int, ...]
    pairs: tuple[tuple[str, str], ...]
    """Of each the first is expected to have the lower loss, or with `of_accuracy` the higher test accuracy."""
    task: Callable[[], Task]
    of_accuracy: bool = False
    """Whether the published statement is about test accuracy."""


def task_without_end(training: Mapping[str, Any] | None = None) -> Task:
    """digits-mlp with a target that no run reaches, and without futility: all runs are as long. `training`: other parts of its
    recipe."""
    return with_targets(load_task("digits-mlp"), **(training or {}))


def unstable_images() -> Task:
    """MNIST with a network and rate where it matters which weights a ticket is rewound to: few images and steps, for a core's
    minutes."""
    recipe: dict[str, Any] = {
        "optimizer": {"kind": "adam"},
        "learning_rate": {"value": 0.03, "schedule": "cosine"},
        "batch_size": 128,
        "steps": 800,
    }
    data = {
        "name": "unstable-images",
        "problem": {
            "kind": "classification",
            "data": {"kind": "torchvision", "dataset": "MNIST", "train_examples": 10_000},
            "network": {"kind": "mlp", "hidden": [32] * 5},
        },
        "training": recipe | {"evaluate_every": 400},
        "full_training": recipe,
        "targets": NOWHERE,
        "threshold": {"k_max": 4096},
        "preparation": {"gradient_evaluations": 40_000},
    }
    return Task.from_data(data, "unstable-images")


SECTIONS = {
    "init": Section(
        INIT,
        (48,),
        (*pairwise(INIT), ("synflow_mask", "snip_mask"), ("grasp_mask", "random_mask"), ("snip_mask", "random_mask")),
        task_without_end,
    ),
    "init_weights": Section(
        INIT_WEIGHTS,
        (89,),
        (
            *pairwise(INIT_WEIGHTS),
            (INIT_WEIGHTS[0], INIT_WEIGHTS[2]),
            (INIT_WEIGHTS[1], INIT_WEIGHTS[-1]),
            (INIT_WEIGHTS[2], INIT_WEIGHTS[-1]),
        ),
        task_without_end,
    ),
    "tickets": Section(
        TICKETS, (48, 96), (*pairwise(TICKETS), ("imp", "random_mask"), (TICKETS[1], "random_mask")), task_without_end
    ),
    "diet": Section(
        DIETS,
        (48, 258),
        (
            (DIETS[0], DIETS[2]),
            (DIETS[3], DIETS[5]),
            (DIETS[3], DIETS[4]),
            (DIETS[3], "imp"),
            ("imp,rewind_step=50", "imp"),
        ),
        task_without_end,
    ),
    "rates": Section(
        RATES,
        (48,),
        (("landscape_imp", "one_shot_magnitude"), ("imp", "landscape_imp"), ("imp", "imp,rate=0.5")),
        task_without_end,
    ),
    "bases": Section(BASES, (16, 64, 250), (BASES,), lambda: task_without_end(PLAIN_DESCENT)),
    "unstable_diet": Section(
        UNSTABLE_DIETS,
        (3175, 831),
        (
            (UNSTABLE_DIETS[0], UNSTABLE_DIETS[2]),
            (UNSTABLE_DIETS[1], UNSTABLE_DIETS[2]),
            (UNSTABLE_DIETS[0], UNSTABLE_DIETS[1]),
            (UNSTABLE_DIETS[0], "imp"),
            (UNSTABLE_DIETS[2], "imp"),
            ("imp,rewind_step=100", "imp"),
        ),
        unstable_images,
        of_accuracy=True,
    ),
}


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float

    @classmethod
    def of_mean(cls, values: np.ndarray) -> Interval:
        """The mean of values (n,), one a seed."""
        return cls(*mean_interval(values))

    def __format__(self, spec: str) -> str:
        return f"{self.estimate:{spec}} ({self.low:{spec}}..{self.high:{spec}})"


@dataclass(frozen=True)
class Line:
    """A method at one k."""

    method: str
    k: int
    seeds: int
    loss: Interval
    accuracy: Interval
    """Of the test set."""
    successes: int
    success: Interval
    side_bits: float
    gradients: float
    """Means over seeds, of full gradients with data before the training of k numbers."""
    data_free_gradients: float


@dataclass(frozen=True)
class Comparison:
    """The last loss and the test accuracy of one method less those of another, on the same seeds."""

    one: str
    other: str
    k: int
    seeds: int
    loss: Interval
    lower: int
    """Seeds on which the first one's loss was lower."""
    accuracy: Interval
    holds: bool
    """Whether the whole interval of the loss lies below zero, or that of the accuracy above where that is asked."""


def with_noise(arrays: Mapping[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """The arrays of a classification problem with about this share of the training labels (N,) drawn anew."""
    generator = np.random.default_rng(0)
    labels = arrays["y_train"].copy()
    drawn = generator.random(len(labels)) < share
    labels[drawn] = generator.integers(0, labels.max() + 1, drawn.sum())
    return {**arrays, "y_train": labels}


def measure(
    problem: Problem, task: Task, method: str, k: int, seeds: int, first: int = FIRST_REPLICATE
) -> list[TrialResult]:
    """Results of one method at one k, by seed, or at D of one that has no other. Raises `MethodFailure` where one failed."""
    choice = parse_choice(method)
    least, _ = choice.build().k_range(problem.blocks)
    return run_trials(problem, task, choice, range(first, first + seeds), [max(k, least)])


def losses(results: Sequence[TrialResult]) -> np.ndarray:
    """The last train loss of each; chance where a run diverged."""
    return np.array([last_loss(result) for result in results])


def accuracies(results: Sequence[TrialResult]) -> np.ndarray:
    """The test accuracy of each; that of guessing among ten classes where a run diverged."""
    return np.array([0.1 if result.test_accuracy is None else result.test_accuracy for result in results])


def line(method: str, k: int, results: Sequence[TrialResult], level: float) -> Line:
    """The line of a method at one k."""
    reached = sum(any((point.train_loss or math.inf) <= level for point in result.curve) for result in results)
    return Line(
        method=method,
        k=k,
        seeds=len(results),
        loss=Interval.of_mean(losses(results)),
        accuracy=Interval.of_mean(accuracies(results)),
        successes=reached,
        success=Interval(reached / len(results), *proportion_interval(reached, len(results))),
        side_bits=float(
            np.mean([result.audit.side_information_bits if result.audit else math.nan for result in results])
        ),
        gradients=float(np.mean([result.preparation.gradient_evaluations for result in results])),
        data_free_gradients=float(np.mean([result.preparation.data_free_gradients for result in results])),
    )


def comparison(
    one: str,
    other: str,
    k: int,
    first: Sequence[TrialResult],
    second: Sequence[TrialResult],
    *,
    of_accuracy: bool = False,
) -> Comparison:
    """Two methods on the same seeds."""
    differences = losses(first) - losses(second)
    lost, gained = Interval.of_mean(differences), Interval.of_mean(accuracies(first) - accuracies(second))
    return Comparison(
        one=one,
        other=other,
        k=k,
        seeds=len(first),
        loss=lost,
        lower=int((differences < 0).sum()),
        accuracy=gained,
        holds=gained.low > 0 if of_accuracy else lost.high < 0,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"Of {', '.join(SECTIONS)}; without any, all.")
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--first-seed", type=int, default=FIRST_REPLICATE)
    parser.add_argument("--label-noise", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--level", type=float, default=1.0)
    parser.add_argument("--data-root", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.sections if name not in SECTIONS]:
        parser.error(f"unknown section '{unknown[0]}'; choose from {', '.join(SECTIONS)}")
    if asked.seeds < 2:
        parser.error(f"--seeds is {asked.seeds}; an interval needs at least 2")
    if not 0 <= asked.label_noise <= 1:
        parser.error(f"--label-noise is {asked.label_noise}; it is a share, from 0 to 1")
    use_one_thread()
    for name in asked.sections or SECTIONS:
        section = SECTIONS[name]
        task = section.task()
        arrays = problems.load_arrays(task, asked.data_root or Settings.resolve().data_root)
        problem = problems.build(task, with_noise(arrays, asked.label_noise))
        for k in section.ks:
            methods = [method.format(k=k) for method in section.methods]
            pairs = [(one.format(k=k), other.format(k=k)) for one, other in section.pairs]
            results = {method: measure(problem, task, method, k, asked.seeds, asked.first_seed) for method in methods}
            lines = [line(method, k, results[method], asked.level) for method in methods]
            found = [
                comparison(one, other, k, results[one], results[other], of_accuracy=section.of_accuracy)
                for one, other in pairs
            ]
            _show(name, lines, found, asked.level, as_json=asked.json)


def _show(name: str, lines: Sequence[Line], found: Sequence[Comparison], level: float, *, as_json: bool) -> None:
    out = sys.stdout
    if as_json:
        rows = {"section": name, "lines": [asdict(one) for one in lines], "comparisons": [asdict(one) for one in found]}
        out.write(json.dumps(rows) + "\n")
        return
    out.write(f"{name}, k = {lines[0].k}, n = {lines[0].seeds} seeds\n")
    for one in lines:
        out.write(
            f"  {one.method:62s} loss {one.loss:.3f}  accuracy {one.accuracy:.3f}  <= {level:g}: "
            f"{one.successes}/{one.seeds} ({one.success.low:.2f}..{one.success.high:.2f})  {one.side_bits:,.0f} bits  "
            f"{one.gradients:,.0f} gradients\n"
        )
    for one in found:
        out.write(
            f"  {'holds' if one.holds else 'open ':5s} {one.one} < {one.other}: {one.loss:+.3f}, "
            f"lower in {one.lower}/{one.seeds}; accuracy {one.accuracy:+.3f}\n"
        )
    out.flush()


if __name__ == "__main__":
    main()
