"""Data sets as plain arrays: x_train, y_train, x_test, y_test. Loaded once, by the driver, and sent to the workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lowdim_bench.errors import UserError
from lowdim_bench.problems.arena_data import hide_or_run, predator_range
from lowdim_bench.problems.files import digits_table, read_arrays
from lowdim_bench.problems.pixel_data import edge_connected_pixels
from lowdim_bench.problems.tensors import load_tensor
from lowdim_bench.problems.text_data import text_windows
from lowdim_bench.specs import Task
from lowdim_bench.specs.pixels import EdgeConnectedPixels, HideOrRun, PixelLabelling, PredatorRange
from lowdim_bench.specs.problem import (
    ArraysData,
    Classification,
    Data,
    DigitsData,
    NextCharacter,
    TorchvisionData,
)
from lowdim_bench.specs.tensors import TensorDecomposition

Arrays = dict[str, np.ndarray]


def load_arrays(task: Task, data_root: Path) -> Arrays:
    """The arrays of a task's data; empty for a problem without data, or whose data is made with it.

    Images come as N x channels x height x width, labels as int64. Downloads what torchvision can download. Raises
    `UserError` where data is missing, cannot be fetched, is not what its SHA-256 says, or does not fit together.
    """
    if isinstance(task.problem, NextCharacter):
        return text_windows(task.problem)
    if isinstance(task.problem, TensorDecomposition):
        return {"tensor": load_tensor(task, data_root)}
    if isinstance(task.problem, PixelLabelling):
        return _grids(task.problem.data)
    if not isinstance(task.problem, Classification):
        return {}
    data: Data = task.problem.data
    if isinstance(data, DigitsData):
        arrays = _digits(data)
    elif isinstance(data, TorchvisionData):
        arrays = _torchvision(data, data_root)
    else:
        arrays = _own_arrays(data, data_root)
    if arrays["y_test"].max() > arrays["y_train"].max():
        raise UserError(
            f"{task.name}: the test set has labels that the training set, or the part of it asked for, lacks."
        )
    return arrays


def _digits(data: DigitsData) -> Arrays:
    rows = digits_table()
    inputs, labels = rows[:, :-1].reshape(-1, 1, 8, 8), rows[:, -1].astype(np.int64)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(labels))
    train, test = order[: -data.test_examples], order[-data.test_examples :]
    return {"x_train": inputs[train], "y_train": labels[train], "x_test": inputs[test], "y_test": labels[test]}


def _grids(data: EdgeConnectedPixels | PredatorRange | HideOrRun) -> Arrays:
    match data:
        case EdgeConnectedPixels():
            return edge_connected_pixels(data)
        case PredatorRange():
            return predator_range(data)
        case HideOrRun():
            return hide_or_run(data)


def _torchvision(data: TorchvisionData, data_root: Path) -> Arrays:
    from torchvision import datasets

    kind = getattr(datasets, data.dataset)
    try:
        try:
            parts = [kind(data_root, train=train, download=False) for train in (True, False)]
        except RuntimeError:  # torchvision's word for: not there, or not intact
            data_root.mkdir(parents=True, exist_ok=True)
            parts = [kind(data_root, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{data.dataset} is not under the data root {data_root}, and downloading it failed: {error}. Connect to the "
            f"network and run again, or give the folder that torchvision filled with --data-root or LOWDIM_BENCH_DATA_ROOT."
        ) from None
    arrays: Arrays = {}
    for part, split in zip(parts, ("train", "test"), strict=True):
        arrays[f"x_{split}"] = _channels_first(np.asarray(part.data))
        arrays[f"y_{split}"] = np.asarray(part.targets, dtype=np.int64)
    return _first(arrays, data.train_examples)


def _own_arrays(data: ArraysData, data_root: Path) -> Arrays:
    names = ("x_train", "y_train", "x_test", "y_test")
    found, source = read_arrays(data.path, data.sha256, data_root, names)
    arrays: Arrays = dict(zip(names, found, strict=True))
    _check(arrays, source)
    for split in ("train", "test"):
        inputs = arrays[f"x_{split}"]
        arrays[f"x_{split}"] = _channels_first(inputs if inputs.dtype == np.uint8 else inputs.astype(np.float32))
        arrays[f"y_{split}"] = arrays[f"y_{split}"].astype(np.int64)
    return _first(arrays, data.train_examples)


def _check(arrays: Arrays, source: str) -> None:
    """That the user's arrays are numbers, finite, of one shape, with a label in 0..C-1 for every example."""
    for split in ("train", "test"):
        inputs, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if inputs.ndim not in (2, 3, 4) or inputs.dtype.kind not in "uif":
            raise UserError(
                f"{source}: x_{split} must be real numbers: N x features, N x H x W or N x H x W x channels."
            )
        if labels.shape != inputs.shape[:1] or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
            raise UserError(f"{source}: y_{split} must hold one integer label for each of the {len(inputs)} examples.")
        if not (np.abs(inputs) <= np.finfo(np.float32).max).all() or labels.min() < 0:  # so is NaN refused
            raise UserError(f"{source}: x_{split} must be finite in float32 and y_{split} must not be negative.")
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise UserError(f"{source}: training and test examples differ in shape.")
    if arrays["x_train"].dtype != arrays["x_test"].dtype:  # bytes are scaled by 255, other numbers by the largest
        raise UserError(f"{source}: x_train and x_test differ in type, and so would be scaled differently.")


def _channels_first(inputs: np.ndarray) -> np.ndarray:
    """N x H x W [x channels] to N x channels x H x W; N x features stays."""
    if inputs.ndim == 3:
        return inputs[:, None]
    return np.ascontiguousarray(inputs.transpose(0, 3, 1, 2)) if inputs.ndim == 4 else inputs


def _first(arrays: Arrays, count: int | None) -> Arrays:
    if count is None:
        return arrays
    available = len(arrays["y_train"])
    if count > available:
        raise UserError(f"train_examples is {count}, but there are only {available} training examples.")
    return arrays | {"x_train": arrays["x_train"][:count], "y_train": arrays["y_train"][:count]}
