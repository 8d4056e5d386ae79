"""The routes beside MLflow's, without a browser: who is let in, and what is sent again."""

from __future__ import annotations

import base64
import configparser
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest

from lowdim_bench.tracking import Store, keys, trial_files
from tests.browser.conftest import Served
from tests.leaderboard.made_up import sweep

pytestmark = pytest.mark.slow
PAGES = ("/leaderboard", "/leaderboard.json", "/leaderboard/comparisons", "/leaderboard/vega.js", "/leaderboard/runs")
FIGURE = "/leaderboard/figure?name=task-0-thresholds"


def fetch(url: str, headers: Mapping[str, str] = {}, data: Mapping[str, Any] | None = None) -> tuple[int, Any, bytes]:
    """Status, headers and body of an answer; a POST where there is something to send."""
    body = None if data is None else json.dumps(data).encode()
    kind = {} if data is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, {**headers, **kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_what_has_not_changed_is_not_sent_again_and_what_has_is(served: Served) -> None:
    status, headers, body = fetch(f"{served.url}/leaderboard.json")
    assert status == 200
    before = {row["run_id"]: row["trainings"] for row in json.loads(body)["rows"]}
    run = served.runs["burn_in_subspace"]
    assert fetch(f"{served.url}/leaderboard.json", {"If-None-Match": headers["ETag"]})[0] == 304
    status, headers, _ = fetch(f"{served.url}/leaderboard")
    assert "default-src 'none'" in headers["Content-Security-Policy"]

    begun = sweep("burn_in_subspace", 150, ks=[100, 400, 200])
    with Store(served.settings) as store:
        name, content = trial_files.encode(begun.results[-2:])
        store._connection.upload(run, keys.TRIALS, {name: content})
    until = time.monotonic() + 300
    while True:  # a visitor may be shown the last edition while the next one is made
        rows = {
            row["run_id"]: row["trainings"] for row in json.loads(fetch(f"{served.url}/leaderboard.json")[2])["rows"]
        }
        if rows == before | {run: before[run] + 2}:
            break
        assert time.monotonic() < until, rows
        time.sleep(0.2)


def test_without_accounts_everybody_on_this_machine_reads(served: Served) -> None:
    assert {page: fetch(f"{served.url}{page}")[0] for page in (*PAGES, FIGURE)} == dict.fromkeys((*PAGES, FIGURE), 200)
    status, _, body = fetch(f"{served.url}/leaderboard/figure?name=nothing")
    assert (status, json.loads(body)) == (404, {"error": "There is no such figure. Reload the page."})
    assert fetch(f"{served.url}/leaderboard", data={})[0] == 405  # nothing is written through a page


def test_with_accounts_a_stranger_is_refused_and_so_is_who_may_not_read(guarded: Served) -> None:
    every = (*PAGES, FIGURE)
    refused = {page: fetch(f"{guarded.url}{page}") for page in every}
    assert {page: answer[0] for page, answer in refused.items()} == dict.fromkeys(every, 401)
    assert not any(b"random_subspace" in body for _, _, body in refused.values())

    ini = configparser.ConfigParser()
    ini.read(guarded.settings.state_dir / "server" / "credentials")
    admin = basic(ini["mlflow"]["mlflow_tracking_username"], ini["mlflow"]["mlflow_tracking_password"])
    until = time.monotonic() + 300
    while (status := fetch(f"{guarded.url}/leaderboard", admin)[0]) == 503:  # the first edition is being made
        assert time.monotonic() < until
        time.sleep(0.2)
    assert status == 200
    assert fetch(f"{guarded.url}/leaderboard", basic("admin", "a guess of mine"))[0] == 401

    ann = {"username": "ann", "password": "a long enough word"}
    assert fetch(f"{guarded.url}/api/2.0/mlflow/users/create", admin, ann)[0] == 200
    reader = basic(ann["username"], ann["password"])
    assert {page: fetch(f"{guarded.url}{page}", reader)[0] for page in every} == dict.fromkeys(every, 200)
    experiment = json.loads(
        fetch(f"{guarded.url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=lowdim-bench", admin)[2]
    )["experiment"]["experiment_id"]
    denied = {"username": "ann", "resource_type": "experiment", "resource_id": experiment, "permission": "DENY"}
    status, _, body = fetch(f"{guarded.url}/api/3.0/mlflow/users/permissions/grant", admin, denied)
    assert status == 200, body
    assert {page: fetch(f"{guarded.url}{page}", reader)[0] for page in every} == dict.fromkeys(every, 403)
