"""What the code knows better than a page: `<!-- table: NAME -->` in a page becomes the table, or the pictures, of that name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowdim_bench.methods.coverage import markdown

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

    from lowdim_bench.claims.scoreboard import Decided

_MARK = re.compile(r"<!-- table: ([a-z]+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this for each page. Raises KeyError for a table that there is not, which ends a strict build."""
    return _MARK.sub(lambda found: TABLES[found[1]](), markdown)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """MkDocs calls this before it reads the pages: the pictures of claims are drawn for the site alone."""
    from mkdocs.structure.files import File

    from lowdim_bench import figures
    from lowdim_bench.pages.drawn import of_claim

    for shown in map(of_claim, _claims()):
        drawn = figures.render(json.dumps(shown.specification), "svg")
        files.append(File.generated(config, _picture(shown.name), content=drawn))


def methods() -> str:
    from lowdim_bench.methods import METHODS, method_class
    from lowdim_bench.methods.coverage import COLUMNS, coverage

    rows = coverage({name: method_class(name) for name in METHODS})
    return markdown(COLUMNS, [(f"`{name}`", *cells) for name, *cells in rows])


def tasks() -> str:
    from lowdim_bench.specs import load_task, task_names

    lines = []
    for name in task_names():
        task = load_task(name)
        lines.append((f"`{name}`", task.description, task.ranked_target.name, task.track, f"`{task.digest}`"))
    return markdown(("task", "what is trained", "ranked target", "track", "digest"), lines)


def commands() -> str:
    from typer.main import get_group

    from lowdim_bench.cli import app

    known = sorted(get_group(app).commands.items())
    lines = [(f"`{name}`", command.get_short_help_str(200)) for name, command in known]
    return markdown(("command", "what it does"), lines)


def results() -> str:
    from lowdim_bench.leaderboard import Board, formats

    kept = (Path(__file__).parents[1] / "results" / "leaderboard.json").read_bytes()
    return formats.formatted(Board.from_json(kept, "results"), "markdown")


def overall() -> str:
    from lowdim_bench.leaderboard import Board

    kept = (Path(__file__).parents[1] / "results" / "leaderboard.json").read_bytes()
    lines = []
    for row in Board.from_json(kept, "results").overall:
        ratio = row.relative
        lines.append((f"`{row.label}`", f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})", str(ratio.tasks)))
    return markdown(("method", "k\\* of the random subspace / its own", "tasks"), lines)


def _claims() -> Sequence[Decided]:
    from lowdim_bench.claims.scoreboard import Scoreboard

    kept = json.loads((Path(__file__).parents[1] / "results" / "claims.json").read_bytes())
    return Scoreboard.from_data({"rows": kept["rows"]}, "results").rows


def claims() -> str:
    lines = [
        (str(row.number), row.statement, f"{row.expected} ({row.provenance})", f"**{row.verdict}**", row.source)
        for row in _claims()
    ]
    return markdown(("#", "claim", "expected", "verdict", "source"), lines)


def checks() -> str:
    """Every check of every claim."""
    lines = [
        (str(row.number), check.what, check.claimed, check.measured, check.interval, check.verdict)
        for row in _claims()
        for check in row.checks
    ]
    return markdown(("claim", "check", "claimed", "measured (95 % interval; n)", "whose interval", "verdict"), lines)


def pictures() -> str:
    """Every claim's numbers on the regions that it names."""
    from lowdim_bench.pages.drawn import of_claim

    return "\n\n".join(f"![{shown.caption}]({_picture(shown.name)})" for shown in map(of_claim, _claims()))


def _picture(name: str) -> str:
    return f"results/{name}.svg"


TABLES: dict[str, Callable[[], str]] = {
    "methods": methods,
    "tasks": tasks,
    "commands": commands,
    "results": results,
    "overall": overall,
    "claims": claims,
    "checks": checks,
    "pictures": pictures,
}
