"""The code of a submission, frozen: what it consists of travels and is stored as data, and is never imported here."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import Field, field_validator

from lowdim_bench.specs import Spec

ENTRY = "method.py"
"""The file of a submission in which its method is defined."""
LARGEST = 2**20
"""Bytes that all files of a submission may have together."""
MOST_FILES = 64
_PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)==[0-9][A-Za-z0-9.+!]*(?P<hashes>( --hash=sha256:[0-9a-f]{64})*)"
)


def check_requirements(requirements: Sequence[str]) -> list[str]:
    """The names of the packages. Raises ValueError for one that is not `name==version`, with or without ` --hash=sha256:...` of
    the wheels that may be installed, and where only some have hashes: pip takes them for all or for none."""
    found = [(requirement, _PINNED.fullmatch(requirement)) for requirement in requirements]
    for requirement, match in found:
        if match is None:  # so that none is taken for an option or an address
            raise ValueError(f"requirement {requirement!r} is not pinned; write name==version [--hash=sha256:...]")
    hashed = [bool(match["hashes"]) for _, match in found if match]
    if any(hashed) and not all(hashed):
        bare = requirements[hashed.index(False)]
        raise ValueError(f"requirement {bare!r} has no --hash, and others have; give them to all, or to none")
    return [match["name"] for _, match in found if match]


class FrozenCode(Spec):
    """The files of a submission that define its method, and the packages they need. Its digest names it for ever."""

    files: Annotated[dict[str, str], Field(min_length=1, max_length=MOST_FILES)]
    """Relative POSIX path to content in base64; `method.py` is among them."""
    requirements: tuple[str, ...] = ()
    """Pinned packages, as `check_requirements` admits them, installed from wheels for the process that runs the code."""

    @field_validator("files")
    @classmethod
    def _plain(cls, files: dict[str, str]) -> dict[str, str]:
        if ENTRY not in files:
            raise ValueError(f"there is no {ENTRY} among the files")
        size = 0
        for name, content in files.items():
            path = PurePosixPath(name)
            if path.is_absolute() or str(path) != name or ".." in path.parts or "\0" in name:
                raise ValueError(f"{name!r} is not a plain relative path")
            try:
                size += len(base64.b64decode(content, validate=True))
            except binascii.Error:
                raise ValueError(f"the content of {name!r} is not base64") from None
        if size > LARGEST:
            raise ValueError(f"the files have {size} bytes together; at most {LARGEST} are admitted")
        return files

    @classmethod
    def of(cls, contents: dict[str, bytes], requirements: tuple[str, ...] = ()) -> FrozenCode:
        """Freeze the contents of files, by relative path. Raises ValidationError (a ValueError) where they are not admitted."""
        encoded = {name: base64.b64encode(contents[name]).decode() for name in sorted(contents)}
        return cls(files=encoded, requirements=requirements)

    def contents(self) -> dict[str, bytes]:
        """Every file's content by its relative path."""
        return {name: base64.b64decode(content) for name, content in self.files.items()}

    def identity(self) -> dict[str, Any]:
        """Paths, hashes of contents, and requirements."""
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in self.contents().items()}
        return {"files": hashes, "requirements": list(self.requirements)}

    @cached_property
    def bits(self) -> int:
        """An upper bound of the information in the code: its files, compressed together by zlib, in bits."""
        joined = b"".join(name.encode() + b"\0" + content for name, content in sorted(self.contents().items()))
        return 8 * len(zlib.compress(joined, level=9))
