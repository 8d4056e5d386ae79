"""A point measured in parts: whatever the problem, the parts together are the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lowdim_bench import problems
from lowdim_bench.problems import PartMetrics, Problem, measure_parts, together
from tests.problems.small import (
    ARENAS,
    BLOBS,
    PIXELS,
    QUADRATIC,
    TENSOR,
    TEXT,
    WELL,
    blobs,
    make_task,
    small_images,
    small_problem,
)

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "hidden": [5]},
    "convnet": {"kind": "convnet", "channels": [3]},
    "batch normalization": {"kind": "convnet", "channels": [3], "normalization": {"kind": "batch"}},
}


def many(network: str) -> Problem:
    """A classifier of enough examples for several parts, of unequal size."""
    task = make_task(BLOBS, {"problem": {"network": NETWORKS[network]}})
    arrays = blobs(train=1001) if network == "mlp" else small_images(train=1001)
    return problems.build(task, arrays)


@pytest.mark.parametrize("network", NETWORKS)
def test_parts_of_a_classifier_make_the_whole(network: str) -> None:
    problem = many(network)
    sizes = problem.part_sizes
    # Where statistics of the training set are needed for each part, there is one part.
    assert sizes == ((1001,) if network == "batch normalization" else (333, 334, 334))
    weights = problem.initial(0)
    parts = measure_parts(problem, weights, range(len(sizes)))
    whole, directly = together(parts, sizes), problem.train_metrics(weights.unsqueeze(0))
    assert directly.accuracy is not None
    assert whole.loss == pytest.approx(float(directly.loss[0]), rel=1e-6)
    assert whole.accuracy == pytest.approx(float(directly.accuracy[0]))
    assert measure_parts(problem, weights, [len(sizes) - 1]) == parts[-1:], "a part is the same alone, to the bit"


@pytest.mark.parametrize("base", [WELL, QUADRATIC, PIXELS, ARENAS, TEXT, TENSOR], ids=lambda base: base["name"])
def test_other_problems_have_one_part(base: dict[str, Any]) -> None:
    problem = small_problem(make_task(base))
    weights = problem.initial(0)
    (part,) = measure_parts(problem, weights, range(len(problem.part_sizes)))
    directly = problem.train_metrics(weights.unsqueeze(0))
    assert together([part], problem.part_sizes) == part
    assert part.loss == float(directly.loss[0])
    assert torch.equal(part.metrics.loss, directly.loss)


def test_the_mean_is_weighted_by_size() -> None:
    parts = [PartMetrics(0.1, 1.0), PartMetrics(0.4, 0.0)]
    assert together(parts, [3, 1]) == pytest.approx((0.175, 0.75))
    assert together([PartMetrics(1.0, None)] * 2, [1, 1]) == PartMetrics(1.0, None)
