"""What `init-submission` writes works as it is, and nothing is overwritten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lowdim_bench.contract import CLAUSES, check
from lowdim_bench.errors import UserError
from lowdim_bench.submissions import freeze_submission, submission_tasks
from lowdim_bench.templates import KINDS, write_submission
from lowdim_bench.testing import own_subject


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_a_submission_that_keeps_the_contract(tmp_path: Path, kind: str) -> None:
    written = write_submission(tmp_path / "submissions", f"my-{kind}", kind)
    folder = tmp_path / "submissions" / f"my-{kind}"
    assert {path.name for path in written} == {path.name for path in folder.iterdir()}
    submission, choice = freeze_submission(folder)
    assert submission.name == folder.name
    assert (choice.code is None) == (kind == "builtin")
    if choice.code is not None:
        assert list(choice.code.files) == ["method.py"]
    assert [task.name for task in submission_tasks(folder)] == ["digits-mlp"]
    findings = list(check(own_subject(folder)))
    assert [one.check for one in findings if one.passed] == list(CLAUSES)


@pytest.mark.slow
def test_the_tests_that_are_written_pass_together_under_plain_pytest(tmp_path: Path) -> None:
    for kind in KINDS:
        write_submission(tmp_path / "submissions", f"my-{kind}", kind)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "submissions"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "6 passed" in ran.stdout


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_submission(tmp_path, "mine", "mask")
    (tmp_path / "mine" / "method.py").write_text("my work")
    with pytest.raises(UserError, match="mine is there already"):
        write_submission(tmp_path, "mine", "subspace")
    assert (tmp_path / "mine" / "method.py").read_text() == "my work"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="link is there already"):
        write_submission(tmp_path, "link", "mask")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("Mine", "mask", "cannot be the name of a submission"),
        ("../mine", "mask", "cannot be the name of a submission"),
        ("", "mask", "cannot be the name of a submission"),
        ("mine\n", "mask", "cannot be the name of a submission"),
        ("mine", "masks", r"Unknown kind of submission 'masks'.*Did you mean 'mask'\?"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path: Path, name: str, kind: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        write_submission(tmp_path, name, kind)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_submission(tmp_path / "file", "mine", "mask")
