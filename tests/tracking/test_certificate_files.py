"""Certificates come out of their files as they went in, and nothing else does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from lowdim_bench.tracking import certificate_files
from lowdim_bench.tracking.certificate_files import LARGEST_SHARED, SMALL, CertificateFiles, decode, encode

NAMES = st.from_regex(r"k[1-9][0-9]{0,4}-r[0-9]{1,3}-[0-9a-f]{16}\.safetensors", fullmatch=True)


def kept(folder: Path, files: dict[str, bytes]) -> CertificateFiles:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return CertificateFiles(folder)


@settings(max_examples=30)
@given(st.dictionaries(NAMES, st.binary(max_size=64), max_size=6))
def test_what_is_written_is_read(certificates: dict[str, bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        files = encode(certificates)
        assert len(files) == min(1, len(certificates))
        found = kept(Path(folder), files)
        assert {name: found.read(name) for name in found.names} == certificates
        assert found.torn == {}
        assert encode(dict(reversed(certificates.items()))) == files


def test_a_large_certificate_has_a_file_of_its_own(tmp_path: Path) -> None:
    certificates = {"a.safetensors": b"1" * (SMALL + 1), "b.safetensors": b"2", "c.safetensors": b"3"}
    files = encode(certificates)
    assert set(files) - {"a.safetensors"} == {name for name in files if certificate_files.SHARED.fullmatch(name)}
    found = kept(tmp_path, files)
    assert {name: found.read(name) for name in found.names} == certificates
    assert found.read("d.safetensors") is None


def test_a_shared_file_does_not_grow_beyond_its_limit() -> None:
    certificates = {f"{number}.safetensors": bytes(SMALL) for number in range(LARGEST_SHARED // SMALL + 2)}
    assert sorted(len(decode(name, content)) for name, content in encode(certificates).items()) == [2, 16]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not safetensors", "not in the safetensors format"),
        (safetensors.numpy.save({"a": np.ones(2, np.float32)}), "something else than bytes: a"),
        (safetensors.numpy.save({"a": np.ones((2, 2), np.uint8)}), "something else than bytes: a"),
    ],
)
def test_what_was_never_written_is_named_and_left_out(tmp_path: Path, content: bytes, reason: str) -> None:
    digest = hashlib.sha256(content).hexdigest()[:12]  # whoever alters a file can name it by its new content
    name = f"together-{digest}.safetensors"
    found = kept(tmp_path, {name: content})
    assert found.names == set()
    assert reason in found.torn[name]


def test_an_altered_file_is_known_by_its_name(tmp_path: Path) -> None:
    ((name, content),) = encode({"a.safetensors": b"1", "b.safetensors": b"2"}).items()
    found = kept(tmp_path, {name: content[:-1] + b"3"})
    assert "does not have the hash in its name" in found.torn[name]
    assert found.names == set()
