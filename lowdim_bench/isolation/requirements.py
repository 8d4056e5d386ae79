"""The packages that a submission names, installed once into a folder of their own that only its processes get to see."""

from __future__ import annotations

import hashlib
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
from lowdim_bench.methods.frozen import check_requirements
from lowdim_bench.settings import locate_state
from lowdim_bench.specs.base import canonical_json

_SECONDS = 600.0
_LONGEST_COMPLAINT = 1000


def installed(requirements: Sequence[str]) -> str | None:
    """The folder that holds the packages, installed if need be; None where none are named.

    Wheels only, since they run nothing when they are installed, and no dependencies, so that what runs is what the
    submission names. Where it names their hashes, no other file is installed, whatever the index has. The folder's name says
    what is in it. Raises `MethodFailure` for one that is not pinned, `InfrastructureError` where they cannot be installed here.
    """
    if not requirements:
        return None
    try:
        names = check_requirements(requirements)
    except ValueError as error:
        raise MethodFailure(str(error)) from None
    for requirement, name in zip(requirements, names, strict=True):
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
    listed = draft.with_suffix(".txt")  # pip takes hashes from a file alone
    listed.write_text("".join(f"{requirement}\n" for requirement in requirements))
    try:
        done = subprocess.run(
            [*pip, *options, "--requirement", str(listed)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        shutil.rmtree(draft, ignore_errors=True)
        raise InfrastructureError(f"Its requirements were not installed within {_SECONDS:g} s.") from None
    finally:
        listed.unlink()
    if done.returncode:
        shutil.rmtree(draft, ignore_errors=True)
        complaint = done.stderr.strip()[-_LONGEST_COMPLAINT:]
        raise InfrastructureError(  # of the index, the network or the disk here, as likely as of the submission
            f"Its requirements {', '.join(requirements)} cannot be installed from wheels: {complaint}"
        )
    draft.chmod(0o755)
    draft.rename(folder)
