"""Submissions: a folder that says by whom it is, which method with which parameters, and for which tasks.

A folder is read as data. What is new in it travels as `FrozenCode`; nothing of it is imported here, or by anything that reads a
submission.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from lowdim_bench.errors import UserError, unknown
from lowdim_bench.methods import METHODS, FrozenCode, MethodChoice, choose, method_names, parse_choice
from lowdim_bench.methods.frozen import ENTRY, LARGEST, MOST_FILES, check_requirements
from lowdim_bench.specs import Spec, Task, Track, installed_tasks, load_task, parse_yaml, task_names
from lowdim_bench.specs.base import explain
from lowdim_bench.tracking import Credit

FILE = "submission.yaml"
README = "README.md"
DEEPEST = 4
"""Folders within each other that a submission may have."""
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_TASK_FILE = (".yaml", ".yml")

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Line = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Submission(Spec):
    """What submission.yaml holds."""

    name: Name
    description: Annotated[str, Field(max_length=1000)] = ""
    authors: Annotated[tuple[Line, ...], Field(min_length=1, max_length=32)]
    track: Track = "prepared"
    """What its authors expect. The track that counts is measured."""
    method: Line
    """A built-in or installed method by its name, or `method.py`: code of its own."""
    parameters: dict[str, Any] = {}
    tasks: Annotated[tuple[Line, ...], Field(min_length=1, max_length=32)]
    """Names of tasks, or task files (`NAME.yaml`) of the submission's own folder."""
    requirements: Annotated[tuple[str, ...], Field(max_length=32)] = ()
    """Packages that its code needs beside those of lowdim-bench: `name==version`, and best ` --hash=sha256:...` as well."""

    @field_validator("tasks")
    @classmethod
    def _named_plainly(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        for task in tasks:
            if not _PLAIN.fullmatch(task):
                raise ValueError(f"{task!r} is neither the name of a task nor a task file of this folder")
        if len(set(tasks)) < len(tasks):
            raise ValueError("a task is named twice")
        return tasks

    @field_validator("requirements")
    @classmethod
    def _pinned(cls, requirements: tuple[str, ...]) -> tuple[str, ...]:
        check_requirements(requirements)
        return requirements

    @model_validator(mode="after")
    def _requirements_are_for_code(self) -> Self:
        if self.requirements and not self.has_code:
            raise ValueError(f"requirements are for code of your own: they need `method: {ENTRY}`")
        return self

    @property
    def has_code(self) -> bool:
        """Whether it defines its method itself."""
        return self.method == ENTRY


def freeze_submission(folder: Path) -> tuple[Submission, MethodChoice]:
    """The submission of a folder, and its method as it travels and is stored. Imports nothing of the folder.

    Its code is every file but submission.yaml, README.md, its task files, its tests (test_*.py) and hidden files. Raises
    `UserError` where something is missing, not valid, or not admitted: a symbolic link (the folder itself may be none either),
    a device or pipe, names that are not plain, more than 64 files or 1 MiB.
    """
    contents = read_folder(folder)
    submission = _parse(folder, contents)
    tasks_of(folder, submission, contents)
    if not submission.has_code:
        return submission, choose(submission.method, submission.parameters)
    if ENTRY not in contents:
        raise UserError(f"{folder}/{FILE} asks for `method: {ENTRY}`, but the folder has no such file. Write one.")
    if submission.name in METHODS:
        raise UserError(
            f"{folder}/{FILE}: '{submission.name}' is a method that ships. Give a method of your own another name."
        )
    left_out = {FILE, README, *submission.tasks}
    files = {name: content for name, content in contents.items() if name not in left_out and not _is_test(name)}
    try:
        code = FrozenCode.of(files, submission.requirements)
    except ValidationError as error:
        raise UserError(f"{folder} is no submission:\n{explain(error)}") from None
    return submission, MethodChoice(name=submission.name, parameters=submission.parameters, code=code)


def credit_of(submission: Submission) -> Credit:
    """What is recorded of a submission beside the sweeps of its method."""
    return Credit(
        submission=submission.name,
        authors=submission.authors,
        description=submission.description,
        expected_track=submission.track,
        tasks=submission.tasks,
    )


def choose_method(text: str) -> tuple[Submission | None, MethodChoice]:
    """What -m asks for: NAME[,key=value...], or the folder of a submission (a path with a slash or a dot in front)."""
    if "/" in text.partition(",")[0] or text.startswith("."):
        return freeze_submission(Path(text))
    return None, parse_choice(text)


def submission_tasks(folder: Path) -> list[Task]:
    """The tasks that a submission names. Raises `UserError` where one is unknown or not valid."""
    contents = read_folder(folder)
    return tasks_of(folder, _parse(folder, contents), contents)


def _parse(folder: Path, contents: dict[str, bytes]) -> Submission:
    if FILE not in contents:
        raise UserError(f"{folder} holds no {FILE}. `lowdim-bench init-submission NAME` writes one to begin with.")
    where = f"{folder}/{FILE}"
    submission = Submission.from_data(parse_yaml(_text(contents[FILE], where), where), where)
    if not submission.has_code and submission.method not in method_names():
        if submission.method.endswith(".py") or "/" in submission.method:
            raise UserError(
                f"{where}: code of your own is in {ENTRY}; write `method: {ENTRY}`, not {submission.method}."
            )
        raise unknown("method", submission.method, [*method_names(), ENTRY])
    return submission


def tasks_of(folder: Path, submission: Submission, contents: dict[str, bytes]) -> list[Task]:
    """The tasks that a submission names, of its files as they were read."""
    tasks: list[Task] = []
    for name in submission.tasks:
        if not name.endswith(_TASK_FILE):
            tasks.append(load_task(name))
            continue
        if name not in contents:
            raise UserError(f"{folder}/{FILE} names the task file {name}, which the folder does not hold.")
        where = f"Task file {folder}/{name}"
        task = Task.from_data(parse_yaml(_text(contents[name], where), where), where)
        if task.name in {*task_names(), *installed_tasks()}:
            raise UserError(f"{where} is named '{task.name}', as a task that is known already. Give it another name.")
        tasks.append(task)
    if len({task.name for task in tasks}) < len(tasks):
        raise UserError(f"{folder}/{FILE} names two tasks of one name. Give each a name of its own.")
    return tasks


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{where} cannot be read: {error}") from None


def _is_test(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last.startswith("test_") and last.endswith(".py")


def read_folder(folder: Path) -> dict[str, bytes]:
    """The content of every file of a submission's folder by its relative POSIX path, but for hidden ones and __pycache__.

    Raises `UserError` for what is not admitted; see `freeze_submission`. No link is followed, whoever puts one there meanwhile.
    """
    path = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow the links that are looked for
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is no submission: {_why_no_folder(error)}") from None
    contents: dict[str, bytes] = {}
    size = 0
    try:
        for name, content in _walk(top, "", folder):
            size += len(content)
            contents[name] = content
            if len(contents) > MOST_FILES or size > LARGEST:
                raise UserError(
                    f"{folder} holds more than {MOST_FILES} files or {LARGEST:,} bytes, the most that a submission may have "
                    "(hidden files do not count). Leave out what its method does not need."
                )
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error}") from None
    finally:
        os.close(top)
    return contents


def _why_no_folder(error: OSError | ValueError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ELOOP, errno.ENOTDIR):
        return f"it must be a folder with a {FILE} in it, and no symbolic link to one."
    if number == errno.ENOENT:
        return f"there is no such folder. `lowdim-bench init-submission NAME` writes one with a {FILE}."
    return f"{error}."


def _walk(parent: int, prefix: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    """(relative path, content) of every file below an open folder."""
    if prefix.count("/") > DEEPEST:
        raise UserError(
            f"{folder}/{prefix} lies too deep: a submission has at most {DEEPEST} folders within each other."
        )
    with os.scandir(parent) as entries:
        names = sorted((entry.name, entry.is_symlink()) for entry in entries)
    for name, is_link in names:
        where = f"{folder}/{prefix}{name!r}" if not name.isprintable() else f"{folder}/{prefix}{name}"
        if is_link:
            raise UserError(f"{where} is a symbolic link. Put the file itself there, or remove the link.")
        if name.startswith(".") or name == "__pycache__":
            continue
        if not _PLAIN.fullmatch(name):
            raise UserError(f"{where}: names of files take letters, digits, '_', '-' and '.'. Rename it.")
        # NONBLOCK: opening a pipe would otherwise wait for its other end.
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
        try:
            mode = os.fstat(opened).st_mode
            if stat.S_ISDIR(mode):
                yield from _walk(opened, f"{prefix}{name}/", folder)
            elif stat.S_ISREG(mode):
                with os.fdopen(os.dup(opened), "rb") as file:
                    yield f"{prefix}{name}", file.read(LARGEST + 1)
            else:
                raise UserError(f"{where} is neither a file nor a folder. Remove it.")
        finally:
            os.close(opened)
