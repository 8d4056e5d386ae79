"""Submissions on a cluster of two nodes, through Ray's job server, recorded in MLflow on PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.service.conftest import Tracking, answer

pytestmark = pytest.mark.slow

RECIPE = {"learning_rate": {"value": 0.05}, "batch_size": 64, "steps": 60}
TASK = {
    "problem": {
        "kind": "classification",
        "data": {"kind": "sklearn_digits"},
        "network": {"kind": "mlp", "hidden": [16]},
    },
    "training": RECIPE | {"optimizer": {"kind": "adam"}, "evaluate_every": 20},
    "full_training": RECIPE | {"optimizer": {"kind": "sgd", "momentum": 0.9}},
    "targets": [{"metric": "train_loss", "at_most": 1.0}],
    "preparation": {"gradient_evaluations": 0},
}


@pytest.fixture
def write_submission(tmp_path: Path) -> Callable[..., str]:
    """Writes a submission with a task of its own; keyword arguments are fields of the task's threshold."""

    def write(name: str, **threshold: object) -> str:
        folder = tmp_path / name
        folder.mkdir()
        asked = {"k_max": 500, "precision": 2.0, "minimum_replicates": 6} | threshold
        (folder / f"{name}-digits.yaml").write_text(json.dumps(TASK | {"name": f"{name}-digits", "threshold": asked}))
        about = {"name": name, "authors": ["A Test"], "method": "random_subspace", "tasks": [f"{name}-digits.yaml"]}
        (folder / "submission.yaml").write_text(json.dumps(about))
        return name

    return write


def submit(cli: Cli, folder: str, *options: str) -> dict[str, Any]:
    return cli.json("submit", folder, "--gpus-per-worker", "0", *options)


def job(cli: Cli, name: str) -> dict[str, Any]:
    (found,) = [one for one in cli.json("jobs")["jobs"] if one["id"] == name]
    return found


def wait_for(cli: Cli, name: str, *statuses: str) -> dict[str, Any]:
    until = time.monotonic() + 100
    while (found := job(cli, name))["status"] not in statuses:
        assert time.monotonic() < until, found
        time.sleep(0.5)
    return found


def recorded(cli: Cli, name: str, tracking: Tracking, wait_seconds: float = 0.0) -> Counter[tuple[int, int]]:
    """(k, replicate) of every trial that the server holds for the task of a submission, however often.

    One process asks until there is one or `wait_seconds` have passed: a new one for each question would take seconds to
    import its packages, and on a fast machine the sweep would be over by then.
    """
    code = f"""
import json
import time
from mlflow import MlflowClient
client = MlflowClient({tracking.url!r})
until = time.monotonic() + {wait_seconds}
while True:
    lines = []
    found = client.get_experiment_by_name("lowdim-bench")
    for run in client.search_runs([found.experiment_id], "tags.`lowdim.task` = '{name}-digits'") if found else []:
        for item in client.list_artifacts(run.info.run_id, "trials"):
            if item.path.endswith(".json"):
                path = client.download_artifacts(run.info.run_id, item.path)
                results = json.load(open(path))["results"]
                lines.append(json.dumps([(one["trial"]["k"], one["trial"]["replicate"]) for one in results]))
    if lines or time.monotonic() > until:
        break
    time.sleep(0.1)
print(*lines, sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], env=cli.environment, capture_output=True, text=True, check=True)
    return Counter((k, replicate) for line in done.stdout.splitlines() for k, replicate in json.loads(line))


def test_a_submission_is_sent_cancelled_resumed_followed_and_ranked(
    cli: Cli, write_submission: Callable[..., str], tracking: Tracking
) -> None:
    sent = submit(cli, write_submission("whole", precision=1.25, minimum_replicates=80))
    assert sent["id"].startswith("whole-")
    assert (sent["submission"], sent["tasks"]) == ("whole", ["whole-digits"])
    assert sent["commands"]["follow"].startswith(f"lowdim-bench logs {sent['id']} --follow")
    first = recorded(cli, "whole", tracking, wait_seconds=120)
    assert first, cli.run("logs", sent["id"])[0]
    cancelled = cli.json("cancel", sent["id"])["jobs"]
    assert [one["status"] for one in cancelled] == ["STOPPED"]

    again = cli.json("resume", sent["id"])
    assert again["id"] == sent["id"].removesuffix("-1") + "-2"
    followed, ending = cli.run("logs", again["id"], "--follow")
    assert "whole-digits" in followed
    assert "is done" in ending
    trials = recorded(cli, "whole", tracking)
    assert first.keys() <= trials.keys()
    assert set(trials.values()) == {1}, "what the first job had finished was not trained again"

    (row,) = [row for row in cli.json("rank")["rows"] if row["task"] == "whole-digits"]
    assert row["status"] == "found"
    assert row["trials"] == len(trials)
    assert job(cli, sent["id"])["status"] == "STOPPED"
    assert job(cli, again["id"])["status"] == "SUCCEEDED"


def test_drivers_queue_and_those_that_wait_can_be_cancelled(cli: Cli, write_submission: Callable[..., str]) -> None:
    endless = write_submission("endless", precision=1.02, minimum_replicates=200, trials=2000)
    running = submit(cli, endless)["id"]
    wait_for(cli, running, "RUNNING")
    second, third = (submit(cli, write_submission(name))["id"] for name in ("second", "third"))
    assert (job(cli, second)["position"], job(cli, third)["position"]) == (1, 2)
    _, refused = cli.run("submit", endless, code=2)
    assert f"job {running} is RUNNING" in refused
    _, refused = cli.run("submit", "third", code=2)
    assert f"job {third} is PENDING" in refused
    assert cli.run("logs", third)[0] == ""
    table = cli.run("jobs")[0]
    assert [line.split()[3:5] for line in table.splitlines() if line.startswith(("second", "third"))] == [
        ["pending", "1"],
        ["pending", "2"],
    ]

    ended = cli.json("cancel", second, third)["jobs"]
    assert [one["status"] for one in ended] == ["STOPPED", "STOPPED"]
    assert job(cli, running)["status"] == "RUNNING"
    cli.run("cancel", running)
    time.sleep(2)
    left = [one["id"] for one in cli.json("jobs")["jobs"] if one["status"] in {"PENDING", "RUNNING"}]
    assert left == [], "nothing that was cancelled begins when its turn comes"


def test_a_job_that_fails_says_why_and_no_secret_is_shown(
    cli: Cli, write_submission: Callable[..., str], tracking: Tracking, job_server: str
) -> None:
    name = submit(cli, write_submission("toomany"), "--workers", "64")["id"]
    out, err = cli.run("logs", name, "--follow", code=1)
    assert "at most 2 fit" in out
    assert "failed" in err
    listed = cli.json("logs", name)
    assert (listed["id"], listed["status"]) == (name, "FAILED")
    assert "at most 2 fit" in listed["note"]

    password = tracking.credentials.read_text().split()[-1]
    token = (Path(cli.environment["HOME"]) / ".ray" / "auth_token").read_text()
    said = out + err + cli.run("jobs", "--json")[0] + tracking.log.read_text()
    asked = urllib.request.Request(f"{job_server}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked) as response:
        raw = response.read().decode()
    assert name in raw
    for text in (said, raw):
        assert password not in text
        assert token not in text
    with_password = tracking.url.replace("//", f"//admin:{password}@")
    _, err = cli.run("submit", "toomany", "--tracking-uri", with_password, code=2)
    assert "holds a password" in err
    assert password not in err


def test_an_unauthenticated_client_is_refused_by_the_cluster(cli: Cli, job_server: str, place: Path) -> None:
    assert answer(f"{job_server}/api/jobs/") == 401
    assert answer(f"{job_server}/api/jobs/", Authorization=f"Bearer {'f' * 64}") == 403
    stranger = Cli(cli.folder, cli.environment | {"HOME": str(place / "nobody"), "RAY_AUTH_TOKEN": "f" * 64})
    for arguments in (["jobs"], ["cancel", "whole-0123456789ab-1"]):
        _, err = stranger.run(*arguments, code=2)
        assert "refuses this machine" in err
        assert "ray get-auth-token" in err


def test_an_unauthenticated_client_is_refused_by_the_tracking_server(cli: Cli, tracking: Tracking, place: Path) -> None:
    search = f"{tracking.url}/api/2.0/mlflow/experiments/search?max_results=1"
    assert answer(search) == 401
    assert answer(search, Authorization="Basic YWRtaW46YWRtaW4=") == 401
    assert answer(tracking.url) == 401
    stranger = Cli(cli.folder, cli.environment | {"HOME": str(place / "nobody")})
    _, err = stranger.run("rank", code=2)
    assert "~/.mlflow/credentials" in err


def test_an_account_without_permission_is_told_so(cli: Cli, tracking: Tracking, place: Path) -> None:
    cli.run("rank")  # as admin, whose experiment it is from then on
    (name, word), home = ("reader", "a long password"), place / "reader"
    credentials = home / ".mlflow" / "credentials"
    credentials.parent.mkdir(parents=True)
    credentials.write_text(f"[mlflow]\nmlflow_tracking_username = {name}\nmlflow_tracking_password = {word}\n")
    credentials.chmod(0o600)
    code = f"""
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client
import sys
client = get_app_client("basic-auth", {tracking.url!r})
if sys.argv[1:] == []:
    client.create_user({name!r}, {word!r})
else:
    from mlflow import MlflowClient
    import requests
    found = MlflowClient({tracking.url!r}).get_experiment_by_name("lowdim-bench")
    denied = {{"username": {name!r}, "resource_type": "experiment", "resource_id": found.experiment_id, "permission": "DENY"}}
    admin = ("admin", {tracking.credentials.read_text().split()[-1]!r})
    granted = requests.post({tracking.url!r} + "/api/3.0/mlflow/users/permissions/grant", json=denied, auth=admin, timeout=30)
    granted.raise_for_status()
"""

    def as_admin(*arguments: str) -> None:
        subprocess.run([sys.executable, "-c", code, *arguments], env=cli.environment, check=True)

    reader = Cli(cli.folder, cli.environment | {"HOME": str(home)})
    as_admin()
    reader.run("rank")  # reading is free
    _, err = reader.run("run", "digits-mlp", "-m", "random_subspace", code=2)
    assert "does not let this account do it (making a run): " in " ".join(err.split())
    assert "Permission denied" in err
    assert "Ask its administrator, or set MLFLOW_TRACKING_USERNAME" in " ".join(err.split())
    as_admin("shut out")
    _, err = reader.run("rank", code=2)
    assert "does not let this account do it (opening the experiment 'lowdim-bench')" in " ".join(err.split())
    assert "Traceback" not in err


def test_a_cluster_without_places_for_drivers_is_refused(cli: Cli, write_submission: Callable[..., str]) -> None:
    write_submission("noplace")
    code = (
        "from lowdim_bench.execution import service; service.DRIVER = 'no_such_resource'\n"
        "from lowdim_bench.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "submit", "noplace"],
        cwd=cli.folder,
        env=cli.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "ray start --head --resources='{\"no_such_resource\": 4}'" in done.stderr


def test_unknown_jobs_are_named(cli: Cli) -> None:
    for arguments in (["logs", "nothing-0123456789ab-1"], ["cancel", "nothing-0123456789ab-1"]):
        assert "Unknown job 'nothing-0123456789ab-1'" in cli.run(*arguments, code=2)[1]
    assert "was not sent from this machine" in cli.run("resume", "nothing-0123456789ab-1", code=2)[1]
