"""A step that is played back trains and is charged as one that runs. The GPU's part is played here by a stand-in for CUDA's
graphs that keeps to their rules: what is recorded is not run, and what is replayed runs no Python of the engine's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

import pytest
import torch

from lowdim_bench import engine
from lowdim_bench.engine import Span, playback, train
from lowdim_bench.engine.optimizers import PackAdam
from lowdim_bench.parametrizations import AffineSubspace, Pack, RedrawnBases, SignedHash
from lowdim_bench.problems import Ledger, MeteredProblem
from lowdim_bench.specs import Recipe
from tests.problems.small import BLOBS, RECIPE, make_task, small_problem

CPU = torch.device("cpu")
PROBLEM = small_problem(make_task(BLOBS))


def _refused(*_: object) -> None:
    raise RuntimeError("operation not permitted when stream is capturing")


class Cuda:
    """Stands in for `torch.cuda`: one recorded step, and how often it was recorded and replayed."""

    def __init__(self, ledgers: Sequence[Ledger]) -> None:
        self._ledgers = ledgers
        self.step: Callable[[], None] = lambda: None
        self.recorded = self.replayed = 0

    def replay(self) -> None:
        """Run the step, and undo what its Python side wrote into ledgers: a GPU knows of none."""
        self.replayed += 1
        before = [dict(vars(ledger)) for ledger in self._ledgers]
        self.step()
        for ledger, state in zip(self._ledgers, before, strict=True):
            vars(ledger).update(state)

    @contextlib.contextmanager
    def record(self, graph: object) -> Iterator[None]:
        """While it is recorded, the step's Python runs and charges ledgers, but nothing is computed: theta stays. Nor may it
        ask for a number: CUDA refuses what waits for the GPU."""
        self.recorded += 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PackAdam, "step", lambda *_: None)
            for waits in ("cpu", "item", "tolist", "nonzero"):
                patch.setattr(torch.Tensor, waits, _refused)
            yield

    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = SimpleNamespace(wait_stream=lambda other: None)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=self.replay))
        monkeypatch.setattr(torch.cuda, "graph", self.record)
        monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())

        def make(step: Callable[[], None], device: torch.device, *, recorded: bool) -> playback.Player:
            self.step = step
            player = playback.Player(step, device, recorded=recorded)
            player._cuda = recorded
            return player

        monkeypatch.setattr(engine, "Player", make)


def run(ledgers: Sequence[Ledger], drop: bool, *, redrawn: bool = False) -> list[torch.Tensor]:
    """Sixty steps of four trials, looked at every twenty; one may leave at the first look."""
    maps = [RedrawnBases(53, 7, "signed_hash", r) if redrawn else SignedHash(7, 53, r, CPU) for r in range(4)]
    subspaces = [AffineSubspace(PROBLEM.initial(r), one) for r, one in enumerate(maps)]
    recipe = Recipe.from_data({**RECIPE, "optimizer": {"kind": "adam"}, "steps": 60}, "tests")

    class Look:
        every = 20

        def __call__(self, step: int, rows: Sequence[int], theta: torch.Tensor, pack: Pack) -> list[bool]:
            return [not (drop and row == 1 and step == 20) for row in rows]

    problem = MeteredProblem(PROBLEM, range(4), ledgers)
    return train(problem, subspaces, recipe, [0.05] * 4, Span(0, 60), Look())


@pytest.mark.parametrize(
    "count", [None, PROBLEM.example_count], ids=["scored training", "preparation, which tells labels"]
)
@pytest.mark.parametrize("drop", [False, True], ids=["all rows stay", "a row leaves"])
def test_playing_back_changes_neither_training_nor_ledgers(
    drop: bool, count: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = [Ledger(example_count=count) for _ in range(4)]
    expected = run(plain, drop)
    ledgers = [Ledger(example_count=count) for _ in range(4)]
    cuda = Cuda(ledgers)
    cuda.stand_in(monkeypatch)
    for one, two in zip(run(ledgers, drop), expected, strict=True):
        assert torch.equal(one, two)
    assert [ledger.spent for ledger in ledgers] == [ledger.spent for ledger in plain]
    assert cuda.recorded == (2 if drop else 1)  # other rows, other tensors: a new recording
    assert cuda.replayed == 60 - playback.WARM_UP * cuda.recorded


def test_steps_that_are_not_alike_are_not_played_back(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run([Ledger() for _ in range(4)], drop=True, redrawn=True)
    ledgers = [Ledger() for _ in range(4)]
    cuda = Cuda(ledgers)
    cuda.stand_in(monkeypatch)
    for one, two in zip(run(ledgers, drop=True, redrawn=True), expected, strict=True):
        assert torch.equal(one, two)
    assert (cuda.recorded, cuda.replayed) == (0, 0)
    assert [ledger.spent.gradient_evaluations for ledger in ledgers] == [60, 20, 60, 60]
