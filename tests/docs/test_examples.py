"""Methods that the documents show: one file and one line each, and they keep the contract."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lowdim_bench import methods
from lowdim_bench.contract import Subject, check
from lowdim_bench.methods import Method, choose
from lowdim_bench.problems import build, load_arrays
from lowdim_bench.specs import load_task

ROOT = Path(__file__).resolve().parents[2]
SHOWN = [
    (page, code)
    for page in ("README.md", "CONTRIBUTING.md", "docs/guide/methods.md")
    for code in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    if "(Method)" in code
]
WITH_A_LINE = [(page, code) for page, code in SHOWN if page != "README.md"]
"""Those that are shown with their place in a checkout; the README's is for a submission."""


def test_every_document_that_explains_methods_shows_one() -> None:
    assert [page for page, _ in SHOWN] == ["README.md", "CONTRIBUTING.md", "docs/guide/methods.md"]


@pytest.mark.parametrize(("page", "code"), SHOWN, ids=[page for page, _ in SHOWN])
def test_a_method_that_is_shown_keeps_the_contract(page: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a task that ships, as a module beside the methods that do."""
    module = ModuleType("lowdim_bench.methods.shown")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, page, "exec"), vars(module))
    (kind,) = [
        one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Method) and one is not Method
    ]
    monkeypatch.setitem(methods.METHODS, "shown", f"shown:{kind.__name__}")
    task = load_task("digits-mlp")
    found = check(Subject(choose("shown").build(), task, build(task, load_arrays(task, ROOT))))
    assert [one for one in found if not one.passed] == []


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The package and its tests, with a folder of methods and tests to write to; everything else is the one that is tested."""
    package = tmp_path / "lowdim_bench"
    package.mkdir()
    for part in (ROOT / "lowdim_bench").iterdir():
        if part.name not in {"methods", "__pycache__"}:
            (package / part.name).symlink_to(part)
    without_bytecode = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lowdim_bench" / "methods", package / "methods", ignore=without_bytecode)
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=without_bytecode)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tasks").symlink_to(ROOT / "tasks")
    return tmp_path


def _add_as_shown(checkout: Path, page: str, code: str) -> str:
    """Write the file that a page names and the line that it shows, and nothing else. Returns the method's name."""
    text = (ROOT / page).read_text()
    (file,) = re.findall(r"`(lowdim_bench/methods/[a-z]\w*\.py)`", text)
    ((line, name),) = re.findall(r"the line `(\"(\w+)\": \"\w+:\w+\",)`", text)
    assert not (checkout / file).exists()
    (checkout / file).write_text(code)
    registry = checkout / "lowdim_bench" / "methods" / "__init__.py"
    before = registry.read_text()
    assert before.count("METHODS = {\n") == 1
    registry.write_text(before.replace("METHODS = {\n", f"METHODS = {{\n    {line}\n"))
    return name


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_one_file_and_one_line_are_all_that_a_method_takes(checkout: Path) -> None:
    """All that `tests/methods` asks of each method, in a checkout with those of the documents added as they say."""
    names = [_add_as_shown(checkout, page, code) for page, code in WITH_A_LINE]
    assert len(set(names)) == len(WITH_A_LINE)
    of_all_together = ["test_choices", "test_coverage_table", "is_under_contract", "makes_a_mask"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/methods"]
    done = subprocess.run(
        [*command, "-k", " or ".join(names + of_all_together)],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Methods that nobody looked at would pass as well.
    assert f"contract: {len(names)} methods in" in done.stdout
