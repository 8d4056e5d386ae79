"""Submissions as the tests write them, the body of a method as text, and how they are run on a small problem."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from lowdim_bench import isolation
from lowdim_bench.isolation.host import HOST
from lowdim_bench.isolation.watching import processes
from lowdim_bench.methods import FrozenCode, MethodChoice
from lowdim_bench.preparation import Prepared, prepare_pack
from lowdim_bench.records import Trial
from tests.problems.small import BLOBS, make_task, small_problem

TASK = make_task(BLOBS)
PROBLEM = small_problem(TASK)
COUNT = PROBLEM.example_count

HEAD = """
import os, sys, time
import torch
from lowdim_bench.methods import Method, Setting, Train
from lowdim_bench.parametrizations import AffineSubspace, Coordinates, DenseBasis, SignedHash

def good(setting):
    return AffineSubspace(setting.initial, SignedHash(setting.k, setting.full_dimension, setting.seed, torch.device("cpu")))

"""


def submission(
    prepare: str,
    *,
    before: str = "",
    name: str = "mine",
    parameters: dict[str, Any] | None = None,
    fields: str = "",
    requirements: tuple[str, ...] = (),
    **files: str,
) -> MethodChoice:
    """A submission whose `prepare` has this body, after `before` at the top of its module; `files` lie beside it."""
    text = (
        HEAD
        + textwrap.dedent(before)
        + "\n\nclass Mine(Method):\n    summary = 'a method of the tests'\n    source = 'the tests'\n"
        + textwrap.indent(textwrap.dedent(fields), "    ")
        + "\n    def prepare(self, setting):\n"
        + textwrap.indent(textwrap.dedent(prepare).strip("\n"), "        ")
        + "\n"
    )
    others = {f"{stem}.py": textwrap.dedent(content).encode() for stem, content in files.items()}
    code = FrozenCode.of({"method.py": text.encode(), **others}, requirements)
    return MethodChoice(name=name, parameters=parameters or {}, code=code)


def trials(*ks: int) -> list[Trial]:
    return [Trial(k=k, replicate=place, round=0) for place, k in enumerate(ks)]


def prepared(choice: MethodChoice, *ks: int) -> list[Prepared]:
    return prepare_pack(PROBLEM, TASK, isolation.build(choice), trials(*ks))


def failure(choice: MethodChoice, *, limits: dict[str, str] | None = None) -> str:
    """Why a method fails, when it is asked for three dimensions."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (limits or {}).items():
            patch.setenv(f"LOWDIM_BENCH_{name}", value)
        (item,) = prepared(choice, 3)
    assert item.subspace is None
    assert item.failure.startswith("preparation failed: ")
    return item.failure.removeprefix("preparation failed: ")


def inside() -> set[int]:
    """The processes that the nursery started, and all that they did."""
    found, table = {HOST.nursery_pid}, processes()
    while more := {pid for pid, process in table.items() if process.parent in found} - found:
        found |= more
    nursery = {pid for pid, process in table.items() if process.parent == HOST.nursery_pid}
    return {pid for pid in found - nursery - {HOST.nursery_pid} if pid is not None}
