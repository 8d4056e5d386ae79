"""What networks get wrong that label every pixel, on the test set: where, and along how long paths."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lowdim_bench.errors import UserError
from lowdim_bench.landscape.findings import Job, Number, Of, Seen, Values
from lowdim_bench.problems import Problem
from lowdim_bench.problems.networks.pixels import Propagation, Recurrent, build_pixel_network
from lowdim_bench.problems.pixel_labelling import PixelErrors, PixelProblem
from lowdim_bench.specs import Task
from lowdim_bench.specs.pixels import EdgeConnectedPixels, PixelLabelling, PixelPropagation, PixelRecurrent

_DIAGNOSTIC = "label errors"
_MISSED = "share of test images with a wrong label"


def error_jobs(task: Task, problem: Problem, ends: Tensor) -> list[tuple[Of, list[Job]]]:
    """What finds the errors of trained weights (R, D), a job each, and last those of the engineered solution.

    Raises `UserError` for a problem that labels no pixels.
    """
    if not (isinstance(problem, PixelProblem) and isinstance(task.problem, PixelLabelling)):
        raise UserError(
            f"{task.name} labels no pixels, and so has no errors by path length. Leave --errors-only out, or choose a task "
            "whose problem is pixel_labelling, such as pixels7-grid."
        )
    jobs: list[tuple[Of, list[Job]]] = [("replicate", [partial(label_errors, problem, weights)]) for weights in ends]
    return [*jobs, ("reference", [partial(engineered_errors, problem, task.problem)])]


def label_errors(problem: PixelProblem, weights: Tensor) -> list[Seen]:
    """Of trained weights (D,). The error on the training data stands beside: who solves a task by heart has none there."""
    known = problem.train_metrics(weights.unsqueeze(0)).accuracy
    assert known is not None
    values: Values = {"error on training data, 1 - train_accuracy": 1 - float(known[0])}
    return [Seen(_DIAGNOSTIC, {**values, **_values(problem.test_errors(weights), _MISSED)})]


def engineered_errors(problem: PixelProblem, spec: PixelLabelling) -> list[Seen]:
    """Of the authors' weights, untrained, on the same test set: a grid or a tag of as many steps as the network has, or as the
    longest path where that has none. T steps solve what is at most T pixels long (Larsen & Druckmann 2022)."""
    steps = getattr(spec.network, "steps", spec.data.longest_path)
    if isinstance(spec.data, EdgeConnectedPixels):
        network = PixelRecurrent(kind="pixel_recurrent", connections="grid", steps=steps)
    else:
        network = PixelPropagation(kind="pixel_propagation", steps=steps)
    oracle = build_pixel_network(spec.model_copy(update={"network": network}))
    assert isinstance(oracle, Recurrent | Propagation)
    with torch.no_grad():
        errors = problem.test_errors(oracle.engineered().to(problem.device), oracle)
    name = f"engineered solution of {steps} steps"
    return [Seen(_DIAGNOSTIC, _values(errors, f"{name}: {_MISSED}", f"{name}: "))]


def _values(errors: PixelErrors, series: str, before: str = "") -> Values:
    whole: dict[str | Number, float | None] = {
        f"{before}test images with a wrong label": errors.whole_images,
        f"{before}path error": errors.path,
        f"{before}distractor error": errors.distractor,
    }
    by_length = {
        Number(f"{series}, path length {length}", series, "path length of the image", float(length)): missed
        for length, missed in errors.by_path_length.items()
    }
    return {**whole, **by_length}
