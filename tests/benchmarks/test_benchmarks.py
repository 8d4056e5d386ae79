"""The competitors compute what the engine computes, and the commands that time them run."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import ceiling, cost, jobs, profile_sweep, throughput, whole_job
from benchmarks.contest import Contest
from benchmarks.cpu_time import run_counted
from benchmarks.loops import build_loop, curve_in_basis
from lowdim_bench.engine import Span, train
from lowdim_bench.parametrizations import AffineSubspace, DenseBasis, Pack
from lowdim_bench.problems import Ledger, MeteredProblem
from lowdim_bench.specs import Task, load_task

K = 128
RECIPE = {"batch_size": 32, "steps": 30}
RATES = {"adam": 0.1, "sgd": 1.0}
ADAM = {"kind": "adam"}
NESTEROV = {"kind": "sgd", "momentum": 0.9, "nesterov": True}
NETWORKS = {
    "mlp": {"kind": "mlp", "hidden": [12, 7]},
    "convnet": {"kind": "convnet", "channels": [4, 6]},
}
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs the optional extra: pip install '.[benchmarks]'"
)


def _task(network: str, optimizer: dict[str, Any]) -> Task:
    recipe = {**RECIPE, "optimizer": optimizer, "learning_rate": {"value": RATES[optimizer["kind"]]}}
    return Task.from_data(
        {
            "name": f"small-{network}",
            "problem": {
                "kind": "classification",
                "data": {"kind": "sklearn_digits"},
                "network": NETWORKS[network],
            },
            "training": {**recipe, "evaluate_every": 10},
            "full_training": recipe,
            "targets": [{"metric": "train_loss", "at_most": 0.5}],
            "threshold": {"k_max": 64},
            "preparation": {"gradient_evaluations": 0},
        },
        "a task of this test",
    )


class _Curve:
    """Looks on at the engine's training as a sweep's scorer does."""

    every = 10

    def __init__(self, contest: Contest) -> None:
        self._problem = contest.problem
        self.seen: list[tuple[int, float]] = []

    def __call__(self, step: int, rows: Sequence[int], theta: Tensor, pack: Pack) -> list[bool]:
        self.seen.append((step, float(self._problem.train_metrics(pack.map(theta)).loss[0])))
        return [True] * len(rows)


def _engine_curve(contest: Contest, columns: Tensor, replicate: int) -> list[tuple[int, float]]:
    subspace = AffineSubspace(contest.problem.initial(replicate), DenseBasis(columns))
    curve = _Curve(contest)
    metered = MeteredProblem(contest.problem, [replicate], [Ledger()])
    recipe = contest.task.training
    train(metered, [subspace], recipe, [contest.learning_rate(len(columns))], Span(0, recipe.steps), curve)
    return curve.seen


Curves = Callable[[str, Task, Path, int, int, int], list[tuple[int, float]]]


@pytest.fixture(scope="module")
def curve() -> Iterator[Curves]:
    """`curve_in_basis`, for JAX in a process of its own: in ours, it would complain of every later test that forks."""
    with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:

        def run(loop: str, *arguments: Any) -> list[tuple[int, float]]:
            if loop == "jax":
                return elsewhere.submit(curve_in_basis, loop, *arguments).result()
            return curve_in_basis(loop, *arguments)

        yield run


@pytest.mark.parametrize("optimizer", [ADAM, NESTEROV], ids=lambda spec: spec["kind"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("loop", ["plain", pytest.param("jax", marks=needs_jax)])
def test_a_competitor_has_the_engines_loss_curve(
    loop: str, network: str, optimizer: dict[str, Any], tmp_path: Path, curve: Curves
) -> None:
    # The same basis, initial weights and batches: whatever else differs is only how fast it goes.
    task = _task(network, optimizer)
    contest = Contest.of(task, tmp_path)
    expected = _engine_curve(contest, contest.gaussian_basis(K, replicate=3), replicate=3)
    found = curve(loop, task, tmp_path, K, 3, 3)
    assert [step for step, _ in found] == [step for step, _ in expected] == [10, 20, 30]
    losses, wanted = np.array([loss for _, loss in found]), np.array([loss for _, loss in expected])
    # Sums are rounded in another order, and thirty steps of training make that larger.
    np.testing.assert_allclose(losses, wanted, rtol=1e-3)
    assert wanted[-1] < 0.97 * wanted[0], "a training that goes nowhere would make any two loops agree"


@pytest.mark.parametrize("loop", ["plain", pytest.param("jax", marks=needs_jax)])
def test_other_batches_or_another_basis_give_another_curve(loop: str, tmp_path: Path, curve: Curves) -> None:
    # Or the comparison above could not fail.
    task = _task("mlp", ADAM)
    here, there, drawn = (curve(loop, task, tmp_path, K, *seeds) for seeds in ((3, 3), (4, 3), (3, 4)))
    for other in (there, drawn):
        assert not np.allclose([loss for _, loss in here], [loss for _, loss in other], rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        # 2 B sum(in out) forward; twice that backward, less the gradient of the network's input.
        ("digits-mlp", (1, 8, 8), 2 * 64 * (2 * 64 * 32 + 3 * 32 * 10)),
        ("mnist-mlp", (1, 28, 28), 2 * 128 * (2 * 784 * 200 + 3 * (200 * 200 + 200 * 10))),
        (
            "mnist-conv2",
            (1, 28, 28),
            2 * 128 * (2 * 28 * 28 * 9 * 16 + 3 * (14 * 14 * 9 * 16 * 32 + 7 * 7 * 32 * 10)),
        ),
    ],
)
def test_operations_of_a_step(name: str, image: tuple[int, ...], expected: int) -> None:
    from lowdim_bench.problems import layout

    task = load_task(name)
    arrays = {"x_train": np.zeros((1, *image), np.float32), "y_train": np.array([9])}
    assert task.training.batch_size is not None
    assert ceiling.network_flop(layout(task, arrays), image, task.training.batch_size) == expected


def test_matrix_product_ceiling_is_a_rate() -> None:
    assert 0.1 < ceiling.matrix_product_gflops(size=256, repeats=2) < 1e4


def test_half_octave_grid() -> None:
    assert jobs.grid(1, 10) == [1, 2, 3, 4, 6, 8, 10]
    assert jobs.grid(5, 40) == [5, 7, 10, 14, 20, 28, 40]


# Busy for 0.3 CPU seconds in a grandchild that its own parent does not wait for, as Ray's daemons are.
_ORPHAN = """
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        while time.process_time() < 0.3:
            pass
        os._exit(0)
    os._exit(0)
os.wait()
print("done")
"""
# For 1.5 CPU seconds in a child whose exit is never collected, since its parent ignores SIGCHLD, as Ray's raylet does. It is
# sampled, and on a busy machine not often: what was used after the last sample is lost.
_UNCOLLECTED = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork() == 0:
    while time.process_time() < 1.5:
        pass
    os._exit(0)
try:
    os.wait()  # until there is no child left, and then there is none to collect
except ChildProcessError:
    print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "low", "high"), [(_ORPHAN, 0.25, 0.8), (_UNCOLLECTED, 0.5, 2.0)], ids=["orphan", "uncollected"]
)
def test_cpu_seconds_of_all_descendants_are_counted(script: str, low: float, high: float) -> None:
    usage = run_counted([sys.executable, "-S", "-c", script])
    assert usage.exit_code == 0
    assert usage.output == "done\n"
    assert low < usage.cpu_seconds < high
    assert not usage.killed


@pytest.mark.slow
def test_a_process_that_stays_behind_is_ended_and_counted() -> None:
    script = "import os, time\nif os.fork() == 0:\n    time.sleep(60)\nprint('done')"
    began = time.monotonic()
    usage = run_counted([sys.executable, "-S", "-c", script], patience=0.5)
    assert usage.killed
    assert time.monotonic() - began < 20


def test_a_plain_job_goes_on_where_its_log_ends(tmp_path: Path) -> None:
    contest = Contest.of(
        _task("mlp", ADAM).model_copy(update={"threshold": load_task("digits-mlp").threshold}), tmp_path
    )
    log = jobs.Log(tmp_path / "plain.jsonl")
    assert jobs.run_grid(contest, build_loop("plain", contest), jobs.grid(16, 64), log, budget_seconds=0.0) is False
    first = log.trials()
    assert len(first) == 1, "the budget is looked at after each trial"
    assert jobs.run_grid(contest, build_loop("plain", contest), jobs.grid(16, 64), log, budget_seconds=0.0) is False
    again = jobs.Log(tmp_path / "plain.jsonl").trials()
    assert [trial.key for trial in (result.trial for result in again)] == ["k16-r0", "k23-r1"]
    assert again[0] == first[0]
    assert math.isclose(log.cpu_seconds(), log.start_up() + sum(log.seconds()))


def test_a_folder_of_another_comparison_is_refused(tmp_path: Path) -> None:
    command = ["digits-mlp", "--out", str(tmp_path), "--pairs", "0", "--against", "--data-root", str(tmp_path)]
    whole_job.main([*command, "--precision", "1.2"])
    whole_job.main([*command, "--precision", "1.2"])
    with pytest.raises(SystemExit, match="another comparison"):
        whole_job.main([*command, "--precision", "1.3"])


def test_ratios_are_taken_pair_by_pair_and_an_unfinished_grid_is_a_lower_bound() -> None:
    def job(name: str, pair: int, seconds: float, status: str = "found") -> whole_job.Measured:
        return whole_job.Measured(name, pair, seconds, 0.0, 40, status, 100, 95, 110)

    jobs_of_pairs = [
        *(job("engine", 0, 2.0), job("plain", 0, 100.0)),
        *(job("engine", 1, 1.0), job("plain", 1, 70.0)),
        *(job("engine", 2, 4.0), job("plain", 2, 240.0, "unfinished")),
    ]
    found = whole_job.ratios(jobs_of_pairs, "engine", "plain")
    assert (found["median"], found["low"], found["high"], found["n"]) == (60.0, 50.0, 70.0, 3)
    assert found["lower_bound"]
    assert found["ours_complete"]
    assert not whole_job.ratios(jobs_of_pairs[:4], "engine", "plain")["lower_bound"]


def test_a_grid_that_has_cost_enough_is_left_as_a_lower_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = whole_job.Measured("engine", 0, 10.0, 9.0, 40, "found", 100, 95, 110)
    (tmp_path / "0-engine.json").write_text(json.dumps(asdict(ours)))
    jobs.Log(tmp_path / "0-plain.jsonl").add_start_up(25.0)
    whole_job.main(["digits-mlp", "--out", str(tmp_path), "--ours", "engine", "--enough", "2"])
    assert "plain / engine: at least 2.5 (2.5..2.5, n = 1)" in capsys.readouterr().out
    assert jobs.Log(tmp_path / "0-plain.jsonl").trials() == [], "the grid must not have gone on"


def _records(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_throughput_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--k", "8", "16", "--pack", "2", "--steps", "2", "--pairs", "2", "--against", "plain")
    throughput.main(["digits-mlp", *arguments, "--data-root", str(tmp_path), "--json"])
    results = _records(capsys)
    assert [result["k"] for result in results] == [8, 16]
    for result in results:
        ratio = result["ratios"]["plain PyTorch"]
        assert ratio["n"] == 2
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
        assert 0 < result["shares"]["engine"]["median"] < 1
    assert torch.get_num_threads() == 1


def test_cost_command_draws_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("--k", "4", "8", "--hidden", "4", "--trials", "1", "2", "--steps", "2", "--rounds", "1")
    figure = tmp_path / "cost.png"
    cost.main([*sizes, "--against", "plain", "--figure", str(figure), "--data-root", str(tmp_path), "--json"])
    [result] = _records(capsys)
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert {row["panel"] for row in result["points"]} == {"k", "full_dimension", "trials"}
    assert all(row["low"] <= row["median"] <= row["high"] for row in result["points"])


def test_profile_of_a_workers_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile_sweep.main(["digits-mlp", "--trials", "4", "--worker-only", "--data-root", str(tmp_path), "--json"])
    [result] = _records(capsys)
    worker = result["worker"]
    assert sum(worker["parts"].values()) == pytest.approx(worker["cpu_seconds"], rel=1e-6)
    assert {"preparation", "audit", "projection", "forward and backward", "evaluation", "optimizer"} <= worker[
        "parts"
    ].keys()
    assert all(seconds > 0 for part, seconds in worker["parts"].items() if part != "other")


def test_no_test_here_brings_jax_into_this_process() -> None:
    assert "jax" not in sys.modules
