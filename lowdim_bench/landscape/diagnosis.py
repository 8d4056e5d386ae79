"""All diagnostics of a task's full training, from some replicates.

Every number is of the full training set, but the disagreement of networks, which is of the test set. A diagnostic that a
problem cannot have is left out: alignment where nobody knows the neurons, kernels and predictions where there are no classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lowdim_bench.errors import UserError
from lowdim_bench.landscape import functions, initialization, paths, planes, strings, symmetry
from lowdim_bench.landscape.training import CHECKPOINTS, Trained, full_training
from lowdim_bench.problems import Problem
from lowdim_bench.problems.classification import ClassificationProblem
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Task
from lowdim_bench.specs.problem import Classification, ConvNetwork, MlpNetwork, Network, QuadraticNetwork

_LATE = CHECKPOINTS // 4
"""Checkpoints that are averaged."""
_PROBES = 32
_SLICE = 10
_RADII = (0.25, 4.0)
"""Multiples of w_0 at which the loss's convexity is looked at beside w_0 itself."""
_PLANE_SHARES = (64, 16, 4)
"""Random planes have D divided by these dimensions."""
_KERNEL_EXAMPLES = 100
_SAME_NEURON = 0.01
"""Incoming weights this near, as a share of their norm, belong to duplicates."""

Of = Literal["replicate", "pair", "all", "task"]
Values = Mapping[str, float | None]
"""By name; None where there is no such number."""


@dataclass(frozen=True)
class Finding:
    """One diagnostic."""

    name: str
    of: Of
    """What there is one value of: each replicate, each pair of neighbouring replicates, all of them, or the task itself."""
    values: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def range(self) -> tuple[float, float]:
        """From the lowest to the highest value: no more is known of so few."""
        return min(self.values), max(self.values)


@dataclass(frozen=True)
class Diagnosis:
    """What was found on a task's landscape."""

    dimension: int
    replicates: tuple[int, ...]
    start_losses: tuple[float, ...]
    end_losses: tuple[float, ...]
    findings: tuple[Finding, ...]
    to_start: tuple[paths.LinearPath, ...]
    """From w_0 to the end of training, of each replicate."""
    between: tuple[paths.LinearPath, ...]
    """From one end of training to the next replicate's."""
    aligned: tuple[paths.LinearPath, ...]
    """The same once the next one's neurons are aligned; none where nobody knows the neurons."""


def widened(task: Task) -> Task | None:
    """The task with one neuron more in its first hidden layer; None where that is not defined."""
    spec = task.problem
    if isinstance(spec, Classification) and (layers := _plain_layers(spec.network)):
        name, (first, *others) = layers
        network = spec.network.model_copy(update={name: (first + 1, *others)})
        return task.model_copy(update={"problem": spec.model_copy(update={"network": network})})
    if isinstance(spec, QuadraticNetwork) and spec.quadratic_layers == 1:
        return task.model_copy(update={"problem": spec.model_copy(update={"hidden": spec.hidden + 1})})
    return None


def _plain_layers(network: Network) -> tuple[str, tuple[int, ...]] | None:
    """Which field of a network of hidden layers one after the other holds their widths, and these; None of others."""
    if isinstance(network, MlpNetwork) and network.hidden:
        return "hidden", network.hidden
    return ("channels", network.channels) if isinstance(network, ConvNetwork) else None


def diagnose(
    task: Task,
    problem: Problem,
    wide: Problem | None,
    replicates: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """Train all D weights of at least two replicates by the task's full-training recipe, and look at where that leads.

    `wide` is the problem of `widened(task)`. Raises `UserError` for fewer replicates, and where training ends at weights whose
    loss is not finite.
    """
    if len(replicates) < 2:
        raise UserError(f"Paths between trainings need at least 2 replicates; got {len(replicates)}.")
    return diagnose_points(task, problem, wide, replicates, full_training(task, problem, replicates), progress)


def diagnose_points(
    task: Task,
    problem: Problem,
    wide: Problem | None,
    replicates: Sequence[int],
    trained: Trained,
    progress: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """The same of weights that were trained elsewhere, by whatever method. What needs points passed on the way is left out
    where `trained` has none but the ends. Raises `UserError` where a loss is not finite, and for what
    is no network."""
    if task.problem.kind == "tensor_decomposition":
        raise UserError(
            f"{task.name} decomposes a tensor; diagnostics are for networks, and train curves between them by gradients. "
            "Choose a task of another kind."
        )
    losses, _ = paths.evaluate(problem, trained.ends)
    if not np.isfinite(losses).all():
        bad = [replicate for replicate, loss in zip(replicates, losses, strict=True) if not np.isfinite(loss)]
        raise UserError(
            f"The loss where training of {task.name} ends is not finite, in replicates {bad}. If that was its full training, "
            "lower the rate of its full_training."
        )
    jobs = _jobs(task, problem, wide, replicates, trained)
    by_kind: dict[Of, list[Values]] = {"replicate": [], "pair": [], "all": [], "task": []}
    for done, (kind, job) in enumerate(jobs, 1):
        by_kind[kind].append(job())
        if progress:
            progress(done, len(jobs))
    to_start = [paths.linear_path(problem, *ends) for ends in zip(trained.starts, trained.ends, strict=True)]
    return Diagnosis(
        dimension=problem.full_dimension,
        replicates=tuple(replicates),
        start_losses=tuple(path.losses[0] for path in to_start),
        end_losses=tuple(losses.tolist()),
        findings=tuple(finding for kind, rows in by_kind.items() for finding in _findings(kind, rows)),
        to_start=tuple(to_start),
        between=tuple(paths.linear_path(problem, *ends) for ends in pairwise(trained.ends)),
        aligned=tuple(_aligned_path(problem, ends) for ends in pairwise(trained.ends)) if _has_neurons(problem) else (),
    )


def _jobs(
    task: Task, problem: Problem, wide: Problem | None, replicates: Sequence[int], trained: Trained
) -> list[tuple[Of, Callable[[], Values]]]:
    """Everything that is to be found, as calls that find it."""
    jobs: list[tuple[Of, Callable[[], Values]]] = []
    for row, replicate in enumerate(replicates):
        jobs.append(("replicate", partial(_way, problem, trained, row)))
        jobs.append(("replicate", partial(_convexity, task, problem, replicate, trained, row)))
        jobs.append(("replicate", partial(_planes, task, problem, replicate)))
        if _has_neurons(problem):
            jobs.append(("replicate", partial(_neurons, problem, wide, trained.ends[row])))
        if isinstance(problem, ClassificationProblem) and len(trained.steps) > 2:
            jobs.append(("replicate", partial(_kernels, problem, trained, row)))
    for one, other in pairwise(trained.ends):
        jobs.append(("pair", partial(_between, task, problem, (one, other))))
    jobs.append(("all", partial(_together, task, problem, trained.ends)))
    jobs.append(("task", partial(_signals, task)))
    return jobs


def _findings(kind: Of, rows: Sequence[Values]) -> Iterator[Finding]:
    """Numbers of the same name together, in the order in which they came."""
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [value for row in rows if (value := row.get(name)) is not None and not np.isnan(value)]
        if values:
            yield Finding(name, kind, tuple(float(value) for value in values))


def _way(problem: Problem, trained: Trained, row: int) -> Values:
    """The way from w_0 to the end of training, and the mean of what was passed last."""
    line = paths.linear_path(problem, trained.starts[row], trained.ends[row])
    found: dict[str, float | None] = {
        "rise on the line from w_0 (min Delta)": line.rise,
        "monotone line from w_0 (1 = yes)": float(line.monotone),
        "distance |w_T - w_0|": line.distance,
        "distance / |w_0|": line.relative_distance,
    }
    if len(trained.steps) <= 2:
        return found
    late = paths.average(problem, trained.passed[row, -_LATE:])
    return found | {
        f"loss at the mean of the last {late.points} iterates less mean loss": late.loss_gap,
        f"error at the mean of the last {late.points} iterates less mean error": late.error_gap,
    }


def _convexity(task: Task, problem: Problem, replicate: int, trained: Trained, row: int) -> Values:
    start, found = trained.starts[row], {}
    points = [("w_0", start), *((f"{radius:g} w_0", radius * start) for radius in _RADII), ("w_T", trained.ends[row])]
    for name, weights in points:
        rng = np.random.default_rng(derive("goldilocks", task.name, replicate))
        seen = initialization.goldilocks(problem, weights, _PROBES, _SLICE, rng)
        found[f"Tr(H) / |H| at {name}"] = seen.ratio
        found[f"positive eigenvalues in a random {_SLICE}-plane at {name}"] = seen.positive
    return found


def _planes(task: Task, problem: Problem, replicate: int) -> Values:
    size = problem.full_dimension
    return {
        f"success in a random D/{share}-plane through w_0": planes.success_in_planes(
            task, problem, replicate, max(1, size // share)
        )
        for share in _PLANE_SHARES
    }


def _neurons(problem: Problem, wide: Problem | None, weights: Tensor) -> Values:
    _, merged = symmetry.merge_duplicates(problem, weights, _SAME_NEURON)
    found: dict[str, float | None] = {"distinct neurons / neurons": merged.distinct / merged.neurons}
    if wide is not None:
        split = symmetry.embed(problem, wide, weights)
        found |= {
            "loss change of splitting a neuron": abs(split.wide_loss - split.loss),
            "gradient norm at w_T": split.gradient_norm,
            "gradient norm after splitting": split.wide_gradient_norm,
            "smallest eigenvalue after splitting": split.wide_smallest_eigenvalue,
        }
    return found


def _kernels(problem: ClassificationProblem, trained: Trained, row: int) -> Values:
    """How far the tangent kernel moves in all, and how fast at first and at last."""
    points = [trained.passed[row, place] for place in (0, 1, -2, -1)]
    start, early, late, end = (functions.tangent_kernel(problem, one, _KERNEL_EXAMPLES) for one in points)
    first, last = trained.steps[1] - trained.steps[0], trained.steps[-1] - trained.steps[-2]
    return {
        "kernel distance from w_0 to w_T": functions.kernel_distance(start, end),
        f"kernel velocity a step, first {first}": functions.kernel_distance(start, early) / first,
        f"kernel velocity a step, last {last}": functions.kernel_distance(late, end) / last,
    }


def _between(task: Task, problem: Problem, ends: tuple[Tensor, Tensor]) -> Values:
    line = paths.linear_path(problem, *ends)
    curve = paths.bezier_curve(problem, ends, task.full_training)
    beads = strings.string(problem, ends, task.full_training)
    found: dict[str, float | None] = {
        "loss barrier": line.loss_barrier,
        "error barrier": line.error_barrier,
    }
    if _has_neurons(problem):
        _, matched = symmetry.align(problem, *ends)
        after = _aligned_path(problem, ends)
        found |= {
            "loss barrier after alignment": after.loss_barrier,
            "error barrier after alignment": after.error_barrier,
            "loss change of alignment (rounding)": matched.loss_change,
        }
    found |= {
        "highest loss on a Bezier curve less mean loss": curve.loss_excess,
        "highest error on a Bezier curve less mean error": curve.error_excess,
        "length of the Bezier curve / straight distance": curve.length_ratio,
        "highest loss on a string of beads less mean loss": beads.curve.loss_excess,
        "beads of that string": float(beads.beads),
        "length of that string / straight distance": beads.curve.length_ratio,
        "cosine of the two w_T": functions.cosine(*ends),
    }
    if isinstance(problem, ClassificationProblem):
        both = torch.stack(ends)
        seen = functions.disagreement(problem.test_predictions(both), 1 - problem.test_accuracy(both).numpy())
        found |= {"disagreement on the test set": seen.share, "disagreement / test error": seen.normalized}
    return found


def _aligned_path(problem: Problem, ends: tuple[Tensor, Tensor]) -> paths.LinearPath:
    aligned, _ = symmetry.align(problem, *ends)
    return paths.linear_path(problem, ends[0], aligned)


def _together(task: Task, problem: Problem, ends: Tensor) -> Values:
    """What lies in the middle of all ends of training, before and after it is trained to connect them."""
    centroid = paths.average(problem, ends)
    found, hub = paths.wedge(problem, ends, task.full_training)
    return {
        "loss at the centroid less mean loss": centroid.loss_gap,
        "error at the centroid less mean error": centroid.error_gap,
        "loss at the trained hub": float(paths.evaluate(problem, hub.unsqueeze(0))[0][0]),
        "highest loss on the hub's spokes less mean loss": found.loss_excess,
        "highest error on the hub's spokes less mean error": found.error_excess,
    }


def _signals(task: Task) -> Values:
    """Of plain ReLU networks, whose weights start with a variance of 1 / fan-in and whose biases with zero; pooling and the
    borders of images are left aside."""
    spec = task.problem
    if not (isinstance(spec, Classification) and isinstance(spec.network, MlpNetwork | ConvNetwork)):
        return {}
    normalized = spec.normalizes_batches
    found = initialization.normalized_chaos("relu") if normalized else initialization.transient_chaos("relu", 1.0)
    return {"q* at initialization": found.q_star, "chi_1 at initialization": found.chi_1}


def _has_neurons(problem: Problem) -> bool:
    """Whether its blocks say where hidden neurons lie, and there are some."""
    known = all(len(block.neurons) == len(block.shape) for block in problem.blocks)
    return known and any(layer is not None for block in problem.blocks for layer in block.neurons)
