"""The shipped tasks of larger networks, cut short, through the command line: run, ranked and verified like any other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lowdim_bench.specs import load_task
from tests.cli.conftest import Cli
from tests.problems.small import merged

pytestmark = pytest.mark.slow

RECIPE = {"steps": 4, "batch_size": 8}
CUT: dict[str, Any] = {
    "training": RECIPE | {"evaluate_every": 2},
    "full_training": RECIPE,
    "targets": [{"metric": "train_loss", "at_most": 50.0}],
    "threshold": {
        "k_min": 16,
        "k_max": 64,
        "precision": 8,
        "minimum_replicates": 2,
        "trials": 4,
        "trials_per_round": 2,
    },
}
"""A target that is reached anywhere, so that every trial leaves a certificate."""
DIMENSIONS = {"digits-conv-batchnorm": 3_162, "digits-resnet18": 11_181_642, "text-transformer": 30_916}
CHANGES: dict[str, Any] = {
    "digits-conv-batchnorm": {},
    "digits-resnet18": {"problem": {"network": {"statistics_examples": 64}}},
    "text-transformer": {"problem": {"data": {"train_characters": 5000}}},
}


@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_sweep_end_to_end(name: str, cli: Cli) -> None:
    plain = load_task(name).model_dump(mode="json")
    (cli.folder / f"{name}.yaml").write_text(json.dumps(merged(merged(plain, CUT), CHANGES[name])))
    cli.run("run", f"{name}.yaml", "-m", "random_subspace")
    (row,) = cli.json("rank")["rows"]
    assert (row["task"], row["full_dimension"], row["status"]) == (name, DIMENSIONS[name], "below_range")
    (verdict,) = cli.json("verify", "--all")["runs"]
    assert verdict["verified"] == "yes", verdict
    assert len(verdict["checked"]) == row["trials"]
    assert all(one["exact"] for one in verdict["checked"])
