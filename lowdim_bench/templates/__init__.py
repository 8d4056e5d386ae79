"""The files that `init-submission` writes: a submission that works, to be changed into one's own."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

from lowdim_bench.errors import UserError, unknown

KINDS = ("subspace", "mask", "builtin")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_SUFFIX = ".template"


def write_submission(parent: Path, name: str, kind: str) -> list[Path]:
    """Write parent/name and return its files. `kind` is one of `KINDS`.

    Raises `UserError` where the folder is there already, the name cannot be one, or the kind is unknown.
    """
    if kind not in KINDS:
        raise unknown("kind of submission", kind, KINDS)
    if not _NAME.fullmatch(name):
        raise UserError(
            f"'{name}' cannot be the name of a submission: it takes small letters, digits, '-' and '_', at most 64, and "
            "begins with a letter or digit."
        )
    folder = parent / name
    written: list[Path] = []
    try:
        folder.mkdir(parents=True)
        for part in ("any", kind):
            for source in sorted(files(__name__).joinpath(part).iterdir(), key=lambda entry: entry.name):
                # A test of another name in every folder, or pytest would not collect two of them at once.
                path = folder / source.name.removesuffix(_SUFFIX).replace(
                    "test_method", f"test_{name.replace('-', '_')}"
                )
                text = Template(source.read_text(encoding="utf-8")).substitute(name=name)
                path.write_text(text, encoding="utf-8")
                written.append(path)
    except FileExistsError:
        raise UserError(f"{folder} is there already. Choose another name, or remove it first.") from None
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error}.") from None
    return written
