"""Where things live: options, then environment, then defaults; and what Ray and MLflow are told before they start."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.settings import Settings, prepare_environment, quiet_stdout

ROOT = Path(__file__).resolve().parents[2]


def resolve(environ: Mapping[str, str] | None = None, **options: Any) -> Settings:
    return Settings.resolve(**options, environ=environ or {})


def test_defaults_are_in_this_folder_and_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    made = resolve()
    assert made.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert made.artifact_location == f"file://{tmp_path}/mlartifacts"
    assert made.sqlite_path == tmp_path / "mlflow.db"
    assert made.state_dir == tmp_path / "home/.local/state/lowdim-bench"
    assert made.data_root == tmp_path / "home/.cache/lowdim-bench/data"
    assert (made.ray_address, made.workers, made.gpus_per_worker, made.autoscaling) == (None, None, None, False)
    based = resolve({"XDG_STATE_HOME": "/state", "XDG_CACHE_HOME": "/cache"})
    assert (based.state_dir, based.data_root) == (Path("/state/lowdim-bench"), Path("/cache/lowdim-bench/data"))


def test_an_option_wins_over_the_environment_and_ours_over_that_of_others() -> None:
    environ = {
        "LOWDIM_BENCH_TRACKING_URI": "http://ours:5000/",
        "MLFLOW_TRACKING_URI": "http://theirs:5000",
        "RAY_ADDRESS": "head:6379",
        "LOWDIM_BENCH_WORKERS": "4",
        "LOWDIM_BENCH_GPUS_PER_WORKER": "0.25",
        "LOWDIM_BENCH_DATA_ROOT": "/data",
        "LOWDIM_BENCH_STATE_DIR": "/state",
        "LOWDIM_BENCH_AUTOSCALING": "1",
    }
    made = resolve(environ)
    assert (made.tracking_uri, made.artifact_location, made.is_server) == ("http://ours:5000", None, True)
    assert (made.ray_address, made.workers, made.gpus_per_worker, made.autoscaling) == ("head:6379", 4, 0.25, True)
    assert (made.data_root, made.state_dir) == (Path("/data"), Path("/state"))
    given = resolve(
        environ, tracking_uri="http://given", workers=2, ray_address="local", gpus_per_worker=0, autoscaling=False
    )
    assert (given.tracking_uri, given.workers, given.ray_address) == ("http://given", 2, None)
    assert (given.gpus_per_worker, given.autoscaling) == (0.0, False)
    assert resolve({"MLFLOW_TRACKING_URI": "http://theirs:5000"}).tracking_uri == "http://theirs:5000"


def test_a_relative_database_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = resolve(tracking_uri="sqlite:///sub dir/runs.db?timeout=5")
    assert made.tracking_uri == f"sqlite:///{tmp_path}/sub dir/runs.db?timeout=5"
    assert made.sqlite_path == tmp_path / "sub dir/runs.db"
    assert made.artifact_location == f"file://{tmp_path}/sub%20dir/mlartifacts"


def test_a_password_is_not_shown() -> None:
    made = resolve(tracking_uri="postgresql+psycopg2://ann:secret@host:5432/runs")
    assert made.shown_tracking_uri == "postgresql+psycopg2://ann:***@host:5432/runs"
    assert resolve(tracking_uri="http://host:5000").shown_tracking_uri == "http://host:5000"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "'0' is not valid: give a whole number of at least 1"),
        ({"workers": "-1"}, "whole number"),
        ({"workers": "many"}, "whole number"),
        ({"workers": "1.5"}, "whole number"),
        ({"gpus_per_worker": "2"}, "up to 1"),
        ({"gpus_per_worker": "half"}, "up to 1"),
        ({"gpus_per_worker": "nan"}, "up to 1"),
        ({"ray_address": "ray://head:10001"}, "ray job submit"),
        ({"ray_address": "head"}, "not HOST:PORT"),
        ({"ray_address": "http://head:8265"}, "not HOST:PORT"),
        ({"ray_address": "head:99999"}, "not HOST:PORT"),
        ({"tracking_uri": "./mlruns"}, "migrate-filestore"),
        ({"tracking_uri": "file:///runs"}, "migrate-filestore"),
        ({"tracking_uri": "sqlite:///:memory:"}, "cannot be used"),
        ({"tracking_uri": "sqlite://"}, "cannot be used"),
        ({"tracking_uri": "http://"}, "names no host"),
    ],
)
def test_a_bad_value_is_the_users_to_correct(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        resolve(**options)


def test_a_bad_value_of_the_environment_is_one_too() -> None:
    with pytest.raises(UserError, match="LOWDIM_BENCH_AUTOSCALING is 'maybe'"):
        resolve({"LOWDIM_BENCH_AUTOSCALING": "maybe"})
    assert resolve({"LOWDIM_BENCH_WORKERS": ""}).workers is None, "set to nothing is not set"


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    for name in list(os.environ):
        if name.startswith(("RAY_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_the_environment_is_prepared_once_and_the_token_private(
    tmp_path: Path, bare_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "deep" / "state"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "7"
    prepare_environment(resolve(state_dir=state))
    token = state / "ray_auth_token"
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(token)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert len(secret := token.read_text()) == 64
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    token.chmod(0o644)
    del os.environ["RAY_AUTH_TOKEN_PATH"]
    prepare_environment(resolve(state_dir=state))
    assert token.read_text() == secret
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert list(state.iterdir()) == [token]


def test_an_empty_token_is_replaced(tmp_path: Path, bare_environment: None) -> None:
    (tmp_path / "ray_auth_token").touch()
    prepare_environment(resolve(state_dir=tmp_path))
    assert len((tmp_path / "ray_auth_token").read_text()) == 64


def test_the_token_of_a_standing_cluster_is_left_to_ray(
    tmp_path: Path, bare_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    prepare_environment(resolve(state_dir=tmp_path / "state", ray_address="head:6379"))
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ
    os.environ["RAY_AUTH_TOKEN"] = "given"
    prepare_environment(resolve(state_dir=tmp_path / "state"))
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def test_a_state_folder_that_cannot_be_made(tmp_path: Path, bare_environment: None) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="LOWDIM_BENCH_STATE_DIR"):
        prepare_environment(resolve(state_dir=tmp_path / "file" / "state"))


def test_quiet_stdout_lends_the_real_one_and_gives_it_back() -> None:
    script = (
        "import os, subprocess, sys\n"
        "from lowdim_bench.settings import quiet_stdout\n"
        "with quiet_stdout() as out:\n"
        "    print('python noise'); os.write(1, b'native noise\\n'); subprocess.run(['echo', 'noise of a child'])\n"
        "    out.write('result\\n')\n"
        "print('afterwards')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "result\nafterwards\n"
    assert sorted(done.stderr.splitlines()) == ["native noise", "noise of a child", "python noise"]


def test_quiet_stdout_gives_it_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no"), quiet_stdout():
        raise ValueError("no")
    os.write(1, b"again\n")
    assert capfd.readouterr().out == "again\n"
