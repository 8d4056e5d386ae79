"""Manifests for Kubernetes and Slurm: what can be told without either, and that no secret is in them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
(PINNED_RAY,) = re.findall(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


@pytest.fixture
def ray_cluster() -> dict[str, Any]:
    documents = list(yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text()))
    (found,) = [one for one in documents if one["kind"] == "RayCluster"]
    return found


def _containers(group: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in group["template"]["spec"]["containers"]}


def _environment(container: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container.get("env", [])}


def test_the_cluster_asks_for_a_token_and_grows(ray_cluster: dict[str, Any]) -> None:
    spec = ray_cluster["spec"]
    assert ray_cluster["apiVersion"] == "ray.io/v1"
    assert spec["rayVersion"] == PINNED_RAY
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] is True
    (group,) = spec["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == (0, 8)
    (worker,) = _containers(group).values()
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == group["rayStartParams"]["num-gpus"] == "1"


def test_the_head_takes_drivers_but_no_trials(ray_cluster: dict[str, Any]) -> None:
    start = ray_cluster["spec"]["headGroupSpec"]["rayStartParams"]
    assert json.loads(json.loads(start["resources"])) == {"lowdim_bench_driver": 4}
    assert (start["num-cpus"], start["num-gpus"]) == ("0", "0")
    assert start["dashboard-host"] == "127.0.0.1"


def test_secrets_come_from_secrets_and_only_to_the_head(ray_cluster: dict[str, Any]) -> None:
    head = _containers(ray_cluster["spec"]["headGroupSpec"])
    secret = {
        (name, variable): value["secretKeyRef"]["key"]
        for name, container in head.items()
        for variable, value in _environment(container).items()
        if isinstance(value, dict)
    }
    assert secret == {
        ("ray-head", "MLFLOW_TRACKING_PASSWORD"): "admin-password",
        ("mlflow", "PGPASSWORD"): "postgres-password",
        ("mlflow", "MLFLOW_AUTH_ADMIN_PASSWORD"): "admin-password",
        ("mlflow", "MLFLOW_FLASK_SERVER_SECRET_KEY"): "secret-key",
        ("postgres", "POSTGRES_PASSWORD"): "postgres-password",
    }
    (worker,) = _containers(ray_cluster["spec"]["workerGroupSpecs"][0]).values()
    assert all(isinstance(value, str) for value in _environment(worker).values())
    assert "listen_addresses=127.0.0.1" in head["postgres"]["args"]
    assert "0.0.0.0" not in (DEPLOY / "kuberay.yaml").read_text()


def test_the_image_carries_the_pinned_ray() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{PINNED_RAY}-py311-" in text
    assert "-c /home/ray/lowdim-bench/constraints.txt" in text


def test_the_slurm_script_parses_and_starts_ray_with_a_token_on_loopback() -> None:
    script = DEPLOY / "slurm.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert "export RAY_AUTH_MODE=token" in text
    assert "--dashboard-host=127.0.0.1" in text
    assert text.index("#SBATCH --nodes") < text.index("set -euo pipefail"), (
        "Slurm reads options above the first command only"
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([], {}, "LOWDIM_BENCH_TRACKING_URI"),
        ([], {"LOWDIM_BENCH_TRACKING_URI": "http://x:5000"}, "Say what to run"),
    ],
)
def test_the_slurm_script_says_what_is_missing(arguments: list[str], environment: dict[str, str], said: str) -> None:
    command = ["bash", str(DEPLOY / "slurm.sbatch"), *arguments]
    done = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin"} | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert said in done.stderr
