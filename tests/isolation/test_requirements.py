"""The packages that a submission names: from wheels alone, once for all trials, and seen by its own processes alone."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from lowdim_bench.errors import InfrastructureError, MethodFailure
from lowdim_bench.isolation import requirements
from tests.isolation.code import prepared, submission

pytestmark = pytest.mark.slow


def wheel(folder: Path, name: str, version: str, code: str) -> None:
    """A wheel with one module, which depends on a package that there is not."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", code)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: nowhere\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels in place of the package index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    wheel(tmp_path, "tinymask", "1.2", "SIZE = 7")
    return tmp_path


def test_a_wheel_is_installed_once_and_only_for_the_code_that_names_it(shop: Path) -> None:
    uses = submission(
        "import tinymask; assert tinymask.SIZE == 7; return good(setting)", requirements=("tinymask==1.2",)
    )
    for item in prepared(uses, 3, 4):
        assert not item.failure
    assert "tinymask" not in sys.modules
    (shop / "tinymask-1.2-py3-none-any.whl").unlink()
    (again,) = prepared(uses, 3)
    assert not again.failure, "it was installed before"
    (other,) = prepared(submission("import tinymask"), 3)
    assert "No module named 'tinymask'" in other.failure
    (writes,) = prepared(
        submission("import tinymask; open(tinymask.__file__, 'a')", requirements=("tinymask==1.2",)), 3
    )
    assert "PermissionError" in writes.failure


def test_what_cannot_be_had_is_named_and_no_fault_of_the_method(shop: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"Its requirements tinymask==2\.0 cannot be installed"):
        prepared(submission("return good(setting)", requirements=("tinymask==2.0",)), 3)
    (shop / "sourceonly-1.0.tar.gz").write_bytes(b"")
    with pytest.raises(InfrastructureError, match="cannot be installed from wheels"):
        requirements.installed(("sourceonly==1.0",))


def test_a_package_that_is_here_is_not_installed_again_for_it_may_bring_data_along() -> None:
    with pytest.raises(MethodFailure, match=r"'scikit-learn==1\.0' is here already, in version .*; leave it out"):
        requirements.installed(("scikit-learn==1.0",))


def test_hashes_pin_the_very_file(shop: Path) -> None:
    digest = hashlib.sha256((shop / "tinymask-1.2-py3-none-any.whl").read_bytes()).hexdigest()
    pinned = f"tinymask==1.2 --hash=sha256:{digest}"
    (item,) = prepared(submission("import tinymask; return good(setting)", requirements=(pinned,)), 3)
    assert not item.failure
    wheel(shop, "tinymask", "1.2", "SIZE = 8")  # the same version, made again
    with pytest.raises(InfrastructureError, match=r"(?is)cannot be installed.*hash"):
        requirements.installed((f"{pinned} --hash=sha256:{'0' * 64}",))
    with pytest.raises(MethodFailure, match=r"'other==1\.0' has no --hash, and others have"):
        requirements.installed((pinned, "other==1.0"))


@pytest.mark.parametrize(
    "text",
    [
        "tinymask",
        "--index-url=http://here",
        "tinymask @ file:///tmp",
        "tinymask==1.2 --pre",
        "a==1\n",
        "a==1 --hash=md5:00",
    ],
)
def test_a_requirement_is_a_name_and_a_version(text: str) -> None:
    with pytest.raises(MethodFailure, match="is not pinned; write name==version"):
        requirements.installed((text,))
