"""What holds where the machine allows less: fewer fences, which are named, and no submitted code without any."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.isolation import fences
from lowdim_bench.isolation.limits import Limits

pytestmark = pytest.mark.slow


@pytest.fixture
def passable() -> Iterator[Path]:
    """A temporary folder that another user gets through, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def found(folder: Path, *forbidden: str, **environment: str) -> dict[str, Any]:
    """What came of submissions on a machine that allows less."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.isolation.weaker_machine", *forbidden],
        cwd=Path(__file__).parents[2],
        env=os.environ | environment | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_namespaces_other_fences_hold(passable: Path) -> None:
    told = found(passable)
    assert told["fences"]
    assert fences.NAMESPACES not in told["fences"]
    assert {fences.LANDLOCK, fences.SECCOMP, fences.RESOURCES} <= set(told["fences"])
    assert (fences.OTHER_USER in told["fences"]) == (os.geteuid() == 0)
    assert not told["writes"]
    assert "PermissionError" in told["reads"]
    assert "PermissionError" in told["opens"]
    assert not told["daemon"]
    assert (told["left"], told["folders"], told["folder"]) == (0, 0, False)


def test_without_namespaces_and_landlock_submitted_code_is_refused(passable: Path) -> None:
    told = found(passable, "landlock")
    assert "no Landlock (Linux 5.13 or newer), so submitted code is not run here" in told["writes"]


def test_namespaces_alone_are_not_enough_for_they_leave_files_readable(passable: Path) -> None:
    told = found(passable, "landlock", "namespaces")
    assert "no Landlock (Linux 5.13 or newer), so submitted code is not run here" in told["reads"]


def test_weak_isolation_runs_it_all_the_same_where_it_is_asked_for(passable: Path) -> None:
    told = found(passable, "landlock", LOWDIM_BENCH_ISOLATION="weak")
    assert not told["writes"]
    assert not set(told["fences"]) & fences.ENOUGH
    assert "PermissionError" in told["opens"]
    assert (told["left"], told["folders"], told["folder"]) == (0, 0, False)


def test_limits_come_from_the_environment() -> None:
    names = ("METHOD_SECONDS", "METHOD_GIGABYTES", "METHOD_PROCESSES", "ISOLATION")
    given = dict(zip((f"LOWDIM_BENCH_{name}" for name in names), ("1.5", "0.5", "3", "weak"), strict=True))
    assert Limits.resolve({}) == Limits()
    assert Limits.resolve(given) == Limits(seconds=1.5, memory=2**29, processes=3, weak=True)


NO_LIMITS = {"METHOD_SECONDS": "soon", "METHOD_GIGABYTES": "-1", "METHOD_PROCESSES": "nan", "ISOLATION": "no"}


@pytest.mark.parametrize(("name", "value"), NO_LIMITS.items())
def test_limits_that_are_none_are_refused(name: str, value: str) -> None:
    with pytest.raises(UserError, match=f"LOWDIM_BENCH_{name} is '{value}'; give "):
        Limits.resolve({f"LOWDIM_BENCH_{name}": value})
