"""Validation finds what is wrong with a submission, and says what to do; its code is never imported here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from lowdim_bench.contract import Finding
from lowdim_bench.templates import write_submission
from lowdim_bench.validation import validate

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "submissions"


def validated(folder: Path, last: str = "") -> dict[str, Finding]:
    """The findings by check, up to the check `last`: they are made one by one."""
    findings: dict[str, Finding] = {}
    for finding in validate(folder):
        findings[finding.check] = finding
        if finding.check == last:
            break
    return findings


def failed(folder: Path, last: str = "") -> dict[str, str]:
    return {name: finding.found for name, finding in validated(folder, last).items() if not finding.passed}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_submission(tmp_path, "my-mask", "mask")
    return tmp_path / "my-mask"


def test_every_check_is_made_and_a_stricter_track_than_measured_is_not_believed(folder: Path) -> None:
    edit(folder / "submission.yaml", "track: prepared", "track: cold")
    before = set(sys.modules)
    findings = validated(folder)
    assert list(findings) == [
        "schema", "name", "tasks", "imports", "k range", "preparation", "exactly k", "equal seeds", "packs", "nested",
        "process", "other process", "cost", "training", "track",
    ]  # fmt: skip
    assert [name for name, finding in findings.items() if not finding.passed] == ["track"]
    assert "expected cold, but what it uses makes it prepared" in findings["track"].found
    assert findings["track"].advice == "Write `track: prepared`, or use less."
    assert "at most 50 gradient and full evaluations" in findings["cost"].found
    assert not {name for name in set(sys.modules) - before if name == "method" or "submission_my" in name}


def test_what_cannot_be_imported_ends_there_with_its_line(folder: Path) -> None:
    edit(folder / "method.py", "class LargestMove", "import nothing_of_that_name\n\n\nclass LargestMove")
    findings = validated(folder)
    assert list(findings)[-1] == "imports"
    assert "No module named 'nothing_of_that_name'" in findings["imports"].found
    edit(folder / "submission.yaml", "parameters: {steps: 50}", "parameters: {step: 50}")
    edit(folder / "method.py", "import nothing_of_that_name", "")
    assert "it has no parameter 'step'; known: steps" in failed(folder)["imports"]


def test_what_depends_on_the_process_is_found(folder: Path) -> None:
    edit(folder / "method.py", "        score = ", "        start = hash('mask') % 10007\n        score = ")
    edit(folder / "method.py", ".indices[: setting.k]", ".indices.roll(start)[: setting.k]")
    found = failed(folder, "other process")
    assert "another process prepares another subspace" in found["other process"]


def test_a_method_that_breaks_the_contract_is_not_trained(folder: Path) -> None:
    edit(folder / "method.py", ".indices[: setting.k]", ".indices[: setting.k + 1]")
    findings = validated(folder)
    assert not findings["exactly k"].passed
    assert "the trial allows k = 1 numbers, but the method prepared 2" in findings["exactly k"].found
    assert "training" not in findings


def test_names_and_tasks(folder: Path) -> None:
    spec = yaml.safe_load((folder / "submission.yaml").read_text())
    (folder / "submission.yaml").write_text(yaml.safe_dump(spec | {"name": "other", "tasks": ["own.yaml"]}))
    shipped = (Path(__file__).parents[2] / "tasks" / "digits-mlp.yaml").read_text()
    (folder / "own.yaml").write_text(shipped.replace("name: digits-mlp", "name: own"))
    found = failed(folder, "tasks")
    assert found["name"] == "'other' lies in folder 'my-mask'"
    assert "own.yaml is a task of your own, on track prepared" in found["tasks"]
    (folder / "submission.yaml").write_text(yaml.safe_dump(spec | {"name": "imp"}))
    (only,) = validate(folder.rename(folder.parent / "imp"))
    assert not only.passed
    assert "'imp' is a method that ships" in only.found


def test_a_folder_that_is_none_ends_at_once(tmp_path: Path) -> None:
    (only,) = validate(tmp_path)
    assert (only.check, only.passed) == ("schema", False)
    assert "holds no submission.yaml" in only.found


@pytest.mark.parametrize(
    ("name", "track", "last"),
    [
        ("deep-digits", "open", ""),
        ("gradient-span", "prepared", "tasks"),
        ("short-burn-in", "prepared", "tasks"),
        ("snip", "prepared", ""),
    ],
)
def test_the_examples_of_the_repository_are_valid(name: str, track: str, last: str) -> None:
    """The contract itself is checked by the tests of each; here also, in full, for one with code and one without."""
    findings = validated(EXAMPLES / name, last)
    assert not [finding for finding in findings.values() if not finding.passed]
    assert last or findings["track"].found.startswith(track)


def test_every_example_is_listed_here() -> None:
    names = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__")
    assert names == ["deep-digits", "gradient-span", "short-burn-in", "snip"]
