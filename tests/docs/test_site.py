"""The documentation: its examples run, its notebook runs, and the site builds strictly and asks no other host for anything."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", [page for page in PAGES if ">>>" in page.read_text()], ids=lambda page: page.stem)
def test_examples_say_what_the_code_does(page: Path) -> None:
    found = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS, encoding="utf-8")
    assert found.attempted > 5
    assert found.failed == 0


def test_examples_that_are_wrong_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "wrong.md"
    page.write_text((DOCS / "numbers.md").read_text().replace("(1.0, 0.375", "(1.0, 0.5"))
    found = doctest.testfile(
        str(page), module_relative=False, optionflags=doctest.ELLIPSIS, report=False, verbose=False
    )
    assert found.failed == 1


class _Loads(HTMLParser):
    """Addresses that a browser fetches when it shows a page; links are not among them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in {"script", "img", "iframe", "source", "video", "audio", "embed", "object"}:
            self.found += [address for name in ("src", "data", "srcset") if (address := given.get(name))]
        if tag == "link" and given.get("rel") not in {"canonical", "next", "prev"}:
            self.found.append(given.get("href") or "")


@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES) / 2
    for page in pages:
        loads = _Loads()
        loads.feed(page.read_text())
        assert [address for address in loads.found if re.match(r"(https?:)?//", address)] == [], page
        assert "<!-- table:" not in page.read_text()
        assert "import mermaid" not in page.read_text()
    coverage = (tmp_path / "coverage.html").read_text()
    assert "<code>random_subspace</code>" in coverage
    assert "<code>digits-mlp</code>" in coverage


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    """Its cells, as the script that they make together."""
    notebook = json.loads((DOCS / "guide" / "notebook.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    script = tmp_path / "cells.py"
    script.write_text("\n\n".join([*cells, "print(results.rows.to_json(orient='records'))"]))
    ran = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", script],
        cwd=tmp_path,
        env=os.environ | {"LOWDIM_BENCH_STATE_DIR": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    rows = {row["label"]: row for row in json.loads(ran.stdout.splitlines()[-1])}
    stored = json.dumps(notebook["cells"])
    for label, row in rows.items():
        assert row["status"] == "found"
        assert row["low"] <= row["k_star"] <= row["high"]
        assert re.search(rf"<td>{label}</td>\\n.{{0,40}}<td>{row['k_star']}</td>", stored), (
            "the notebook shows what it prints"
        )
    assert len(list((tmp_path / "figures").glob("*.svg"))) == len(list((tmp_path / "figures").glob("*.csv"))) >= 6
