"""Nothing in the repository depends on the machine on which it was written."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Put together here, so that this file does not contain what it looks for.
REGISTRIES = [
    ".".join(parts)
    for parts in [
        ("py" + "pi", "org"),
        ("python" + "hosted", "org"),
        ("npm" + "js", "org"),
        ("deb", "debian", "org"),
        ("pytorch", "org/whl"),
        ("anaconda", "org"),
        ("golang", "org"),
        ("crates", "io"),
    ]
]
# Homes and work folders of people; /home/ray is the home inside Ray's own container images.
MACHINE_PATH = re.compile(
    r"(?<![\w.~$-])/(?:" + "|".join(["wo" + "rk", "ro" + "ot", "Us" + "ers", r"home/(?!ray/)\w+"]) + ")/"
)


def _tracked_texts() -> list[Path]:
    """Files that are, or would be, committed. An unpacked source distribution has no list of them."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    paths = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    assert paths
    return [path for path in paths if b"\0" not in path.read_bytes()]


def test_no_file_names_a_package_registry() -> None:
    found = [
        (path, host) for path in _tracked_texts() for host in REGISTRIES if host in path.read_text(errors="replace")
    ]
    assert found == []


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        (path, match[0])
        for path in _tracked_texts()
        for match in MACHINE_PATH.finditer(path.read_text(errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "caught"),
    [
        ("see /wo" + "rk/main/x", True),
        ("cd /ro" + "ot/.cache", True),
        ("open('/home/" + "ann/data')", True),
        ("/home/ray/lowdim-bench", False),
        ("https://example.org/wo" + "rk/x", False),
        ("build/wo" + "rk/x", False),
    ],
)
def test_the_search_for_paths_finds_paths(text: str, caught: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) == caught
