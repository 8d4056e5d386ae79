"""All diagnostics of a task's full training, from some replicates.

Every number is of the full training set, but the disagreement of networks and what they label wrong, which are of the test set.
A diagnostic that a problem cannot have is left out: alignment where nobody knows the neurons, kernels and predictions where
there are no classes. Pairs and groups share no replicate with one another, so that they are independent and have intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lowdim_bench.engine import Span
from lowdim_bench.errors import UserError
from lowdim_bench.landscape import connection, functions, initialization, paths, planes, strings, symmetry
from lowdim_bench.landscape.findings import Finding, Job, Number, Of, Seen, Values, Way, findings
from lowdim_bench.landscape.labelling import error_jobs
from lowdim_bench.landscape.training import CHECKPOINTS, Trained, continued, full_training
from lowdim_bench.problems import Problem
from lowdim_bench.problems.classification import ClassificationProblem
from lowdim_bench.problems.pixel_labelling import PixelProblem
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Task
from lowdim_bench.specs.problem import Classification, ConvNetwork, MlpNetwork, Network, QuadraticNetwork

_LATE = CHECKPOINTS // 4
"""Checkpoints that are averaged."""
_PROBES = 32
_SLICE = 10
_RADII = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of w_0 at which the loss's convexity is looked at."""
_PLANE_SHARES = (64, 16, 4)
"""Random planes have D divided by these dimensions."""
_KERNEL_EXAMPLES = 100
_SAME_NEURON = 0.01
"""Incoming weights this near, as a share of their norm, belong to duplicates."""

_TOLERANCES = (0.001, 0.01, 0.1)
"""Barriers of an example up to which it is called linearly connected."""

GROUP = 3
"""Replicates that one connector joins; where there are but two, these."""
_EARLY = (0, 1, 2, 4, 8)
"""Checkpoints at which the tangent kernel is looked at, beside the last two: it moves early."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found on a task's landscape."""

    dimension: int
    replicates: tuple[int, ...]
    start_losses: tuple[float, ...]
    end_losses: tuple[float, ...]
    findings: tuple[Finding, ...]
    ways: tuple[tuple[str, Way], ...]
    """Losses along lines and curves, each after the diagnostic that looked there."""


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
    spawn_step: int | None = None,
    *,
    errors_only: bool = False,
) -> Diagnosis:
    """Train all D weights of at least two replicates by the task's full-training recipe, and look at where that leads.

    `wide` is the problem of `widened(task)`. With `spawn_step`, three more trainings of each replicate go on from there, and
    tell which examples are linearly connected. Raises `UserError` for fewer replicates, for such a step that is not of the
    recipe or of a task without classes, and where training ends at weights whose loss is not finite.
    """
    if len(replicates) < 2:
        raise UserError(f"Paths between trainings need at least 2 replicates; got {len(replicates)}.")
    if spawn_step is not None:
        _check_spawn(task, spawn_step)
    trained = full_training(task, problem, replicates)
    return diagnose_points(task, problem, wide, replicates, trained, progress, spawn_step, errors_only=errors_only)


def diagnose_points(
    task: Task,
    problem: Problem,
    wide: Problem | None,
    replicates: Sequence[int],
    trained: Trained,
    progress: Callable[[int, int], None] | None = None,
    spawn_step: int | None = None,
    *,
    errors_only: bool = False,
) -> Diagnosis:
    """The same of weights that were trained elsewhere, by whatever method. What needs points passed on the way is left out
    where `trained` has none but the ends. Raises `UserError` where a loss is not finite, and for what
    is no network. With `errors_only`, nothing but what networks get wrong that label pixels, which raises
    `UserError` for others."""
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
    jobs = error_jobs(task, problem, trained.ends) if errors_only else _jobs(task, problem, wide, replicates, trained)
    if spawn_step is not None and isinstance(problem, ClassificationProblem):
        for start, replicate, (_, of_one) in zip(trained.starts, replicates, jobs, strict=False):
            of_one.append(partial(_examples, task, problem, replicate, start, spawn_step))
    found: dict[Of, list[list[Seen]]] = {}
    done, count = 0, sum(len(repeat) for _, repeat in jobs)
    for of, repeat in jobs:
        found.setdefault(of, []).append([])
        for job in repeat:
            found[of][-1] += job()
            done += 1
            if progress:
                progress(done, count)
    everything = [one for of in found.values() for repeat in of for one in repeat]
    return Diagnosis(
        dimension=problem.full_dimension,
        replicates=tuple(replicates),
        start_losses=tuple(paths.evaluate(problem, trained.starts)[0].tolist()),
        end_losses=tuple(losses.tolist()),
        findings=tuple(finding for of, repeats in found.items() for finding in findings(of, repeats)),
        ways=tuple((one.diagnostic, way) for one in everything for way in one.ways),
    )


def _jobs(
    task: Task, problem: Problem, wide: Problem | None, replicates: Sequence[int], trained: Trained
) -> list[tuple[Of, list[Job]]]:
    """Everything that is to be found of each repeat, as calls that find it."""
    jobs: list[tuple[Of, list[Job]]] = []
    for row, replicate in enumerate(replicates):
        of_one: list[Job] = [
            partial(_way, problem, trained, row, str(replicate)),
            partial(_convexity, task, problem, replicate, trained, row),
            partial(_planes, task, problem, replicate),
        ]
        if _has_neurons(problem):
            of_one.append(partial(_neurons, problem, wide, trained.ends[row]))
        if isinstance(problem, ClassificationProblem) and len(trained.steps) > 2:
            of_one.append(partial(_kernels, problem, trained, row))
        jobs.append(("replicate", of_one))
    for name, rows in _apart(replicates, 2):
        one, other = trained.ends[rows]
        jobs.append(("pair", [partial(_between, task, problem, (one, other), name)]))
    for name, rows in _apart(replicates, min(GROUP, len(replicates))):
        jobs.append(("group", [partial(_connector, task, problem, trained.ends[rows], name)]))
    jobs.append(("task", [partial(_signals, task)]))
    if isinstance(problem, PixelProblem):
        *each, reference = error_jobs(task, problem, trained.ends)
        for (_, of_one), (_, errors) in zip(jobs, each, strict=False):
            of_one.extend(errors)
        jobs.append(reference)
    return jobs


def _apart(replicates: Sequence[int], size: int) -> list[tuple[str, slice]]:
    """Groups of neighbours that share none, by their names; replicates that are too few for another one are left out."""
    starts = range(0, len(replicates) - size + 1, size)
    return [(", ".join(map(str, replicates[one : one + size])), slice(one, one + size)) for one in starts]


def _way(problem: Problem, trained: Trained, row: int, name: str) -> list[Seen]:
    """The way from w_0 to the end of training, and the mean of what was passed last."""
    line = paths.linear_path(problem, trained.starts[row], trained.ends[row])
    values: Values = {
        "rise on the line from w_0 (min Delta)": line.rise,
        Number("monotone lines from w_0, their share", share=True): float(line.monotone),
        "distance |w_T - w_0|": line.distance,
        "distance / |w_0|": line.relative_distance,
    }
    seen = [Seen("linear interpolation", values, (Way("from w_0 to w_T", name, line.losses),))]
    if len(trained.steps) <= 2:
        return seen
    late = paths.average(problem, trained.passed[row, -_LATE:])
    averaged: Values = {
        f"loss at the mean of the last {late.points} iterates less mean loss": late.loss_gap,
        f"error at the mean of the last {late.points} iterates less mean error": late.error_gap,
    }
    return [*seen, Seen("averaged iterates", averaged)]


def _convexity(task: Task, problem: Problem, replicate: int, trained: Trained, row: int) -> list[Seen]:
    start, found = trained.starts[row], {}
    points: list[tuple[str, float | None, Tensor]] = [
        ("w_0" if radius == 1 else f"{radius:g} w_0", radius, radius * start) for radius in _RADII
    ]
    for name, radius, weights in [*points, ("w_T", None, trained.ends[row])]:
        rng = np.random.default_rng(derive("goldilocks", task.name, replicate))
        seen = initialization.goldilocks(problem, weights, _PROBES, _SLICE, rng)
        for what, value in (
            ("Tr(H) / |H|", seen.ratio),
            (f"positive eigenvalues in a random {_SLICE}-plane", seen.positive),
        ):
            found[Number(f"{what} at {name}", what, "radius |w| / |w_0|", radius)] = value
    return [Seen("convexity", found)]


def _check_spawn(task: Task, step: int) -> None:
    if not isinstance(task.problem, Classification):
        raise UserError(
            f"{task.name} has no classes, and so no examples that could be linearly connected: leave the spawn step out."
        )
    if not 0 <= step < task.full_training.steps:
        raise UserError(
            f"The full training of {task.name} has {task.full_training.steps} steps; spawn at one of 0 to "
            f"{task.full_training.steps - 1}, not at {step}."
        )


def _examples(task: Task, problem: ClassificationProblem, replicate: int, start: Tensor, step: int) -> list[Seen]:
    """Between trainings that go on from the same weights."""
    spawned = continued(task, problem, [replicate], [start], Span(0, step))
    (found,) = connection.spawned_connections(task, problem, spawned, step, [replicate])
    values: dict[str | Number, float | None] = {f"mean barrier of an example, spawned at step {step}": found.mean}
    for tolerance in _TOLERANCES:
        what = f"share of examples linearly connected, spawned at step {step}"
        values[Number(f"{what}, up to {tolerance:g}", what, "highest barrier", tolerance)] = found.share(tolerance)
    return [Seen("linearly connected examples", values)]


def _planes(task: Task, problem: Problem, replicate: int) -> list[Seen]:
    found = {}
    for share in _PLANE_SHARES:
        k = max(1, problem.full_dimension // share)
        number = Number(
            f"success in a random D/{share}-plane through w_0",
            "share of random planes through w_0 with success",
            "training dimension k",
            float(k),
        )
        found[number] = planes.success_in_planes(task, problem, replicate, k)
    return [Seen("random planes", found)]


def _neurons(problem: Problem, wide: Problem | None, weights: Tensor) -> list[Seen]:
    _, merged = symmetry.merge_duplicates(problem, weights, _SAME_NEURON)
    distinct = merged.distinct / merged.neurons
    if wide is None:
        return [Seen("duplicate neurons", {"distinct neurons / neurons": distinct})]
    split = symmetry.embed(problem, wide, weights)
    embedding: Values = {
        "loss change of splitting a neuron": abs(split.wide_loss - split.loss),
        "gradient norm at w_T": split.gradient_norm,
        "gradient norm after splitting": split.wide_gradient_norm,
    }
    duplicates: Values = {
        "distinct neurons / neurons": distinct,
        "smallest eigenvalue after splitting": split.wide_smallest_eigenvalue,
    }
    return [Seen("embedding principle", embedding), Seen("duplicate neurons", duplicates)]


def _kernels(problem: ClassificationProblem, trained: Trained, row: int) -> list[Seen]:
    """How far the tangent kernel has moved, and how fast it moves meanwhile."""
    last = len(trained.steps) - 1
    places = sorted({place for place in (*_EARLY, last - 1, last) if place <= last})
    kernels = {
        place: functions.tangent_kernel(problem, trained.passed[row, place], _KERNEL_EXAMPLES) for place in places
    }
    found: dict[str | Number, float | None] = {}
    for before, after in pairwise(places):
        first, step = trained.steps[before], trained.steps[after]
        moved = functions.kernel_distance(kernels[before], kernels[after])
        series = "kernel velocity a step"
        number = Number(f"{series}, from {first} to {step}", series, "training step", (first + step) / 2)
        found[number] = moved / (step - first)
    for place in places[1:]:
        step, series = trained.steps[place], "kernel distance from w_0"
        name = f"{series} to w_T" if place == last else f"{series} to step {step}"
        number = Number(name, series, "training step", float(step))
        found[number] = functions.kernel_distance(kernels[0], kernels[place])
    return [Seen("kernels", found)]


def _between(task: Task, problem: Problem, ends: tuple[Tensor, Tensor], name: str) -> list[Seen]:
    """Everything on the ways between two ends of training, and how differently they predict."""
    line = paths.linear_path(problem, *ends)
    raw = Way("between two w_T", name, line.losses)
    barriers: Values = {"loss barrier": line.loss_barrier, "error barrier": line.error_barrier}
    seen = [Seen("linear mode connectivity", barriers, (raw,))]
    if _has_neurons(problem):
        aligned, matched = symmetry.align(problem, *ends)
        after = paths.linear_path(problem, ends[0], aligned)
        values: Values = {
            "loss barrier after alignment": after.loss_barrier,
            "error barrier after alignment": after.error_barrier,
            "loss change of alignment (rounding)": matched.loss_change,
        }
        seen.append(Seen("permutation alignment", values, (raw, Way("between them, aligned", name, after.losses))))
    return [*seen, *_curves(task, problem, ends, raw), _predictions(problem, ends)]


def _curves(task: Task, problem: Problem, ends: tuple[Tensor, Tensor], straight: Way) -> list[Seen]:
    curve = paths.bezier_curve(problem, ends, task.full_training)
    beads = strings.string(problem, ends, task.full_training)
    bent: Values = {
        "highest loss on a Bezier curve less mean loss": curve.loss_excess,
        "highest error on a Bezier curve less mean error": curve.error_excess,
        "length of the Bezier curve / straight distance": curve.length_ratio,
    }
    strung: Values = {
        "highest loss on a string of beads less mean loss": beads.curve.loss_excess,
        "beads of that string": float(beads.beads),
        "length of that string / straight distance": beads.curve.length_ratio,
    }
    return [
        Seen("curve connectivity", bent, (straight, Way("trained Bezier curve", straight.name, curve.losses))),
        Seen("string of beads", strung, (straight, Way("string of beads", straight.name, beads.curve.losses))),
    ]


def _predictions(problem: Problem, ends: tuple[Tensor, Tensor]) -> Seen:
    found: dict[str | Number, float | None] = {"cosine of the two w_T": functions.cosine(*ends)}
    if isinstance(problem, ClassificationProblem):
        both = torch.stack(ends)
        seen = functions.disagreement(problem.test_predictions(both), 1 - problem.test_accuracy(both).numpy())
        found |= {"disagreement on the test set": seen.share, "disagreement / test error": seen.normalized}
    return Seen("ensemble disagreement", found)


def _connector(task: Task, problem: Problem, ends: Tensor, name: str) -> list[Seen]:
    """What lies in the middle of some ends of training, before and after it is trained to connect them."""
    centroid = paths.average(problem, ends)
    found, hub = paths.wedge(problem, ends, task.full_training)
    values: Values = {
        f"loss at the centroid of {len(ends)} less mean loss": centroid.loss_gap,
        f"error at the centroid of {len(ends)} less mean error": centroid.error_gap,
        "loss at the trained hub": float(paths.evaluate(problem, hub.unsqueeze(0))[0][0]),
        "highest loss on the hub's spokes less mean loss": found.loss_excess,
        "highest error on the hub's spokes less mean error": found.error_excess,
    }
    each = np.split(np.array(found.losses), len(ends))
    spokes = [Way("from the trained hub to w_T", name, tuple(spoke.tolist())) for spoke in each]
    return [Seen("n-wedge connectors", values, tuple(spokes))]


def _signals(task: Task) -> list[Seen]:
    """Of plain ReLU networks, whose weights start with a variance of 1 / fan-in and whose biases with zero; pooling and the
    borders of images are left aside. In closed form: there is nothing to repeat."""
    spec = task.problem
    if not (isinstance(spec, Classification) and isinstance(spec.network, MlpNetwork | ConvNetwork)):
        return []
    normalized = spec.normalizes_batches
    found = initialization.normalized_chaos("relu") if normalized else initialization.transient_chaos("relu", 1.0)
    return [Seen("transient chaos", {"q* at initialization": found.q_star, "chi_1 at initialization": found.chi_1})]


def _has_neurons(problem: Problem) -> bool:
    """Whether its blocks say where hidden neurons lie, and there are some."""
    known = all(len(block.neurons) == len(block.shape) for block in problem.blocks)
    return known and any(layer is not None for block in problem.blocks for layer in block.neurons)
