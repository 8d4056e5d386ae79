"""What is refused before anything leaves this machine: nothing listens at the address that is given."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner

from lowdim_bench.cli import app
from tests.cli.conftest import Cli

NOWHERE = ("--address", "http://127.0.0.1:9", "--tracking-uri", "http://127.0.0.1:9")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The state folder; the current folder holds a submission, `mine`."""
    about = {"name": "mine", "authors": ["A Test"], "method": "random_subspace", "tasks": ["digits-mlp"]}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "submission.yaml").write_text(json.dumps(about))
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(os.environ, {"LOWDIM_BENCH_STATE_DIR": str(tmp_path / "state")}):
        yield tmp_path / "state"


@pytest.fixture
def unused_database() -> str:
    pytest.importorskip("psycopg", reason="needs lowdim-bench[server]")
    return "postgresql://me:word@127.0.0.1:9/x"


def refusal(*arguments: str) -> str:
    """What a command says that has to be refused."""
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    return done.stderr


def test_a_symbolic_link(state: Path) -> None:
    Path("mine/data.py").symlink_to("/etc/hostname")
    assert "is a symbolic link" in refusal("submit", "mine", *NOWHERE)
    assert not (state / "submitted").exists()


def test_two_task_files_of_one_name() -> None:
    text = (Path(__file__).parents[2] / "submissions" / "deep-digits" / "digits-deep.yaml").read_text()
    for folder in ("one", "other"):
        Path(folder).mkdir()
        Path(folder, "task.yaml").write_text(text.replace("name: digits-deep", f"name: {folder}"))
    said = refusal("submit", "mine", "-t", "one/task.yaml", "-t", "other/task.yaml", *NOWHERE)
    assert "Two task files are named task.yaml: one/task.yaml, other/task.yaml" in " ".join(said.split())
    said = refusal("submit", "mine", "-t", "one/task.yaml", "-t", "./one/task.yaml", *NOWHERE)
    assert "A task is given twice" in said


@pytest.mark.parametrize("files", [[2**20 + 1], [1] * 64])
def test_too_much(state: Path, files: list[int]) -> None:
    for number, size in enumerate(files):
        Path(f"mine/f{number}.txt").write_bytes(b"x" * size)
    assert "more than 64 files or 1,048,576 bytes" in refusal("submit", "mine", *NOWHERE)
    assert not (state / "submitted").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (NOWHERE, "http://127.0.0.1:9 cannot be reached: Connection refused"),
        (("--address", "127.0.0.1:8265", "--tracking-uri", "http://127.0.0.1:9"), "Job server '127.0.0.1:8265'"),
        ((), "cannot record into sqlite:///"),
        (("--tracking-uri", "postgresql://me:word@db/x"), "cannot record into postgresql://me:***@db/x"),
        (("--tracking-uri", "http://me:word@host:5000"), "http://me:***@host:5000 holds a password"),
        ((*NOWHERE, "--task", "digits-mpl"), "Did you mean 'digits-mlp'?"),
        ((*NOWHERE, "--task", "digits-mlp", "--task", "digits-mlp"), "given twice"),
        ((*NOWHERE, "--workers", "0"), "Number of workers '0'"),
    ],
)
def test_what_cannot_work(arguments: tuple[str, ...], said: str) -> None:
    err = refusal("submit", "mine", *arguments)
    assert said in err
    assert "word@" not in err


def test_a_server_that_is_none() -> None:
    assert "is a server already" in refusal("serve", "--store", "http://127.0.0.1:9")


def test_a_port_that_is_taken(unused_database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1:{port}" in refusal("serve", "--store", unused_database, "--port", port)


@pytest.mark.slow
def test_a_database_that_is_not_there(tmp_path: Path, state: Path, unused_database: str) -> None:
    cli = Cli(tmp_path, dict(os.environ))  # in a process of its own, which becomes the server if it is not refused
    _, err = cli.run("serve", "--store", unused_database, "--port", "5999", code=2)
    assert "postgresql://me:***@127.0.0.1:9/x cannot be opened" in err
    assert "word@" not in err
    secrets = [path for path in (state / "server").iterdir() if path.is_file()]
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in secrets} == dict.fromkeys(
        ("accounts.ini", "admin_password", "credentials", "secret_key"), 0o600
    )
