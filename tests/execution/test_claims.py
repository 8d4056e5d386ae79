"""A tiny claim through real workers and a real store: measured once, whatever dies on the way.

Here and not in tests/claims, since a process can start one Ray cluster only.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, final

import pytest

from lowdim_bench.claims.base import Claim, Found, Part, Values, column
from lowdim_bench.claims.cost import Cost
from lowdim_bench.claims.driver import reproduce
from lowdim_bench.claims.scoreboard import read
from lowdim_bench.claims.tasks import well
from lowdim_bench.claims.verdicts import Check, mean
from lowdim_bench.errors import UserError
from lowdim_bench.problems import Problem
from lowdim_bench.settings import Settings
from lowdim_bench.tracking import ClaimStore
from lowdim_bench.tracking.claim_log import Identity
from tests.tracking.conftest import schema

__all__ = ["schema"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


@pytest.fixture
def store(settings: Settings, schema: Path, tmp_path: Path) -> Settings:
    """Settings with an empty store."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(schema)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    return replace(settings, tracking_uri=f"sqlite:///{path}", artifact_location=(tmp_path / "mlartifacts").as_uri())


@final
class Tally(Part):
    """Writes down which replicates it measured; while `hangs` is there it says who it is, and waits to be killed."""

    folder: str
    breaks: bool = False

    def measure(self, problem: Problem, replicates: Sequence[int]) -> Sequence[Values]:
        hangs = Path(self.folder) / "hangs"
        if hangs.exists():
            (Path(self.folder) / "draft").write_text(str(os.getpid()))
            (Path(self.folder) / "draft").rename(Path(self.folder) / "pid")
            time.sleep(600)
        if self.breaks and not (Path(self.folder) / "mended").exists():
            raise ArithmeticError("this part does not add up")
        for one in replicates:
            with (Path(self.folder) / "seen").open("a") as file:
                file.write(f"{self.name} {one}\n")
        return [{"norm": float(problem.initial(one).norm()), "seed": one} for one in replicates]

    def cost(self) -> Cost:
        return Cost()


@final
class Tiny(Claim):
    number: ClassVar[int] = 99
    name: ClassVar[str] = "tiny"
    statement: ClassVar[str] = "Weights are not zero."
    source: ClassVar[str] = "this test"
    expected: ClassVar[str] = "above zero"
    provenance: ClassVar[str] = "arithmetic"
    full: ClassVar = {}

    folder: str
    replicates: int = 20
    above: float = 0.0
    breaks: bool = False

    def parts(self) -> Sequence[Tally]:
        task = well("tiny-well", 8, {"kind": "power", "exponent": 1.0}, 0.5)
        return [
            Tally(
                name=name, task=task, replicates=self.replicates, folder=self.folder, breaks=self.breaks and name == "b"
            )
            for name in ("a", "b")
        ]

    def checks(self, found: Found) -> list[Check]:
        return [mean(f"norm of {name}", column(found[name], "norm"), above=self.above) for name in ("a", "b")]


def seen(folder: Path) -> list[str]:
    """What was measured, with repeats; parts a and b of one claim are the same measurement, and are made once."""
    file = folder / "seen"
    return sorted(file.read_text().splitlines()) if file.exists() else []


def test_a_claim_is_measured_decided_recorded_and_not_measured_again(store: Settings, tmp_path: Path) -> None:
    claim = Tiny(folder=str(tmp_path))
    steps: list[tuple[int, int]] = []
    (outcome,) = reproduce(store, [claim], "cpu", progress=lambda done, total: steps.append((done, total)))
    assert outcome.decided is not None
    assert outcome.decided.verdict == "reproduced"
    assert [check.n for check in outcome.decided.checks] == [20, 20]
    assert steps[0] == (0, 20)
    assert steps[-1] == (20, 20)
    assert len(seen(tmp_path)) == len(set(seen(tmp_path))) == 20
    recorded = read(ClaimStore(store).verdicts())
    assert recorded == {claim.digest: outcome.decided}
    assert reproduce(store, [claim], "cpu")[0].decided == outcome.decided
    assert len(seen(tmp_path)) == 20
    (again,) = reproduce(store, [claim], "cpu", again=True)
    assert again.decided == outcome.decided, "the same seeds give the same numbers"
    assert len(seen(tmp_path)) == 40
    assert len(ClaimStore(store).verdicts()) == 1
    assert Tiny(folder=str(tmp_path), above=1e9).digest != claim.digest, (
        "another configuration is another claim on record"
    )


def test_a_killed_worker_loses_nothing(store: Settings, tmp_path: Path) -> None:
    hangs, pid = tmp_path / "hangs", tmp_path / "pid"
    hangs.touch()

    def kill() -> None:
        until = time.monotonic() + 120
        while not pid.exists() and time.monotonic() < until:
            time.sleep(0.05)
        hangs.unlink()
        os.kill(int(pid.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    (outcome,) = reproduce(_one_worker(store), [Tiny(folder=str(tmp_path))], "cpu")
    killer.join()
    assert outcome.decided is not None
    assert seen(tmp_path) == sorted(set(seen(tmp_path)))
    assert len(seen(tmp_path)) == 20


def test_a_driver_that_is_interrupted_goes_on_where_it_was(store: Settings, tmp_path: Path) -> None:
    claim = Tiny(folder=str(tmp_path), replicates=40)

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce(store, [claim], "cpu", progress=interrupt)
    with ClaimStore(store).open(Identity(claim.name, claim.digest, "cpu", "")) as log:
        kept = {replicate for name in ("a", "b") for replicate in log.measured(name)}
    assert kept
    before = len(seen(tmp_path))
    totals: list[int] = []
    (outcome,) = reproduce(store, [claim], "cpu", progress=lambda done, total: totals.append(total))
    assert outcome.decided is not None
    assert outcome.decided.checks[0].n == 40
    assert set(totals) == {40 - len(kept)}, "what is kept is not measured again"
    assert len(seen(tmp_path)) == before + 40 - len(kept)


def test_what_breaks_is_told_and_goes_on_once_it_is_mended(store: Settings, tmp_path: Path) -> None:
    broken, sound = Tiny(folder=str(tmp_path), breaks=True), Tiny(folder=str(tmp_path), above=1e9)
    first, second = reproduce(store, [broken, sound], "cpu")
    assert first.decided is None
    assert "this part does not add up" in first.failure
    assert second.decided is not None
    assert second.decided.verdict == "contradicted"
    (tmp_path / "mended").touch()
    (outcome,) = reproduce(store, [broken], "cpu")
    assert outcome.decided is not None
    assert outcome.decided.verdict == "reproduced"


def test_a_torn_part_is_measured_again(store: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    claim = Tiny(folder=str(tmp_path))
    reproduce(store, [claim], "cpu")
    first, *_ = sorted(tmp_path.rglob("parts/a-*.json"))
    first.write_text(first.read_text()[:-9])
    identity = Identity(claim.name, claim.digest, "cpu", "")
    with ClaimStore(store).open(identity) as log:
        assert len(log.measured("a")) < 20
        assert len(log.measured("b")) == 20
    assert "it is torn or was altered" in caplog.text


def test_two_drivers_do_not_measure_the_same_claim(store: Settings, tmp_path: Path) -> None:
    claim = Tiny(folder=str(tmp_path))
    held = ClaimStore(store).open(Identity(claim.name, claim.digest, "cpu", ""))
    with held, pytest.raises(UserError, match="Claim tiny is being run already"):
        reproduce(store, [claim], "cpu")


def _one_worker(settings: Settings) -> Settings:
    return replace(settings, workers=1)
