"""Certificates as immutable files of a run: small ones share a file, because every file costs a call to the store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

SMALL = 2**20
"""Bytes up to which a certificate shares a file with others."""
LARGEST_SHARED = 2**24
"""Bytes of certificates that share one file, at most."""
SHARED = re.compile(r"together-([0-9a-f]{12})\.safetensors")


def encode(certificates: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files, by name, that hold some certificates, by name. The same certificates always make the same files.

    A shared file is in the safetensors format: each certificate is a tensor of bytes.
    """
    files, shared, size = {}, dict[str, bytes](), 0
    for name, content in sorted(certificates.items()):
        if len(content) > SMALL:
            files[name] = content
            continue
        if size + len(content) > LARGEST_SHARED:
            files |= _share(shared)
            shared, size = {}, 0
        shared[name] = content
        size += len(content)
    return files | _share(shared)


def _share(certificates: Mapping[str, bytes]) -> dict[str, bytes]:
    if len(certificates) < 2:
        return dict(certificates)
    tensors = {name: np.frombuffer(content, np.uint8) for name, content in certificates.items()}
    content = safetensors.numpy.save(tensors)
    return {f"together-{_hash(content)}.safetensors": content}


class CertificateFiles:
    """The certificates in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shared: dict[str, bytes] = {}
        self.torn: dict[str, str] = {}
        """Shared files that are not as they were written, and why: what is in them cannot be read."""
        paths = sorted(path for path in folder.glob("*") if path.is_file())
        for path in paths:
            if SHARED.fullmatch(path.name):
                try:
                    self._shared |= decode(path.name, path.read_bytes())
                except ValueError as error:
                    self.torn[path.name] = str(error)
        self._alone = {path.name for path in paths if not SHARED.fullmatch(path.name)}

    @property
    def names(self) -> set[str]:
        return self._alone | self._shared.keys()

    def read(self, name: str) -> bytes | None:
        """A certificate; None where there is none of that name."""
        return (self._folder / name).read_bytes() if name in self._alone else self._shared.get(name)


def decode(name: str, content: bytes) -> dict[str, bytes]:
    """The certificates in a shared file. Raises ValueError, with the reason, where it is not as it was written."""
    match = SHARED.fullmatch(name)
    if match is None:
        raise ValueError("its name is not together-HASH.safetensors")
    if _hash(content) != match[1]:
        raise ValueError("its content does not have the hash in its name; it is torn or was altered")
    try:
        tensors = safetensors.numpy.load(content)
    except (SafetensorError, KeyError) as error:  # KeyError: a type of number that NumPy lacks
        raise ValueError(f"it is not in the safetensors format: {error}") from None
    if other := sorted(one for one, tensor in tensors.items() if tensor.dtype != np.uint8 or tensor.ndim != 1):
        raise ValueError(f"it holds something else than bytes: {other[0]}")
    return {one: tensor.tobytes() for one, tensor in tensors.items()}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
