"""Submissions through the command line: begun, checked, and estimated; what installed packages add is listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "submissions"


def test_a_submission_is_begun_once(lone_cli: Cli) -> None:
    out, _ = lone_cli.run("init-submission", "my-mask", "--kind", "mask")
    assert "wrote submissions/my-mask/method.py" in out
    assert "Next: pytest submissions/my-mask; lowdim-bench validate submissions/my-mask" in out
    _, err = lone_cli.run("init-submission", "my-mask", code=2)
    assert "submissions/my-mask is there already" in err
    made = lone_cli.json("init-submission", "other", "--folder", "elsewhere", "--kind", "builtin")
    assert made["submission"] == "elsewhere/other"
    assert all((lone_cli.folder / path).is_file() for path in made["files"])


def test_validate_prints_a_line_for_each_check_and_fails_with_what_to_do(lone_cli: Cli) -> None:
    lone_cli.run("init-submission", "mine", "--kind", "builtin")
    spec = lone_cli.folder / "submissions" / "mine" / "submission.yaml"
    spec.write_text(spec.read_text().replace("track: prepared", "track: cold"))
    out, err = lone_cli.run("validate", "submissions/mine", code=2)
    assert "pass  exactly k     asked for k = 1, 24, 610, measured rank 1, 24, 610" in out
    assert "FAIL  track         expected cold, but what it uses makes it prepared" in out
    assert "To do: Write `track: prepared`, or use less." in out
    assert "Error: 1 of 15 checks failed." in err
    spec.write_text(spec.read_text().replace("burn_in_steps", "burn_in_step"))
    out, _ = lone_cli.run("validate", "submissions/mine", "--json", code=2)
    assert '"passed": false' in out
    assert "Did you mean 'burn_in_steps'?" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["validate"], "Give either the folder of a submission, or --installed"),
        (["validate", "x", "--installed"], "Give either the folder of a submission, or --installed"),
        (["estimate"], "Give a submission's folder, or -m METHOD and tasks"),
        (["estimate", "-m", "imp"], "Which task?"),
        (["estimate", "-m", "imp", "digits-mpl"], "Did you mean 'digits-mlp'?"),
        (["estimate", "nowhere"], "there is no such folder"),
        (["init-submission", "Mine"], "cannot be the name of a submission"),
    ],
)
def test_what_is_missing_is_said(lone_cli: Cli, arguments: list[str], words: str) -> None:
    _, err = lone_cli.run(*arguments, code=2)
    assert words in " ".join(err.split())
    assert "Traceback" not in err


def test_estimate_takes_a_submission_with_its_own_tasks_or_a_method_with_others(lone_cli: Cli) -> None:
    (own,) = lone_cli.json("estimate", str(EXAMPLES / "deep-digits"), "--workers", "4")["forecasts"]
    assert (own["task"], own["workers"], own["k_high"]) == ("digits-deep", 4, 1754)
    assert own["hours"]["low"] <= own["hours"]["high"]
    out, _ = lone_cli.run("estimate", "-m", "imp,rate=0.5", "digits-mlp")
    assert "imp,rate=0.5 on digits-mlp, k from 1 to 2048" in out
    for word in ("trainings", "CPU time", "wall time", "memory", "preparation", "measured", "assumed"):
        assert f"  {word}" in out


def test_what_installed_packages_add_is_listed_with_its_package(lone_cli: Cli) -> None:
    site = lone_cli.folder / "site"
    (site / "my_pack-0.3.dist-info").mkdir(parents=True)
    (site / "my_pack-0.3.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: my-pack\nVersion: 0.3\n")
    points = "[lowdim_bench.methods]\nmine = lowdim_bench.methods.random_mask:RandomMask\n"
    points += "[lowdim_bench.tasks]\nmore = my_pack\n"
    (site / "my_pack-0.3.dist-info" / "entry_points.txt").write_text(points)
    (site / "my_pack").mkdir()
    task = (EXAMPLES / "deep-digits" / "digits-deep.yaml").read_text()
    (site / "my_pack" / "more.yaml").write_text(task.replace("name: digits-deep", "name: more"))
    cli = replace(lone_cli, environment=lone_cli.environment | {"PYTHONPATH": str(site)})
    packages = {row["name"]: row["package"] for row in cli.json("methods")["methods"]}
    assert (packages["mine"], packages["imp"]) == ("my-pack==0.3", None)
    packages = {row["name"]: row["package"] for row in cli.json("tasks")["tasks"]}
    assert (packages["more"], packages["digits-mlp"]) == ("my-pack==0.3", None)
    assert "my-pack==0.3" in cli.run("methods")[0]
