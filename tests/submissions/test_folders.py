"""Submission folders as data: what is read, what is left out, and what is refused before anything is done with it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lowdim_bench.errors import UserError
from lowdim_bench.methods.frozen import LARGEST, MOST_FILES
from lowdim_bench.submissions import choose_method, freeze_submission, submission_tasks

SPEC: dict[str, Any] = {
    "name": "mine",
    "authors": ["A. Author"],
    "method": "method.py",
    "parameters": {"width": 3},
    "tasks": ["digits-mlp"],
    "requirements": ["einops==0.8.1"],
}
CODE = "raise SystemExit('a submission was imported')\n"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a submission; keyword arguments replace keys of its submission.yaml, None takes one out."""

    def write(**changes: object) -> Path:
        folder = tmp_path / "mine"
        (folder / "data").mkdir(parents=True, exist_ok=True)
        spec = {key: value for key, value in (SPEC | changes).items() if value is not None}
        (folder / "submission.yaml").write_text(yaml.safe_dump(spec))
        for name in ("method.py", "test_method.py", "helper.py", ".hidden.py"):
            (folder / name).write_text(CODE)
        (folder / "data" / "table.txt").write_bytes(b"\x00\xff")
        (folder / "README.md").write_text("about")
        return folder

    return write


def test_code_is_frozen_without_being_imported(write: Write) -> None:
    before = set(sys.modules)
    folder = write()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "method.pyc").write_bytes(b"x" * (LARGEST + 1))
    (folder / ".git").mkdir()
    (folder / ".git" / "large").write_bytes(b"x" * (LARGEST + 1))
    submission, choice = freeze_submission(folder)
    assert submission.authors == ("A. Author",)
    assert (choice.name, choice.parameters) == ("mine", {"width": 3})
    assert choice.code is not None
    assert choice.code.contents() == {
        "method.py": CODE.encode(), "helper.py": CODE.encode(), "data/table.txt": b"\x00\xff"
    }  # fmt: skip
    assert choice.code.requirements == ("einops==0.8.1",)
    assert choose_method(str(folder)) == choose_method(f"{folder}/") == (submission, choice)
    assert not {name for name in set(sys.modules) - before if "method" in name and "lowdim_bench" not in name}


def test_only_what_decides_the_number_is_in_the_digest(write: Write) -> None:
    folder = write()
    first = freeze_submission(folder)[1].method_digest
    (folder / "README.md").write_text("another word")
    (folder / "test_method.py").write_text("")
    (folder / ".hidden.py").unlink()
    assert freeze_submission(write(authors=["B"], name="renamed"))[1].method_digest == first
    others = [freeze_submission(write(**change))[1] for change in ({"parameters": {}}, {"requirements": []})]
    (write() / "helper.py").write_text("changed")
    others.append(freeze_submission(folder)[1])
    assert len({first, *(choice.method_digest for choice in others)}) == 4


def test_a_built_in_method_takes_no_files_along(write: Write) -> None:
    folder = write(method="imp", parameters={"rate": 0.3}, requirements=None)
    _, choice = freeze_submission(folder)
    assert (choice.name, choice.parameters, choice.code) == ("imp", {"rate": 0.3}, None)


def test_a_task_may_come_with_the_submission(write: Write) -> None:
    folder = write(tasks=["digits-mlp", "own.yaml"])
    shipped = (Path(__file__).parents[2] / "tasks" / "digits-mlp.yaml").read_text()
    (folder / "own.yaml").write_text(shipped.replace("name: digits-mlp", "name: own"))
    assert [task.name for task in submission_tasks(folder)] == ["digits-mlp", "own"]
    code = freeze_submission(folder)[1].code
    assert code is not None
    assert "own.yaml" not in code.files
    (folder / "own.yaml").write_text(shipped)
    with pytest.raises(UserError, match="is named 'digits-mlp', as a task that is known already"):
        freeze_submission(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "Mine"}, "name: String should match pattern"),
        ({"authors": []}, "authors: .* at least 1 item"),
        ({"authors": ["a\nb"]}, "authors.0: String should match pattern"),
        ({"track": "warm"}, "track: Input should be 'cold', 'prepared' or 'open'"),
        ({"tasks": None}, "tasks: Field required"),
        ({"tasks": ["digits-mpl"]}, "Unknown task 'digits-mpl'.*Did you mean 'digits-mlp'"),
        ({"tasks": ["../x.yaml"]}, "neither the name of a task nor a task file"),
        ({"tasks": ["x.yaml"]}, "names the task file x.yaml, which the folder does not hold"),
        ({"tasks": ["digits-mlp", "digits-mlp"]}, "named twice"),
        ({"metod": "imp"}, "metod: unknown key"),
        ({"method": "impp", "requirements": None}, "Unknown method 'impp'.*Did you mean 'imp'"),
        ({"method": "mine.py", "requirements": None}, "code of your own is in method.py"),
        ({"method": "imp"}, "requirements are for code of your own"),
        ({"method": "imp", "requirements": None, "parameters": {"rat": 1}}, "Unknown parameter of method imp 'rat'"),
        ({"requirements": ["numpy>=2"]}, "not pinned; write name==version"),
        ({"requirements": ["numpy==2 --index-url=x"]}, "not pinned"),
    ],
)
def test_what_is_wrong_with_submission_yaml_is_said(write: Write, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=f"(?s){reason}"):
        freeze_submission(write(**changes))


def _link_to_file(folder: Path) -> None:
    (folder / "data" / "link.txt").symlink_to(folder / "README.md")


def _hidden_link(folder: Path) -> None:
    (folder / ".link").symlink_to("/etc/hostname")


def _link_to_folder(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "data", target_is_directory=True)


def _many(folder: Path) -> None:
    for index in range(MOST_FILES):
        (folder / "data" / f"{index}.txt").write_text("")


def _large(folder: Path) -> None:
    (folder / "data" / "large.bin").write_bytes(b"x" * LARGEST)


def _deep(folder: Path) -> None:
    (folder / "a/b/c/d/e").mkdir(parents=True)


def _socket(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # paths of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("s")
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_link_to_file, "data/link.txt is a symbolic link"),
        (_hidden_link, ".link is a symbolic link"),
        (_link_to_folder, "link is a symbolic link"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe is neither a file nor a folder"),
        (_socket, "cannot be read"),
        (_many, "more than 64 files"),
        (_large, "more than 64 files or 1,048,576 bytes"),
        (_deep, "lies too deep"),
        (lambda folder: (folder / "a b.txt").write_text(""), "a b.txt: names of files take"),
        (lambda folder: (folder / "-rf").write_text(""), "names of files take"),
        (lambda folder: (folder / "a\nb").write_text(""), r"'a\\nb': names of files take"),
        (lambda folder: (folder / "method.py").unlink(), "the folder has no such file"),
        (lambda folder: (folder / "submission.yaml").unlink(), "init-submission NAME"),
        (lambda folder: (folder / "submission.yaml").write_bytes(b"\xff"), "cannot be read"),
        (lambda folder: (folder / "submission.yaml").write_text("[" * 100000), "is not valid"),
    ],
)
def test_what_is_not_admitted_in_a_folder_is_refused(
    write: Write, spoil: Callable[[Path], object], reason: str
) -> None:
    folder = write()
    spoil(folder)
    with pytest.raises(UserError, match=reason):
        freeze_submission(folder)


def test_a_folder_that_is_none_is_refused(write: Write, tmp_path: Path) -> None:
    folder = write()
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    for path, reason in (
        (link, "no symbolic link"),
        (folder / "method.py", "it must be a folder"),
        (tmp_path / "nowhere", "there is no such folder"),
        (Path("a\0b"), "is no submission"),
    ):
        with pytest.raises(UserError, match=reason):
            freeze_submission(path)
    with pytest.raises(UserError, match="no symbolic link"):
        choose_method(f"{link}/")


@given(content=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_whatever_submission_yaml_holds_the_error_is_a_users(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "submission.yaml").write_bytes(content)
    with pytest.raises(UserError):
        freeze_submission(folder)
