"""The command line itself: help, examples, lazy imports, and errors that say what to do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.main import get_command

from lowdim_bench.cli import app
from tests.cli.conftest import Cli

README = (Path(__file__).parents[2] / "README.md").read_text()
COMMANDS = [
    "tasks",
    "methods",
    "schema",
    "run",
    "rank",
    "predict",
    "diagnose",
    "reproduce",
    "calibrate wells",
    "calibrate coverage",
    "calibrate operators",
    "init-submission",
    "validate",
    "estimate",
    "submit",
    "jobs",
    "logs",
    "cancel",
    "resume",
    "serve",
    "verify",
    "report",
]


def test_every_command_is_listed_here() -> None:
    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        subcommands = getattr(command, "commands", None)
        found += [f"{name} {sub}" for sub in subcommands] if subcommands else [name]
    assert sorted(found) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_explains_every_option(lone_cli: Cli, command: str) -> None:
    out, _ = lone_cli.run(*command.split(), "--help")
    assert f"Example: lowdim-bench {command}" in " ".join(out.split())
    assert "--json" in out
    assert f"lowdim-bench {command}" in README
    options = re.findall(r"^  (?:-\w, )?(--[\w-]+)(.*\n(?:   .*\n)*)", out, re.MULTILINE)
    assert all(len(text.split()) >= 3 for _, text in options), options


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lowdim_bench.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'ray', 'mlflow', 'pydantic', 'numpy', 'rich') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "digits-mpl", "-m", "random_subspace"], ["Unknown task 'digits-mpl'", "Did you mean 'digits-mlp'?"]),
        (["run", "digits-mlp", "-m", "impp"], ["Unknown method 'impp'", "Did you mean 'imp'?"]),
        (["run", "digits-mlp", "-m", "imp,rat=0.2"], ["Unknown parameter of method imp 'rat'", "'rate'"]),
        (["run", "digits-mlp", "-m", "imp,rate=2"], ["rate", "less than 1", "got 2"]),
        (["run", "digits-mlp", "-m", "imp,rate=x"], ["rate", "valid number"]),
        (["run", "digits-mlp", "-m", "imp,rate"], ["'rate' is not key=value"]),
        (["run", "digits-mlp", "-m", "imp", "-m", "imp,rate=0.2"], ["given twice"]),
        (["run", "digits-mlp", "digits-mlp", "-m", "imp"], ["given twice"]),
        (["run", "mine.yaml", "-m", "imp"], ["There is no task file mine.yaml"]),
        (["run", "digits-mlp", "-m", "./nowhere"], ["submission.yaml"]),
        (["run", "digits-mlp", "-m", "json:JSONDecoder"], ["is not imported here", "init-submission"]),
        (["run", "digits-mlp"], ["--method"]),
        (["run", "digits-mlp", "-m", "imp", "--workers", "0"], ["workers"]),
        (["run", "digits-mlp", "-m", "imp", "--tracking-uri", "ftp://x"], ["ftp://x", "sqlite:///"]),
        (["run", "digits-mlp", "-m", "imp", "--tracking-uri", "http://127.0.0.1:9"], ["127.0.0.1:9"]),
        (["run", "digits-mlp", "-m", "imp", "--ray-address", "127.0.0.1:9"], ["127.0.0.1:9"]),
        (["rank", "digits-mlp"], ["Nothing is recorded for digits-mlp"]),
        (["reproduce", "16"], ["Unknown claim '16'", "15 (other-families)", "all"]),
        (["reproduce", "phase-transitoin"], ["Unknown claim 'phase-transitoin'", "phase-transition"]),
        (["reproduce", "1; rm -rf /", "1"], ["Unknown claim '1; rm -rf /'"]),
        (["reproduce", "all", "3"], ["'all' is every claim", "all, 3"]),
        (["reproduce", "1", "--scale", "huge"], ["huge", "cpu", "full"]),
        (["reproduce", "--again"], ["say which"]),
        (["rankk"], ["rankk"]),
    ],
)
def test_errors_are_one_message_and_exit_code_2(lone_cli: Cli, arguments: list[str], words: list[str]) -> None:
    out, err = lone_cli.run(*arguments, code=2)
    assert out == ""
    assert "Traceback" not in err
    assert len(err) < 1500
    for word in words:
        assert word.lower() in " ".join(err.split()).lower()


def test_misspelt_key_in_a_task_file(lone_cli: Cli, write_task: Callable[..., str]) -> None:
    task = write_task(precison=1.2)
    _, err = lone_cli.run("run", task, "-m", "imp", code=2)
    assert "threshold.precison: unknown key" in err


def test_missing_data_is_told_before_anything_starts(lone_cli: Cli, write_task: Callable[..., str]) -> None:
    path = lone_cli.folder / write_task()
    data = yaml.safe_load(path.read_text())
    data["problem"]["data"] = {"kind": "arrays", "path": "mine.npz", "sha256": "0" * 64}
    path.write_text(yaml.safe_dump(data))
    _, err = lone_cli.run("run", path.name, "-m", "imp", "--data-root", "there", code=2)
    assert "There is no data file there/mine.npz" in err.replace(f"{lone_cli.folder}/", "")


def test_rank_of_nothing(lone_cli: Cli) -> None:
    assert lone_cli.json("rank") == {"rows": [], "overall": [], "pairs": [], "profiles": {}, "wins": {}}
    assert "Nothing is recorded yet" in lone_cli.run("rank")[0]


def test_lists_for_machines(lone_cli: Cli) -> None:
    tasks = lone_cli.json("tasks")["tasks"]
    assert {"digits-mlp", "mnist-conv2", "cifar10-resnet20"} <= {task["name"] for task in tasks}
    methods = {method["name"]: method for method in lone_cli.json("methods")["methods"]}
    assert "operator" in methods["random_subspace"]["parameters"]
    assert methods["imp"]["source"]


def test_schema_describes_the_shipped_tasks(lone_cli: Cli) -> None:
    schema = lone_cli.json("schema")
    for path in (Path(__file__).parents[2] / "tasks").glob("*.yaml"):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    assert json.loads(lone_cli.run("schema")[0]) == schema


def test_completion_knows_tasks_and_methods(lone_cli: Cli) -> None:
    completing = {"_LOWDIM_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": "lowdim-bench run dig", "COMP_CWORD": "2"}
    code = "from lowdim_bench.cli import app; app(prog_name='lowdim-bench')"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=lone_cli.environment | completing, capture_output=True, text=True, check=False
    )
    assert "digits-mlp" in ran.stdout
