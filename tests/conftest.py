"""What holds for every test: no state of the person who runs it is read or written, and nothing depends on chance."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

DATA_ROOT = "LOWDIM_BENCH_DATA_ROOT"
SERVERS = {"browser", "execution", "exploits", "service", "tracking", "verification"}
"""Folders whose tests share servers."""
CONTRACT = "contract"
PRIVATE_STATE = pytest.StashKey[Path]()

# Examples are the same in every run where it decides whether a change lands; elsewhere Hypothesis may explore.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.register_profile("exploring", deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    """Before anything of the package is imported: an environment in which only the data root is the caller's own."""
    for name in list(os.environ):
        if name.startswith(("LOWDIM_BENCH_", "MLFLOW_", "RAY_")) and name != DATA_ROOT:
            del os.environ[name]
    # A shell that starts the tests in the background has them ignore Ctrl-C, and so would every process that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Short, since Unix sockets may be made below it and their paths are limited to 107 bytes.
    state = Path(tempfile.mkdtemp(prefix="ldb-"))
    config.stash[PRIVATE_STATE] = state
    os.environ["LOWDIM_BENCH_STATE_DIR"] = str(state)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["MPLBACKEND"] = "Agg"
    settings.load_profile("deterministic" if os.environ.get("CI") else "exploring")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[PRIVATE_STATE], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes share the tests (`-n 2 --dist loadgroup`): those of a file stay together, since they share what it starts,
    and so do those of a folder whose fixtures start servers once."""
    for item in items:
        folder = item.path.parent
        together = folder if folder.name in SERVERS else item.path
        item.add_marker(pytest.mark.xdist_group(str(together)))
        if (contract := item.get_closest_marker("contract")) and isinstance(item, pytest.Function):
            who = item.callspec.params.get("name") if hasattr(item, "callspec") else None
            item.user_properties.append((CONTRACT, (contract.args[0], who)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many methods and tasks were held to their contract, and in how many tests."""
    for of in ("method", "task"):
        held = {outcome: _held_to_contract(terminalreporter, outcome, of) for outcome in ("passed", "failed")}
        if count := sum(map(len, held.values())):
            names = {who for found in held.values() for who in found if who}
            terminalreporter.line(f"contract: {len(names)} {of}s in {count} tests, {len(held['failed'])} failed")


def _held_to_contract(reporter: pytest.TerminalReporter, outcome: str, of: str) -> list[str | None]:
    """Who each test of a contract was about; under xdist too, since reports travel with their properties."""
    reports = [report for report in reporter.stats.get(outcome, []) if report.when == "call"]
    found = [value for report in reports for name, value in report.user_properties if name == CONTRACT]
    return [who for kind, who in found if kind == of]


def _skip_without_data() -> Path:
    root = os.environ.get(DATA_ROOT)
    if not root:
        pytest.skip(f"needs real data: set {DATA_ROOT} to a torchvision root that holds it")
    return Path(root)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_data"):
        _skip_without_data()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The torchvision root that the caller gave; skips where there is none."""
    return _skip_without_data()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One torch thread, even after a test that asked for more."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
