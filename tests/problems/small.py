"""Problems small enough that a training takes milliseconds: a few blobs and a narrow network, and a quadratic well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lowdim_bench import problems
from lowdim_bench.problems import Problem
from lowdim_bench.specs import Task

RECIPE = {
    "optimizer": {"kind": "sgd", "momentum": 0.9},
    "learning_rate": {"value": 0.1},
    "batch_size": 16,
    "steps": 12,
}
BLOBS: dict[str, Any] = {
    "name": "blobs",
    "problem": {
        "kind": "classification",
        "data": {"kind": "sklearn_digits"},
        "network": {"kind": "mlp", "hidden": [5]},
    },
    "training": {**RECIPE, "optimizer": {"kind": "adam"}, "evaluate_every": 4},
    "full_training": RECIPE,
    "targets": [{"metric": "train_loss", "at_most": 1.0}, {"metric": "train_loss", "at_most": 0.5}],
    "threshold": {"k_max": 32},
    "preparation": {"gradient_evaluations": 1000},
}
"""6 features, 5 hidden units, 3 classes: D = 53. Its arrays are those of `blobs`, not the digits it names."""
OPTIMIZERS = [
    {"kind": "adam"},
    {"kind": "sgd", "momentum": 0.9},
    {"kind": "sgd", "momentum": 0.9, "nesterov": True},
    {"kind": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    {"kind": "adam", "weight_decay": 0.1},
]
"""Whatever carries weights on after their gradient has stopped: momentum, moments and decay."""
FULL_RECIPE: dict[str, Any] = {
    "optimizer": {"kind": "adam"},
    "learning_rate": {"value": 0.1},
    "batch_size": None,
    "steps": 12,
}
WELL: dict[str, Any] = BLOBS | {
    "name": "small-well",
    "problem": {"kind": "quadratic_well", "dimension": 12, "spectrum": {"kind": "power", "exponent": 1.0}},
    "training": {**FULL_RECIPE, "evaluate_every": 4},
    "full_training": FULL_RECIPE,
    "threshold": {"k_max": 12},
}
QUADRATIC: dict[str, Any] = WELL | {
    "name": "small-quadratic",
    "problem": {
        "kind": "quadratic_network",
        "data": {"planted": "gaussian", "dimension": 4, "examples": 90},
        "hidden": 3,
    },
}
"""Three neurons with four inputs and one output: D = 15."""
PIXELS: dict[str, Any] = BLOBS | {
    "name": "small-pixels",
    "track": "open",
    "problem": {
        "kind": "pixel_labelling",
        "data": {
            "kind": "edge_connected_pixels", "side": 5, "longest_path": 3, "train_examples": 60, "test_examples": 30
        },
        "network": {"kind": "pixel_recurrent", "connections": "grid", "steps": 3},
    },
}  # fmt: skip
"""A grid of 5 x 5 pixels, of which 9 have 4 neighbours: D = 36 + 25 + 25 + 1."""
ARENAS: dict[str, Any] = BLOBS | {
    "name": "small-arenas",
    "track": "open",
    "problem": {
        "kind": "pixel_labelling",
        "data": {"kind": "hide_or_run", "side": 5, "longest_path": 2, "train_examples": 60, "test_examples": 30},
        "network": {"kind": "pixel_propagation", "steps": 2},
    },
}
"""Two tags on 5 x 5 cells and a decision: D = 2 * (3 * 25 + 1) + 4."""
TEXT: dict[str, Any] = BLOBS | {
    "name": "small-text",
    "problem": {
        "kind": "next_character",
        "data": {"kind": "bundled_text", "text": "as_you_like_it", "train_characters": 400, "test_characters": 100},
        "network": {"kind": "transformer", "layers": 1, "width": 4, "heads": 2, "context": 6},
    },
}
"""66 windows of 6 of 68 characters, one layer of width 4: D = 68 * 4 + 6 * 4 + 244 + 8 + 4 * 68 + 68."""
LEAST_SQUARES: dict[str, Any] = FULL_RECIPE | {
    "optimizer": {"kind": "alternating_least_squares"},
    "learning_rate": {"value": 1.0},
}
TENSOR: dict[str, Any] = BLOBS | {
    "name": "small-tensor",
    "problem": {
        "kind": "tensor_decomposition",
        "data": {"kind": "planted_tensor", "shape": [7, 6, 5], "rank": 2, "noise": 0.05},
        "rank": 3,
    },
    "training": {**LEAST_SQUARES, "evaluate_every": 4},
    "full_training": LEAST_SQUARES,
    "threshold": {"k_max": 54},
}
"""Three factors of three columns: D = 54; its two components take 36."""
BLOBS_DIMENSION = 6 * 5 + 5 + 5 * 3 + 3
WELL_DIMENSION = 12


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with changes laid over it: mappings are merged, but for a changed `kind`; everything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        same = (
            isinstance(old, dict) and isinstance(value, dict) and value.get("kind", old.get("kind")) == old.get("kind")
        )
        result[key] = merged(old, value) if same and isinstance(old, dict) else value
    return result


def make_task(base: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> Task:
    """A valid task of plain data with some of it changed."""
    return Task.from_data(merged(base, changes or {}), "a task of the tests")


def blobs(seed: int = 0, train: int = 70, test: int = 30) -> dict[str, np.ndarray]:
    """Three blobs in six dimensions, as the arrays of a classification problem."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(3, 6)) * 2
    arrays = {}
    for split, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 3
        arrays[f"x_{split}"] = (centres[labels] + generator.normal(size=(count, 6))).astype(np.float32)
        arrays[f"y_{split}"] = labels.astype(np.int64)
    return arrays


def small_images(train: int = 70, test: int = 30) -> dict[str, np.ndarray]:
    """The blobs as images of one channel and 4 x 4 pixels."""
    flat = blobs(train=train, test=test)
    pixels = np.random.default_rng(1).normal(size=(6, 16)).astype(np.float32)
    return {name: (one @ pixels).reshape(-1, 1, 4, 4) if name[0] == "x" else one for name, one in flat.items()}


def small_problem(task: Task) -> Problem:
    """The problem of a task that `make_task` made."""
    arrays = blobs() if task.problem.kind == "classification" else problems.load_arrays(task, Path())
    return problems.build(task, arrays)
