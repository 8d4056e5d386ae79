"""ray_cluster.yaml is what Ray's own schema accepts, and says what the README promises."""

from __future__ import annotations

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())


def _validated(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` does before it talks to a cloud: fill in defaults, check against the schema, check the numbers."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    prepared = _validated(cluster)
    assert prepared["cluster_name"] == "lowdim-bench"


def test_head_has_no_gpu_and_spot_workers_go_from_none_to_eight(cluster: dict[str, Any]) -> None:
    nodes = _validated(cluster)["available_node_types"]
    head, gpu = nodes[cluster["head_node_type"]], nodes["gpu"]
    assert (head["resources"]["GPU"], head["max_workers"]) == (0, 0)
    assert (gpu["resources"]["GPU"], gpu["min_workers"], gpu["max_workers"]) == (1, 0, 8)
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert head["labels"] != gpu["labels"]


def test_labels_follow_rays_rules(cluster: dict[str, Any]) -> None:
    from ray._private.label_utils import validate_node_label_syntax, validate_node_labels

    for node in cluster["available_node_types"].values():
        validate_node_labels(node["labels"])
        validate_node_label_syntax(node["labels"])


def test_every_node_asks_for_the_token_and_has_it(cluster: dict[str, Any]) -> None:
    starts = [
        command
        for kind in ("head", "worker")
        for command in cluster[f"{kind}_start_ray_commands"]
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    (path,) = [
        option.partition("RAY_AUTH_TOKEN_PATH=")[2]
        for option in cluster["docker"]["run_options"]
        if "RAY_AUTH_TOKEN_PATH=" in option
    ]
    assert path in cluster["file_mounts"]


def test_dashboard_listens_on_loopback(cluster: dict[str, Any]) -> None:
    assert any("--dashboard-host=127.0.0.1" in command for command in cluster["head_start_ray_commands"])
    assert "0.0.0.0" not in (ROOT / "ray_cluster.yaml").read_text()


def test_nodes_run_the_ray_that_is_pinned_and_install_the_project_with_its_pins(cluster: dict[str, Any]) -> None:
    (pinned,) = [
        line.removeprefix("ray==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.startswith("ray==")
    ]
    for kind in ("head", "worker"):
        assert cluster["docker"][f"{kind}_image"].startswith(f"rayproject/ray:{pinned}-py311-")
    assert any("-c ~/lowdim-bench/constraints.txt ~/lowdim-bench" in command for command in cluster["setup_commands"])


def test_the_head_queues_drivers_and_runs_no_trial(cluster: dict[str, Any]) -> None:
    resources = _validated(cluster)["available_node_types"]["head"]["resources"]
    assert (resources["CPU"], resources["GPU"]) == (0, 0)
    assert resources["lowdim_bench_driver"] >= 1
    assert any("RAY_JOB_START_TIMEOUT_SECONDS=31536000" in option for option in cluster["docker"]["run_options"])


def test_the_head_serves_mlflow_on_postgresql_before_ray_starts_and_no_secret_is_in_the_file(
    cluster: dict[str, Any],
) -> None:
    commands = cluster["head_start_ray_commands"]
    (serve,) = [index for index, command in enumerate(commands) if "lowdim-bench serve" in command]
    (credentials,) = [index for index, command in enumerate(commands) if "~/.mlflow/credentials" in command]
    (ray,) = [index for index, command in enumerate(commands) if "ray start" in command]
    assert serve < credentials < ray
    assert "--store 'postgresql:///lowdim?host=/var/run/postgresql'" in commands[serve], "its socket: no password"
    assert "--host" not in commands[serve], "loopback is the default"
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    assert not re.search(r"(?i)password\s*[=:]\s*\S", (ROOT / "ray_cluster.yaml").read_text())


def _misspell_top(config: dict[str, Any]) -> None:
    config["idle_timeout_minute"] = config.pop("idle_timeout_minutes")


def _misspell_node(config: dict[str, Any]) -> None:
    config["available_node_types"]["gpu"]["max_worker"] = 8


def _wrong_type(config: dict[str, Any]) -> None:
    config["available_node_types"]["gpu"]["resources"]["GPU"] = "one"


def _unknown_head(config: dict[str, Any]) -> None:
    config["head_node_type"] = "heed"


@pytest.mark.parametrize("spoil", [_misspell_top, _misspell_node, _wrong_type, _unknown_head])
def test_the_same_check_catches_mistakes(cluster: dict[str, Any], spoil: Any) -> None:
    from jsonschema import ValidationError

    spoil(cluster)
    with pytest.raises((ValidationError, ValueError)):
        _validated(cluster)
