"""The page's figures as files for papers: SVG and PNG, and the numbers behind each as CSV."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lowdim_bench import figures
from lowdim_bench.errors import UserError
from lowdim_bench.pages.content import Content, Shown

_LONGEST_NAME = 120


def named_figures(content: Content) -> dict[str, Shown]:
    """Every figure by a name for people: its task, its method, what it shows; or its claim. Equal names get a digest."""
    found: dict[str, Shown] = {}

    def add(name: str, shown: Shown, digest: str) -> None:
        found[name if name not in found else f"{name} {digest[:8]}"] = shown

    for shown in content.overall:
        add(shown.name, shown, "")
    for task in content.tasks:
        for shown in task.shown:
            add(f"{task.name} {shown.name.removeprefix(f'{task.anchor}-')}", shown, task.digest)
        for sweep in task.sweeps:
            for shown in sweep.shown:
                what = shown.name.removeprefix(f"run-{sweep.row.run_id}-")
                add(f"{task.name} {sweep.label} {what}", shown, sweep.row.run_id)
    for claim in content.claims:
        add(f"{claim.shown.name} {claim.row.name}", claim.shown, claim.row.claim_digest)
    return found


def save_figures(named: Mapping[str, Shown], folder: Path) -> list[Path]:
    """Write NAME.svg, NAME.png and NAME.csv of every figure. Raises `UserError` where the folder cannot be written."""
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, shown in _file_names(named):
            for kind, data in _files(shown.specification):
                path = folder / f"{name}.{kind}"
                path.write_bytes(data)
                written.append(path)
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} cannot be written: {error.strerror}. Give another folder."
        ) from None
    return written


def _file_names(found: Mapping[str, Shown]) -> Iterator[tuple[str, Shown]]:
    """Names that any file system takes, whatever somebody called a method; no two alike, in upper case neither."""
    taken: set[str] = set()
    for name, shown in found.items():
        plain = re.sub(r"[^A-Za-z0-9_=.]+", "-", name).strip("-.")[:_LONGEST_NAME] or "figure"
        unique, count = plain, 1
        while unique.lower() in taken:
            count += 1
            unique = f"{plain}-{count}"
        taken.add(unique.lower())
        yield unique, shown


def _files(specification: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    text = json.dumps(specification)
    for kind in ("svg", "png"):
        yield kind, figures.render(text, kind)
    yield "csv", figures.data(_rows(specification))


def _rows(specification: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every number in a figure; `layer` tells the parts of a drawing apart where they show different things."""
    tables: list[list[dict[str, Any]]] = []
    for values in _tables(specification):
        if values not in tables:
            tables.append(values)
    columns = list(dict.fromkeys(name for table in tables for row in table for name in row))
    rows = [
        {"layer": place, **{name: row.get(name) for name in columns}}
        for place, table in enumerate(tables)
        for row in table
    ]
    return rows if len(tables) > 1 else [{name: row[name] for name in columns} for row in rows]


def _tables(part: Any) -> Iterator[list[dict[str, Any]]]:
    """The inline data of a Vega-Lite specification, wherever it stands in it: as `values`, or by name in `datasets`."""
    if isinstance(part, dict):
        for name, inner in part.items():
            if name == "datasets":
                yield from inner.values()
            elif name == "values" and isinstance(inner, list) and all(isinstance(row, dict) for row in inner):
                yield inner
            else:
                yield from _tables(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _tables(inner)
