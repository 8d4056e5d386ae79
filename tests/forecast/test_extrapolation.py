"""Costs counted from networks, on machines of stated speed: known counts, and sums worked out by hand."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lowdim_bench import problems
from lowdim_bench.errors import UserError
from lowdim_bench.execution.memory import FIRST, SHARE
from lowdim_bench.forecast import extrapolate
from lowdim_bench.forecast.extrapolation import IMAGENET_THRESHOLD
from lowdim_bench.forecast.machines import STATED, Machine, machine
from lowdim_bench.forecast.workloads import PASSES, Workload, count, imagenet_resnet50, workload
from lowdim_bench.specs import load_task
from lowdim_bench.specs.problem import Classification
from tests.cli.conftest import COMMAND
from tests.problems.small import BLOBS, TEXT, WELL, make_task

SIMPLE = Workload(
    name="simple",
    dimension=1000,
    forward_operations=500,
    activations=20,
    examples=100,
    batch=10,
    statistics_examples=50,
    steps=30,
    evaluations=4,
    runs=2,
)
SLOW = Machine("slow", 1000.0, 4000.0, None, 0.0, 7.0, "made up")


def test_seconds_are_operations_and_bytes_at_their_rates() -> None:
    step = 3 * 10 * 500 / 1000 + 4 * (PASSES * 1000 + 2 * 10 * 20) / 4000
    assert SLOW.step_seconds(SIMPLE) == pytest.approx(step)
    assert SLOW.evaluation_seconds(SIMPLE) == pytest.approx(150 * 500 / 1000)
    assert SLOW.trial_seconds(SIMPLE) == pytest.approx(2 * (30 * step + 4 * 75))
    assert SLOW.trial_seconds(SIMPLE, 0.5) == pytest.approx(SLOW.trial_seconds(SIMPLE) / 2)
    at_least = Machine("called", 1e12, 1e12, None, 2.0, 0.0, "made up")
    assert at_least.step_seconds(SIMPLE) == 2.0


def test_packs_are_cut_to_memory_as_workers_cut_them() -> None:
    each = SIMPLE.trial_bytes
    assert each == 4 * (4 * 1000 + 10 * 20)
    assert SLOW.pack(SIMPLE) is None
    sizes = {room: Machine("gpu", 1.0, 1.0, room * each, 0.0, 0.0, "").pack(SIMPLE) for room in (0.5, 1, 11, 101)}
    assert sizes == {0.5: 0, 1: 1, 11: int(11 * SHARE), 101: int(101 * SHARE)}
    assert FIRST == 8


def test_resnet50_is_counted_as_its_authors_count_it() -> None:
    """He et al. 2016, table 1: 3.8e9 multiplications and additions with the stride in the first convolution of a block;
    torchvision has it in the second, which makes them 4.09e9."""
    work = imagenet_resnet50()
    assert work.dimension == 25_557_032
    assert work.forward_operations / 2 == pytest.approx(4.09e9, rel=0.001)
    assert work.steps == 90 * 5004
    assert work.examples == 1_281_167


def test_counts_are_those_of_the_problem_itself() -> None:
    for name in ("digits-mlp", "digits-conv-batchnorm", "digits-resnet18", "text-transformer"):
        task = load_task(name)
        arrays = problems.load_arrays(task, None)  # type: ignore[arg-type]
        work = workload(task)
        assert work.dimension == problems.layout(task, arrays)[-1].stop
        assert work.forward_operations == problems.forward_operations(task, arrays)
        assert work.examples == len(arrays["x_train"])
    assert workload(load_task("digits-resnet18")).statistics_examples == 797
    assert workload(make_task(TEXT)).examples == 66


def test_activations_are_what_autograd_keeps() -> None:
    """A dense layer keeps its input, and ReLU its output, which is the next layer's input: 64 + 32; then the loss's own."""
    problem = load_task("digits-mlp").problem
    assert isinstance(problem, Classification)
    dimension, operations, activations = count(problem, (1, 8, 8), 10)
    assert (dimension, operations) == (2410, 2 * (64 * 32 + 32 * 10))
    assert activations == 64 + 32


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (make_task(WELL), "a quadratic_well; costs are extrapolated for classification and next_character"),
        (
            make_task(BLOBS, {"problem": {"data": {"kind": "arrays", "path": "a.npz", "sha256": "0" * 64}}}),
            "whose shape is not known",
        ),
    ],
)
def test_what_cannot_be_counted_is_refused(task: object, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        workload(task)  # type: ignore[arg-type]


def test_more_workers_take_less_time_until_rounds_are_too_small_for_them() -> None:
    found = {n: extrapolate(SIMPLE, IMAGENET_THRESHOLD, SLOW, n) for n in (1, 8, 64)}
    assert found[1].trainings == found[8].trainings == found[64].trainings
    assert found[1].wall_hours.middle > 4 * found[8].wall_hours.middle
    assert found[64].wall_hours.middle == pytest.approx(found[8].wall_hours.middle), "rounds have 8 trials"
    assert found[1].idle_share.high == pytest.approx(0, abs=1e-9)
    assert found[64].idle_share.low > 0.85
    large = IMAGENET_THRESHOLD.model_copy(update={"trials_per_round": 64})
    wide = extrapolate(SIMPLE, large, SLOW, 64)
    assert wide.wall_hours.middle < found[64].wall_hours.middle
    assert wide.worker_hours.middle > found[64].worker_hours.middle, "and it plans from fewer results"


def test_a_trial_that_does_not_fit_is_refused() -> None:
    tight = Machine("small", 1.0, 1.0, 10.0, 0.0, 0.0, "")
    with pytest.raises(UserError, match="more than small has"):
        extrapolate(SIMPLE, IMAGENET_THRESHOLD, tight, 2)


def test_machines_say_where_their_speed_comes_from() -> None:
    for one in STATED.values():
        assert "data sheet" in one.source
        assert "assumed" in one.source
    here = machine("here")
    assert "measured on one core here" in here.source
    assert 1e8 < here.operations < 1e14
    assert 1e7 < here.bandwidth < 1e13
    with pytest.raises(UserError, match=r"a100.*h100"):
        machine("a1000")


@pytest.mark.slow
def test_the_command_extrapolates_without_data_or_measurement(tmp_path: Path) -> None:
    def run(*options: str) -> str:
        environment = os.environ | {"LOWDIM_BENCH_STATE_DIR": str(tmp_path / "state")}
        command = [*COMMAND, "estimate", "imagenet-resnet50", "cifar10-resnet18", "--device", "a100", *options]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found, _ = json.loads(run("--workers", "64", "--json"))["extrapolations"]
    assert found["workload"]["dimension"] == 25_557_032
    assert found["wall_hours"]["low"] <= found["wall_hours"]["middle"] <= found["wall_hours"]["high"]
    text = run("--workers", "8", "--sweeps", "2", "--trials-per-round", "4")
    assert "cifar10-resnet18 (D = 11,181,642) on 8 x a100, 2 sweep(s) side by side, rounds of 4" in text
    assert "idle" in text
    assert "assumed" in text
