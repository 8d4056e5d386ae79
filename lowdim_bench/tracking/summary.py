"""What is recorded of a task, a method and a threshold besides the trials themselves. Pure: plain data in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lowdim_bench import futility
from lowdim_bench.figures import Fit, Point
from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Estimate, TrialResult, price
from lowdim_bench.specs import Task
from lowdim_bench.specs.pixels import PixelLabelling
from lowdim_bench.specs.problem import Classification, NextCharacter, QuadraticWell
from lowdim_bench.threshold.counts import count


def parameters(task: Task, method: MethodChoice) -> dict[str, str]:
    """What people filter and group runs by: short names, plain values. The whole of both is in their files."""
    recipe, threshold = task.training, task.threshold
    shown: dict[str, Any] = {
        "task": task.name,
        "track": task.track,
        "problem": task.problem.kind,
        "target": task.ranked_target.name,
        "optimizer": recipe.optimizer.kind,
        "learning_rate": recipe.learning_rate.value,
        "batch_size": recipe.batch_size or "full",
        "steps": recipe.steps,
        "success_probability": threshold.success_probability,
        "precision": threshold.precision,
        "k_min": threshold.k_min,
        "k_max": threshold.k_max,
        "design": threshold.design,
        "method": method.name,
    }
    if isinstance(task.problem, Classification):
        data, network = task.problem.data, task.problem.network
        shown["data"] = getattr(data, "dataset", data.kind)
        shown["network"] = network.kind
        details = network.model_dump(mode="json", exclude={"kind"})
        shown |= {f"network.{name}": value for name, value in details.items()}
    elif isinstance(task.problem, QuadraticWell):
        shown["dimension"] = task.problem.dimension
        shown["spectrum"] = task.problem.spectrum.kind
    else:
        shown |= _flat(task.problem.model_dump(mode="json", exclude={"kind"}))
    # Submitted code is not imported to learn its defaults: what was given is shown.
    resolved = method.parameters if method.code else method.build().model_dump(mode="json")
    shown |= {f"{method.name}.{name}": value for name, value in resolved.items()}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in shown.items()}


def _flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested plain data as one level of names with dots; a nested `kind` stands under the name of what has it."""
    flat: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix.removesuffix(".") if name == "kind" else prefix + name] = value
    return flat


def data_input(task: Task) -> tuple[str, str, str] | None:
    """(name, digest, source) of the training data; None for a problem without data."""
    if not isinstance(task.problem, Classification | PixelLabelling | NextCharacter):
        return None
    data = task.problem.data
    return getattr(data, "dataset", data.kind), data.digest, data.model_dump_json()


def points(results: Sequence[TrialResult], target: str) -> list[Point]:
    """Successes and trials at each k."""
    seen = count(results, target)
    return [
        Point(k, hits, trials)
        for k, hits, trials in zip(seen.k.tolist(), seen.hits.tolist(), seen.trials.tolist(), strict=True)
    ]


def finite_rows(ks: Sequence[int] | np.ndarray, curve: np.ndarray) -> Fit | None:
    """The part of a fitted curve (rows of mean, low, high) that is a number; None where nothing is."""
    rows = [
        (int(k), *row)
        for k, row in zip(ks, np.asarray(curve, dtype=float).tolist(), strict=True)
        if np.isfinite(row).all()
    ]
    return Fit(*(tuple(column) for column in zip(*rows, strict=True))) if rows else None


def progress_metrics(estimate: Estimate) -> dict[str, float | None]:
    """How far an interval has come, by metric name; None where there is nothing to say."""
    return {"k_star": estimate.k_star, "k_star_low": estimate.low, "k_star_high": estimate.high}


def final_metrics(estimate: Estimate, results: Sequence[TrialResult], full_dimension: int) -> dict[str, float | None]:
    """By metric name; None where there is nothing to say."""
    cost = price(results, estimate)
    given_up = futility.report(results)
    return {
        **progress_metrics(estimate),
        "parameter_efficiency": full_dimension / estimate.k_star if estimate.k_star else None,
        "hits": estimate.hits,
        "trials": estimate.trials,
        "trainings": len(results),
        "side_information_bits": cost.side_information_bits if cost else None,
        "preparation_gradient_evaluations": cost.gradient_evaluations if cost else None,
        "futile": given_up.futile if given_up else None,
        "futile_audited": given_up.audited if given_up else None,
        "futile_wrong": given_up.wrong if given_up else None,
        "futile_share_of_steps_saved": given_up.share_saved if given_up else None,
    }


def threshold_record(
    estimate: Estimate, ladder: Sequence[Estimate], seen: Sequence[Point], fit: Fit | None, full_dimension: int
) -> dict[str, Any]:
    """The result of a sweep as plain data."""
    return {
        "format": 1,
        "estimate": estimate.model_dump(mode="json"),
        "ladder": [one.model_dump(mode="json") for one in ladder],
        "full_dimension": full_dimension,
        "counts": [{"k": point.k, "hits": point.hits, "trials": point.trials} for point in seen],
        "fit": None
        if fit is None
        else {"k": list(fit.k), "probability": list(fit.probability), "low": list(fit.low), "high": list(fit.high)},
    }


def sentence(task: Task, label: str, estimate: Estimate, full_dimension: int) -> str:
    """The result in one sentence."""
    often = f"{100 * task.threshold.success_probability:g} % of the trainings"
    reach = f"{label} reaches {estimate.target} on {task.name} in at least {often}"
    fewest = f"the fewest trained numbers with which {reach}"
    behind = f"({estimate.hits} of {estimate.trials} trainings reached it)"
    low, k_star, high = ("?" if k is None else f"{k:,}" for k in (estimate.low, estimate.k_star, estimate.high))
    ends = f" (95 % interval {low} to {high})" if estimate.low or estimate.high else ""
    if estimate.status == "above_range":
        return f"k* > {low}: with no number of trained numbers up to that one is it shown that {reach} {behind}."
    if estimate.status == "below_range":
        return f"k* ≤ {high}, the smallest k that was allowed: {fewest} {behind}."
    if estimate.status == "unfinished" or estimate.k_star is None:
        return f"k* = {k_star}{ends}, less precise than the task asks: {fewest} {behind}."
    times = f"{full_dimension / estimate.k_star:.3g} times fewer than D = {full_dimension:,}"
    return f"k* = {k_star}{ends}: {fewest}, {times} {behind}."
