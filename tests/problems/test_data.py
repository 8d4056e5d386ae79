"""Data come as they are expected or not at all, and the error says what to do."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from lowdim_bench import problems
from lowdim_bench.errors import UserError
from lowdim_bench.problems import files, load_arrays
from lowdim_bench.specs import Task, load_task
from tests.problems.small import BLOBS, WELL, blobs, make_task

Arrays = dict[str, Any]


def own(file: Path, **more: Any) -> Task:
    data = {"kind": "arrays", "path": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), **more}
    return make_task(BLOBS, {"problem": {"data": data}})


def stored(folder: Path, arrays: Arrays) -> Path:
    path = folder / "mine.npz"
    np.savez(path, **arrays)
    return path


def test_wells_have_no_data(tmp_path: Path) -> None:
    assert load_arrays(make_task(WELL), tmp_path) == {}


@pytest.mark.parametrize("elsewhere", [False, True], ids=["from the file", "by scikit-learn"])
def test_the_digits_are_those_of_scikit_learn(elsewhere: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    if elsewhere:  # where another version may keep them
        monkeypatch.setattr(files, "find_spec", lambda name: None)
    table = files.digits_table()
    np.testing.assert_array_equal(table[:, :-1].reshape(-1, 8, 8), bunch.images)
    np.testing.assert_array_equal(table[:, -1], bunch.target)
    assert table.dtype == np.float32


def test_the_digits_come_without_importing_scikit_learn() -> None:
    code = "import sys\nfrom lowdim_bench.problems import files\nfiles.digits_table()\n"
    code += "sys.exit('sklearn' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_split_of_the_digits_is_fixed(tmp_path: Path) -> None:
    arrays = load_arrays(load_task("digits-mlp"), tmp_path)
    assert {name: part.shape for name, part in arrays.items()} == {
        "x_train": (1437, 1, 8, 8),
        "y_train": (1437,),
        "x_test": (360, 1, 8, 8),
        "y_test": (360,),
    }
    found = {name: hashlib.sha256(arrays[name].astype("<i8").tobytes()).hexdigest()[:16] for name in arrays}
    assert found == {
        "x_train": "ea5052cedbf7a2c7",
        "y_train": "b62c5684e8251c8e",
        "x_test": "5d19493cf5f1a37e",
        "y_test": "5cdf6153e06c5478",
    }
    everything = np.concatenate([arrays["x_train"], arrays["x_test"]]).reshape(1797, -1)
    assert len(np.unique(everything, axis=0)) == 1797  # no example is in both parts
    smaller = make_task(BLOBS, {"problem": {"data": {"test_examples": 100}}})
    assert len(load_arrays(smaller, tmp_path)["y_train"]) == 1697


def test_own_arrays_are_read_by_absolute_and_by_relative_path(tmp_path: Path) -> None:
    path = stored(tmp_path, blobs())
    task = own(path)
    relative = own(path, path="mine.npz")
    for loaded in (load_arrays(task, Path("elsewhere")), load_arrays(relative, tmp_path)):
        np.testing.assert_array_equal(loaded["x_train"], blobs()["x_train"])
        assert loaded["y_train"].dtype == np.int64
    assert problems.build(task, load_arrays(task, tmp_path)).full_dimension == 53


@pytest.mark.parametrize(
    ("shape", "became"),
    [((5, 6), (5, 6)), ((5, 4, 3), (5, 1, 4, 3)), ((5, 4, 3, 2), (5, 2, 4, 3))],
    ids=["features", "grey", "colour"],
)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float16", "float32", "float64", "longdouble"])
def test_own_images_become_channels_first_and_bytes_stay_bytes(
    tmp_path: Path, shape: tuple[int, ...], became: tuple[int, ...], dtype: str
) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    labels = np.arange(5, dtype=np.uint8)
    task = own(stored(tmp_path, {"x_train": values, "y_train": labels, "x_test": values, "y_test": labels}))
    arrays = load_arrays(task, tmp_path)
    assert arrays["x_train"].shape == arrays["x_test"].shape == became
    assert arrays["x_train"].dtype == (np.uint8 if dtype == "uint8" else np.float32)
    if len(shape) == 4:
        np.testing.assert_array_equal(arrays["x_train"][3, 1], values[3, :, :, 1].astype(np.float64))
    assert problems.build(task, arrays).example_count == 5


def test_only_the_first_examples_are_kept_where_asked(tmp_path: Path) -> None:
    path = stored(tmp_path, blobs())
    arrays = load_arrays(own(path, train_examples=9), tmp_path)
    np.testing.assert_array_equal(arrays["x_train"], blobs()["x_train"][:9])
    assert len(arrays["y_train"]) == 9
    assert len(arrays["y_test"]) == 30
    with pytest.raises(UserError, match="train_examples is 71, but there are only 70"):
        load_arrays(own(path, train_examples=71), tmp_path)


def replace(name: str, change: Callable[[Any], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {name: change(arrays[name])}


def with_entry(value: float) -> Callable[[Any], Any]:
    def change(inputs: np.ndarray) -> np.ndarray:
        inputs = inputs.copy()
        inputs[3, 2] = value
        return inputs

    return change


MISFITS: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "missing": (
        lambda arrays: {name: arrays[name] for name in ("x_train", "y_test")},
        "lacks y_train, x_test; it needs",
    ),
    "pickled inputs": (
        replace("x_train", lambda x: x.astype(object)),
        "not an .npz file of plain arrays.*allow_pickle",
    ),
    "pickled labels": (replace("y_test", lambda y: y.astype(object)), "not an .npz file of plain arrays.*allow_pickle"),
    "nan": (replace("x_train", with_entry(np.nan)), "x_train must be finite"),
    "infinity": (replace("x_test", with_entry(-np.inf)), "x_test must be finite"),
    "too large": (
        lambda arrays: arrays | {name: arrays[name].astype(np.float64) * 1e300 for name in ("x_train", "x_test")},
        "x_train must be finite in float32",
    ),
    "one axis": (replace("x_train", lambda x: x[:, 0]), "x_train must be real numbers"),
    "five axes": (replace("x_train", lambda x: x[:, :, None, None, None]), "x_train must be real numbers"),
    "text": (replace("x_train", lambda x: x.astype(str)), "x_train must be real numbers"),
    "complex": (replace("x_train", lambda x: x.astype(complex)), "x_train must be real numbers"),
    "booleans": (replace("x_train", lambda x: x > 0), "x_train must be real numbers"),
    "a label short": (replace("y_train", lambda y: y[:-1]), "y_train must hold one integer label for each of the 70"),
    "float labels": (replace("y_train", lambda y: y.astype(float)), "y_train must hold one integer label"),
    "one-hot labels": (replace("y_train", lambda y: np.eye(3, dtype=int)[y]), "y_train must hold one integer label"),
    "negative labels": (replace("y_test", lambda y: y - 1), "y_test must not be negative"),
    "new labels": (replace("y_test", lambda y: y + 1), "labels that the training set"),
    "other shape": (replace("x_test", lambda x: x[:, :5]), "differ in shape"),
    "other type": (replace("x_test", lambda x: x.astype(np.uint8)), "differ in type"),
    "no test set": (
        lambda arrays: arrays | {"x_test": arrays["x_test"][:0], "y_test": arrays["y_test"][:0]},
        "y_test must hold",
    ),
}


@pytest.mark.parametrize(("change", "reason"), MISFITS.values(), ids=MISFITS)
def test_own_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[Arrays], Arrays], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        load_arrays(own(stored(tmp_path, change(blobs()))), tmp_path)


def test_a_part_of_the_training_set_that_lacks_a_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the part of it asked for, lacks"):
        load_arrays(own(stored(tmp_path, blobs()), train_examples=2), tmp_path)


def test_another_file_than_the_task_names_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path, blobs())
    task = own(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match=r"has SHA-256 .* the task asks for"):
        load_arrays(task, tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"There is no data file .* Give its folder with --data-root"):
        load_arrays(task, tmp_path)


def single_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def damaged_archive() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **blobs())
    content = bytearray(file.getvalue())
    content[200:400] = bytes(200)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an .npz file"),
        (b"PK\x03\x04", "not an .npz file"),
        (b"hello", "not an .npz file"),
        (single_array(), "holds a single array"),
        (damaged_archive(), "not an .npz file"),
    ],
    ids=["empty", "cut off", "text", "single array", "damaged"],
)
def test_files_that_are_no_npz_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason):
        load_arrays(own(path), tmp_path)


TORCHVISION = make_task(BLOBS, {"problem": {"data": {"kind": "torchvision", "dataset": "MNIST"}}})


@pytest.mark.parametrize("error", [urllib.error.URLError("no route to host"), RuntimeError("Error downloading x")])
def test_offline_the_error_says_where_data_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = []

    class Offline:
        def __init__(self, root: Path, *, train: bool, download: bool) -> None:
            asked.append(download)
            raise error if download else RuntimeError("Dataset not found. You can use download=True to download it")

    monkeypatch.setattr(datasets, "MNIST", Offline)
    root = tmp_path / "new" / "root"
    with pytest.raises(UserError) as caught:
        load_arrays(TORCHVISION, root)
    assert asked == [False, True]
    for part in ("MNIST is not under the data root", str(root), str(error), "--data-root or LOWDIM_BENCH_DATA_ROOT"):
        assert part in str(caught.value)


def test_what_torchvision_has_is_not_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class There:
        def __init__(self, root: Path, *, train: bool, download: bool) -> None:
            assert not download
            count = 40 if train else 20
            self.data = np.full((count, 32, 32, 3), 7, dtype=np.uint8)
            self.targets = [place % 10 for place in range(count)]

    monkeypatch.setattr(datasets, "CIFAR10", There)
    data = {"kind": "torchvision", "dataset": "CIFAR10", "train_examples": 30}
    arrays = load_arrays(make_task(BLOBS, {"problem": {"data": data}}), tmp_path / "absent")
    assert arrays["x_train"].shape == (30, 3, 32, 32)
    assert arrays["x_test"].shape == (20, 3, 32, 32)
    assert arrays["y_train"].dtype == np.int64
    assert not (tmp_path / "absent").exists()


@pytest.mark.needs_data
def test_mnist_is_mnist(data_root: Path) -> None:
    task = load_task("mnist-conv2")
    arrays = load_arrays(task, data_root)
    assert arrays["x_train"].shape == (60_000, 1, 28, 28)
    assert arrays["x_test"].shape == (10_000, 1, 28, 28)
    assert arrays["x_train"].dtype == np.uint8
    assert arrays["y_train"][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(arrays["y_test"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert arrays["x_train"].mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert problems.layout(task, arrays)[-1].stop == 20_490
