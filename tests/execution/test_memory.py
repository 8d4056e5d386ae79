"""Packs are cut to what fits, by what earlier ones took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from lowdim_bench.execution import memory
from lowdim_bench.execution.memory import FIRST, PackMemory
from lowdim_bench.execution.worker import Answer, Work, Worker, memory_beside
from lowdim_bench.methods import FrozenCode, MethodChoice
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.specs import load_task

MEGABYTE = 1 << 20
TRIALS = [Trial(k=1, replicate=r, round=0) for r in range(40)]


def with_free(megabytes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: 9999999999 kB\nMemAvailable: {megabytes * 1024} kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path / "no control groups")


def sizes(packs: PackMemory, trials: Sequence[Trial], megabytes_each: int) -> list[int]:
    """Sizes of the packs, where every trial writes to so many megabytes."""
    found = []
    for pack in packs.slices("sweep", trials):
        found.append(len(pack))
        with packs.measured("sweep", len(pack)):
            np.full(len(pack) * megabytes_each * MEGABYTE, 1, np.uint8)
    return found


def test_a_sweep_starts_small_and_then_takes_what_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_free(1000, monkeypatch, tmp_path)
    first, *others = sizes(PackMemory("cpu", neighbours=1), TRIALS, megabytes_each=20)
    assert first == FIRST
    assert sum(others) == len(TRIALS) - FIRST
    # 0.7 of 1000 MB in trials of 20 MB, of which some may have been taken from what the process held before
    assert others[0] == pytest.approx(35, rel=0.15) or others[0] == len(TRIALS) - FIRST


def test_two_workers_on_one_machine_take_half_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_free(400, monkeypatch, tmp_path)
    monkeypatch.setattr(memory.os, "cpu_count", lambda: 16)
    second = sizes(PackMemory("cpu", neighbours=2), TRIALS, megabytes_each=20)[1]
    assert second == pytest.approx(0.7 * 200 / 20, rel=0.2)


def test_a_container_s_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_free(100_000, monkeypatch, tmp_path)
    (tmp_path / "memory.max").write_text(f"{300 * MEGABYTE}\n")
    (tmp_path / "memory.current").write_text(f"{150 * MEGABYTE}\n")
    (tmp_path / "memory.stat").write_text(f"anon 7\ninactive_file {50 * MEGABYTE}\nactive_file 3\n")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    second = sizes(PackMemory("cpu", neighbours=1), TRIALS, megabytes_each=20)[1]
    assert second == pytest.approx(0.7 * 200 / 20, rel=0.2)


def test_one_trial_is_tried_even_where_none_should_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_free(1, monkeypatch, tmp_path)
    assert sizes(PackMemory("cpu", neighbours=1), TRIALS[:12], megabytes_each=5) == [FIRST, 1, 1, 1, 1]


@pytest.mark.parametrize(("megabytes_each", "largest"), [(100, 5), (400, 1), (1, FIRST)])
def test_processes_of_their_own_fit_beside_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, megabytes_each: int, largest: int
) -> None:
    with_free(1000, monkeypatch, tmp_path)
    monkeypatch.setattr(memory.os, "cpu_count", lambda: 16)
    packs = PackMemory("cpu", neighbours=2)  # this one's share is half
    found = [len(pack) for pack in packs.slices("sweep", TRIALS, megabytes_each * MEGABYTE)]
    assert max(found) == largest
    assert sum(found) == len(TRIALS)
    (tmp_path / "meminfo").unlink()
    assert next(iter(packs.slices("sweep", TRIALS, 1e15))) == TRIALS[:FIRST], "nobody knows"


def test_only_submitted_code_has_memory_beside_the_worker_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWDIM_BENCH_METHOD_GIGABYTES", "3")
    code = FrozenCode.of({"method.py": b"pass"})
    assert memory_beside(MethodChoice(name="mine", code=code)) == 3 * 2**30
    assert memory_beside(MethodChoice(name="random_subspace")) == memory_beside("anything else") == 0
    seen: list[int] = []

    def run(problem: object, task: object, method: object, trials: Sequence[Trial]) -> Answer:
        seen.append(len(trials))
        return Answer([TrialResult(trial=trial, status="trained") for trial in trials])

    from lowdim_bench import __version__

    work = Work(build=lambda *_: None, run=run, start=lambda: None, memory_beside=lambda _: 1e15)
    Worker(work, "cpu", __version__).run(load_task("digits-mlp"), "method", TRIALS[:3], {})
    assert seen == [1, 1, 1], "more than this machine has"


def test_without_the_files_of_linux_packs_stay_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("_MEMINFO", "_STATUS", "_CLEAR"):
        monkeypatch.setattr(memory, name, tmp_path / "nowhere" / name)
    assert sizes(PackMemory("cpu", neighbours=1), TRIALS, megabytes_each=1) == [FIRST] * 5


@pytest.mark.parametrize("answer", [lambda pack: pack, lambda pack: pack[:-1]], ids=["all", "one is missing"])
def test_a_worker_runs_every_trial_once_in_order(answer: Callable[[Sequence[Trial]], Sequence[Trial]]) -> None:
    seen: list[int] = []

    def run(problem: object, task: object, method: object, trials: Sequence[Trial]) -> Answer:
        seen.append(len(trials))
        return Answer([TrialResult(trial=trial, status="trained") for trial in answer(trials)], {str(len(seen)): b"x"})

    from lowdim_bench import __version__

    worker = Worker(Work(build=lambda *_: None, run=run, start=lambda: None), "cpu", __version__)
    if len(answer(TRIALS)) == len(TRIALS):
        found = worker.run(load_task("digits-mlp"), "method", TRIALS, {})
        assert [result.trial for result in found.results] == TRIALS
        assert list(found.certificates) == [str(1 + pack) for pack in range(len(seen))]
        assert seen[0] == FIRST
        assert sum(seen) == len(TRIALS)
    else:
        with pytest.raises(ValueError, match="asked for"):
            worker.run(load_task("digits-mlp"), "method", TRIALS, {})
