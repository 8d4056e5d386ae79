"""The points that a run's certificates hold, and the landscape between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.landscape import diagnose_points
from lowdim_bench.problems import Problem
from lowdim_bench.tracking import Store
from lowdim_bench.verification import Points, read_points
from tests.verification.conftest import Copy, Run, settings_of

pytestmark = pytest.mark.slow


def points_of(run: Run, most: int = 3) -> Points:
    settings = settings_of(run.store)
    (dossier,) = Store(settings).dossiers([run.run_id])
    return read_points(dossier, settings.data_root, most)


@pytest.mark.parametrize("name", ["cold", "mask", "burnt"])
def test_points_are_where_the_trials_nearest_to_k_star_ended(copy: Copy, name: str, problem: Problem) -> None:
    run = copy[name]
    found = points_of(run)
    assert len(found.replicates) == len(set(found.replicates)) == 3
    for row, (k, replicate) in enumerate(zip(found.ks, found.replicates, strict=True)):
        result = run.result(f"k{k}-r{replicate}")
        reached = result["outcomes"][-1]["step"]
        curve = next(point["train_loss"] for point in result["curve"] if point["step"] == reached)
        assert float(problem.train_metrics(found.trained.ends[row : row + 1]).loss[0]) == pytest.approx(curve, rel=1e-5)
        assert found.trained.starts[row].equal(problem.initial(replicate))
    certified = [one["trial"] for one in run.results() if one["certificate"]]
    (k_star,) = run.sql("SELECT value FROM latest_metrics WHERE run_uuid = ? AND key = 'k_star'", run.run_id)[0]
    nearest = min(max(one["k"], k_star) / min(one["k"], k_star) for one in certified)
    assert max(found.ks[0], k_star) / min(found.ks[0], k_star) == pytest.approx(nearest)


def test_their_landscape_is_diagnosed_without_what_lies_on_the_way(copy: Copy) -> None:
    points = points_of(copy["cold"], 2)
    found = diagnose_points(points.task, points.problem, None, points.replicates, points.trained)
    names = {one.name for one in found.findings}
    assert {
        "loss barrier",
        "loss barrier after alignment",
        "beads of that string",
        "disagreement on the test set",
    } <= names
    assert not [name for name in names if "iterates" in name or "kernel" in name]


def test_a_run_with_fewer_than_two_points_or_a_torn_one_is_refused(copy: Copy) -> None:
    run = copy["cold"]
    key = f"k{points_of(run).ks[0]}-r{points_of(run).replicates[0]}"
    run.put_certificate(key, run.certificate(key).read_bytes()[:-4])
    with pytest.raises(UserError, match=f"certificate of {key} cannot be read"):
        points_of(run)
    for result in run.results():
        trial = f"k{result['trial']['k']}-r{result['trial']['replicate']}"
        run.edit_trial(trial, lambda one: one.update(certificate=None))
    with pytest.raises(UserError, match="certificates of 0 replicates"):
        points_of(run)


def test_the_command_takes_a_task_or_a_run(copy: Copy) -> None:
    settings = settings_of(copy.folder)
    environ = os.environ | {
        "LOWDIM_BENCH_TRACKING_URI": settings.tracking_uri, "LOWDIM_BENCH_STATE_DIR": str(settings.state_dir),
    }  # fmt: skip
    command = [sys.executable, "-c", "from lowdim_bench.cli import main; main()", "diagnose"]

    def told(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *options], env=environ, capture_output=True, text=True, check=False)

    run = copy["mask"].run_id[:8]
    shown = told("--run", run, "--json")
    assert shown.returncode == 0, shown.stderr
    report = json.loads(shown.stdout)
    assert (report["run"], report["task"]) == (run, "tiny")
    assert all(loss <= 1.0 for loss in report["end_losses"]), "they reached the target"
    for options in ([], ["digits-mlp", "--run", run]):
        refused = told(*options)
        assert refused.returncode == 2
        assert "a task, or --run" in refused.stderr
