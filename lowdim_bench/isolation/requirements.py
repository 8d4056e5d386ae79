"""The packages that a submission names, installed once into a folder of their own that only its processes get to see."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from lowdim_bench.errors import InfrastructureError, MethodFailure
from lowdim_bench.settings import locate_state
from lowdim_bench.specs.base import canonical_json

_PINNED = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?==[0-9][A-Za-z0-9.+!_-]*")
_SECONDS = 600.0
_LONGEST_COMPLAINT = 1000


def installed(requirements: Sequence[str]) -> str | None:
    """The folder that holds the packages, installed if need be; None where none are named.

    Wheels only, since they run nothing when they are installed, and no dependencies, so that what runs is what the
    submission names. The folder's name says what is in it. Raises `MethodFailure` for one
    that is not pinned, `InfrastructureError` where they cannot be installed here.
    """
    if not requirements:
        return None
    for requirement in requirements:
        if not _PINNED.fullmatch(requirement):  # so that none is taken for an option or an address
            raise MethodFailure(f"requirement '{requirement}' is not pinned; write name==version")
        name = requirement.partition("==")[0]
        if here := _version_here(name):  # a copy of its own would bring the data sets along that lie among the packages
            raise MethodFailure(f"requirement '{requirement}' is here already, in version {here}; leave it out")
    what = canonical_json([sorted(requirements), sys.version, sysconfig.get_platform()])
    folder = locate_state() / "requirements" / hashlib.sha256(what.encode()).hexdigest()[:32]
    if not folder.is_dir():
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                _install(requirements, folder)
    return str(folder)


def _version_here(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _install(requirements: Sequence[str], folder: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=folder.parent))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    options = ["--quiet", "--only-binary=:all:", "--no-deps", "--no-compile", "--target", str(draft)]
    try:
        done = subprocess.run(
            [*pip, *options, *requirements],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        shutil.rmtree(draft, ignore_errors=True)
        raise InfrastructureError(f"Its requirements were not installed within {_SECONDS:g} s.") from None
    if done.returncode:
        shutil.rmtree(draft, ignore_errors=True)
        complaint = done.stderr.strip()[-_LONGEST_COMPLAINT:]
        raise InfrastructureError(  # of the index, the network or the disk here, as likely as of the submission
            f"Its requirements {', '.join(requirements)} cannot be installed from wheels: {complaint}"
        )
    draft.chmod(0o755)
    draft.rename(folder)
