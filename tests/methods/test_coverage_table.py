"""What methods say of themselves, as one table."""

from __future__ import annotations

import io
import re

from lowdim_bench.cli.listings import show_coverage, show_methods
from lowdim_bench.methods import METHODS, method_class
from lowdim_bench.methods.coverage import COLUMNS, coverage, markdown

KINDS = {name: method_class(name) for name in METHODS}


def test_every_method_that_ships_says_what_it_trains_tells_and_looks_at() -> None:
    rows = coverage(KINDS)
    assert [row[0] for row in rows] == list(METHODS)
    for row in rows:
        assert len(row) == len(COLUMNS)
        assert all(row), row
        assert "as measured" not in row, f"{row[0]} leaves it to the base class to say"


def test_what_is_said_of_data_and_numbers_names_parameters_that_there_are() -> None:
    for name, kind in KINDS.items():
        said = " ".join((kind.freedom, kind.side_information, kind.data_seen))
        named = {text.partition("=")[0] for text in re.findall(r"`([^`]+)`", said)}
        assert named <= kind.model_fields.keys(), name
    # The length of this trajectory is its own, whatever the recipe, and a diet is not only what the rounds see.
    assert "`increments` times `stride`" in KINDS["lottery_subspace"].data_seen
    assert "full training" not in KINDS["lottery_subspace"].data_seen
    assert "pre-training" in KINDS["data_diet_imp"].data_seen


def test_markdown_has_a_line_for_each_method_and_its_pipes_are_escaped() -> None:
    out = io.StringIO()
    show_coverage(KINDS, out)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2 + len(METHODS)
    assert lines[1] == "| --- | --- | --- | --- | --- | --- |"
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {len(COLUMNS) + 2}
    assert markdown(("a",), [("x|y",)]) == "| a |\n| --- |\n| x\\|y |\n"


def test_the_list_for_people_tells_parameters_too() -> None:
    out = io.StringIO()
    show_methods(KINDS, {"imp": "my-pack==1"}, out, as_json=False)
    text = out.getvalue()
    assert "Parameters" in text
    assert "rate=0.2" in text
    assert "my-pack==1" in text
    assert "side information" in text
