"""Methods that the documents show: one file and one line each, and they keep the contract."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lowdim_bench import methods
from lowdim_bench.contract import Subject, check
from lowdim_bench.methods import Method, choose
from lowdim_bench.problems import build, load_arrays
from lowdim_bench.specs import load_task

ROOT = Path(__file__).parents[2]
SHOWN = [
    (page, code)
    for page in ("README.md", "CONTRIBUTING.md", "docs/guide/methods.md")
    for code in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    if "(Method)" in code
]


def test_every_document_that_explains_methods_shows_one() -> None:
    assert [page for page, _ in SHOWN] == ["README.md", "CONTRIBUTING.md", "docs/guide/methods.md"]


@pytest.mark.parametrize(("page", "code"), SHOWN, ids=[page for page, _ in SHOWN])
def test_a_method_that_is_shown_keeps_the_contract(page: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file, as a module beside the methods that ship, and its line in `METHODS`."""
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
