"""Arrays from files: scikit-learn's digits, and the user's own, which are what their SHA-256 says and never unpickled."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lowdim_bench.errors import UserError


def digits_table() -> np.ndarray:
    """scikit-learn's digits (1797, 65) float32: 64 pixels and a label. Read from its file where that is as ever: importing
    scikit-learn, and pandas with it, takes a CPU second, about as long as all trainings of a sweep."""
    package = find_spec("sklearn")
    for folder in (package.submodule_search_locations or []) if package else []:
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, np.float32, delimiter=",")
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return np.column_stack([bunch.data, bunch.target]).astype(np.float32)


def read_arrays(path: str, sha256: str, data_root: Path, names: Sequence[str]) -> tuple[list[np.ndarray], str]:
    """Arrays of an .npz by their names, and the file's own name; a relative path counts from the data root.

    Raises `UserError` where there is no such file, its SHA-256 is another, or it lacks one of the arrays.
    """
    found = Path(path) if Path(path).is_absolute() else data_root / path
    if not found.is_file():
        raise UserError(
            f"There is no data file {found}. Give its folder with --data-root, or an absolute path in the task."
        )
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            raise UserError(
                f"{found} has SHA-256 {digest}; the task asks for {sha256}. It is another file, or was changed."
            )
        file.seek(0)
        return _read(file, str(found), names), str(found)


def _read(file: BinaryIO, source: str, names: Sequence[str]) -> list[np.ndarray]:
    try:
        stored = np.load(file, allow_pickle=False)
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise UserError(f"{source} holds a single array; it must be an .npz file with {', '.join(names)}.")
        with stored:
            if missing := [name for name in names if name not in stored]:
                raise UserError(f"{source} lacks {', '.join(missing)}; it needs {', '.join(names)}.")
            return [stored[name] for name in names]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{source} is not an .npz file of plain arrays: {error}") from None
