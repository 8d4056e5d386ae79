"""Which methods there are, and what each trains, tells and looks at: one table for the terminal and for documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lowdim_bench.methods.base import Method

COLUMNS = ("method", "what it does", "its k numbers", "side information", "data seen before", "source")


def coverage(methods: Mapping[str, type[Method]]) -> list[tuple[str, ...]]:
    """A row of `COLUMNS` for each method, from what its class says. What a trial really tells and sees is measured."""
    return [
        (name, kind.summary, kind.freedom, kind.side_information, kind.data_seen, kind.source)
        for name, kind in methods.items()
    ]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, with a line break at its end."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (columns, ["---"] * len(columns), *rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)
