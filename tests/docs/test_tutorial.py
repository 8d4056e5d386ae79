"""The tutorial's commands are commands, and its pictures are those that they make."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

from typer.main import get_group

from lowdim_bench.cli import app
from lowdim_bench.methods import parse_choice

DOCS = Path(__file__).parents[2] / "docs"


def commands(page: Path) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("lowdim-bench ")]


def test_every_command_in_the_documentation_is_one() -> None:
    known = get_group(app).commands
    seen = 0
    for page in sorted(DOCS.rglob("*.md")):
        for words in commands(page):
            command = known[words[1]]
            options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
            given = {word.split("=")[0] for word in words[2:] if word.startswith("-")}
            assert given <= options | {"-m", ">"}, (page, words)
            seen += 1
    assert seen > 15


def test_the_methods_that_the_tutorial_runs_exist() -> None:
    for words in commands(DOCS / "tutorial.md"):
        for option, value in pairwise(words):
            if option == "-m":
                parse_choice(value)


def test_its_pictures_are_there_and_are_pictures() -> None:
    text = (DOCS / "tutorial.md").read_text() + (DOCS / "index.md").read_text()
    pictures = re.findall(r"!\[[^\]]*\]\((tutorial/[^)]+)\)", text)
    assert len(set(pictures)) == len(list((DOCS / "tutorial").iterdir())) == 4
    for picture in pictures:
        assert (DOCS / picture).read_text().startswith("<svg")
