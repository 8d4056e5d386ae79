"""What is sent to a cluster: named by its content, kept on this machine, and refused when it was changed there."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.execution.requests import Request, key_of, load, store
from lowdim_bench.settings import resolve_job_server

REQUEST = Request(
    name="mine",
    files={"the-submission/submission.yaml": b"name: mine", "the-submission/a/b.py": b"x = 1"},
    tasks=("digits-mlp", "task-files/own.yaml"),
    task_digests=("a" * 16, "b" * 16),
    tracking_uri="http://127.0.0.1:5000",
    environment={"LOWDIM_BENCH_WORKERS": "2"},
)


@pytest.mark.parametrize(
    "changed",
    [
        {"files": {"the-submission/submission.yaml": b"name: mine", "the-submission/a/b.py": b"x = 2"}},
        {"files": {"the-submission/submission.yaml": b"name: mine", "the-submission/a/c.py": b"x = 1"}},
        {"task_digests": ("a" * 16,)},
        {"tracking_uri": "http://127.0.0.1:5001"},
        {"name": "yours"},
    ],
)
def test_whatever_decides_the_result_changes_the_key(changed: dict[str, Any]) -> None:
    assert replace(REQUEST, **changed).key != REQUEST.key


def test_how_it_runs_and_the_order_of_tasks_do_not_change_the_key() -> None:
    other = replace(REQUEST, environment={}, task_digests=REQUEST.task_digests[::-1], tasks=REQUEST.tasks[::-1])
    assert other.key == REQUEST.key


def test_the_command_names_tasks_and_the_folder() -> None:
    assert REQUEST.command == "lowdim-bench run digits-mlp task-files/own.yaml -m ./the-submission"
    assert "'a b.yaml'" in replace(REQUEST, tasks=("a b.yaml",)).command, "what a shell would split is quoted"


def test_what_was_sent_is_kept_and_can_be_sent_again(tmp_path: Path) -> None:
    folder = store(REQUEST, tmp_path)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(REQUEST.files)
    assert load(REQUEST.key, tmp_path) == REQUEST
    again = replace(REQUEST, environment={"LOWDIM_BENCH_WORKERS": "4"})
    assert store(again, tmp_path) == folder
    assert load(REQUEST.key, tmp_path).environment == {"LOWDIM_BENCH_WORKERS": "4"}
    assert sorted(path.name for path in folder.parent.parent.iterdir()) == [REQUEST.key, f"{REQUEST.key}.lock"]


@pytest.mark.parametrize("spoil", ["the-submission/a/b.py", "the-submission/added.py"])
def test_what_was_changed_since_is_not_sent_again(tmp_path: Path, spoil: str) -> None:
    folder = store(REQUEST, tmp_path)
    (folder / spoil).write_bytes(b"x = 3")
    with pytest.raises(UserError, match="was changed in"):
        load(REQUEST.key, tmp_path)


def test_what_was_sent_from_elsewhere_is_not_here(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was not sent from this machine"):
        load("mine-0123456789ab", tmp_path)


@pytest.mark.parametrize("name", ["mine", "mine-x", "", "-1", "../../etc-1"])
def test_other_names_are_no_jobs_of_ours(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="jobs` lists"):
        load(key_of(name), tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "submitted").write_text("in the way")
    with pytest.raises(UserError, match="LOWDIM_BENCH_STATE_DIR"):
        store(REQUEST, tmp_path)
    assert stat.S_ISREG((tmp_path / "submitted").stat().st_mode)


def test_the_job_server() -> None:
    assert resolve_job_server(None, {}) == "http://127.0.0.1:8265"
    environ = {"LOWDIM_BENCH_JOB_SERVER": "http://ours:1/", "RAY_API_SERVER_ADDRESS": "http://theirs:1"}
    assert resolve_job_server(None, environ) == "http://ours:1"
    assert resolve_job_server("https://given", environ) == "https://given"
    for wrong in ("127.0.0.1:8265", "ray://host:10001", "http://user:word@host", "http://"):
        with pytest.raises(UserError, match="Job server"):
            resolve_job_server(wrong, {})
