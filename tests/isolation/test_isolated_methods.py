"""Methods in processes of their own: the same numbers as at home, whoever dies the others go on, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lowdim_bench import isolation
from lowdim_bench.errors import InfrastructureError
from lowdim_bench.isolation import fences
from lowdim_bench.isolation.host import HOST
from lowdim_bench.isolation.method import IsolatedMethod
from lowdim_bench.isolation.watching import processes
from lowdim_bench.methods import MethodChoice, Setting, Trained, parse_choice
from lowdim_bench.problems import Ledger, MeteredProblem
from lowdim_bench.trial import run_pack
from tests.isolation.code import COUNT, PROBLEM, TASK, inside, prepared, submission, trials
from tests.problems.small import BLOBS_DIMENSION

pytestmark = pytest.mark.slow  # together they take a minute

# What is sound works as at home.

WRAPPED = {
    "imp": submission(
        "return (yield from IterativeMagnitudePruning(rate=0.4, rewind_step=2).prepare(setting))",
        before="from lowdim_bench.methods.imp import IterativeMagnitudePruning",
    ),
    "lottery_subspace": submission(
        "return (yield from LotterySubspace(increments=12, stride=1).prepare(setting))",
        before="from lowdim_bench.methods.lottery_subspace import LotterySubspace",
    ),
    "random_subspace": submission(
        "return RandomSubspace(operator=self.operator).prepare(setting)",
        before="from lowdim_bench.methods.random_subspace import RandomSubspace",
        fields="operator: str = 'auto'",
    ),
}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("imp", "imp,rate=0.4,rewind_step=2"),
        ("lottery_subspace", "lottery_subspace,increments=12,stride=1"),
        *(("random_subspace", f"random_subspace,operator={kind}") for kind in (
            "auto", "signed_hash", "gaussian", "orthonormal", "shared_gaussian", "hadamard", "fastfood"
        )),
    ],
)  # fmt: skip
def test_isolated_and_at_home_give_the_same_bits(name: str, own: str) -> None:
    home = parse_choice(own)
    choice = WRAPPED[name]
    if "operator" in home.parameters:
        choice = choice.model_copy(update={"parameters": home.parameters})
    asked = trials(1, 2, 5, 8, 9, 10, 11, 12)
    inside, outside = (run_pack(PROBLEM, TASK, each, asked) for each in (choice, home))
    assert [result.status for result in inside] == ["trained"] * 8
    for one, other in zip(inside, outside, strict=True):
        assert one.curve == other.curve
        assert one.outcomes == other.outcomes
        assert one.audit == other.audit
        assert one.preparation == other.preparation


@pytest.mark.parametrize(
    ("module", "kind", "fields", "own"),
    [
        ("synflow_mask", "SynflowMask", "", "synflow_mask"),
        ("erk_mask", "ErkMask", "", "erk_mask"),
        ("grasp_mask", "GraspMask", "examples=20", "grasp_mask,examples=20"),
        ("hashed_nets", "HashedNets", "", "hashed_nets"),
    ],
)
def test_named_draws_and_products_with_the_hessian_are_the_same_inside(
    module: str, kind: str, fields: str, own: str
) -> None:
    choice = submission(
        f"return {kind}({fields}).prepare(setting)", before=f"from lowdim_bench.methods.{module} import {kind}"
    )
    _same_inside(choice, own)


def test_a_diet_of_few_examples_is_the_same_inside() -> None:
    choice = submission(
        """
        diet = DataDietImp(subset="hard", size=20, score_runs=2, score_steps=3, pretrain_steps=4, rate=0.5)
        return (yield from diet.prepare(setting))
        """,
        before="from lowdim_bench.methods.data_diet_imp import DataDietImp",
    )
    _same_inside(choice, "data_diet_imp,subset=hard,size=20,score_runs=2,score_steps=3,pretrain_steps=4,rate=0.5")


def _same_inside(choice: MethodChoice, own: str) -> None:
    inside, outside = (run_pack(PROBLEM, TASK, each, trials(5, 9)) for each in (choice, parse_choice(own)))
    for one, other in zip(inside, outside, strict=True):
        assert one.status == "trained", one.reason
        assert (one.curve, one.audit, one.preparation) == (other.curve, other.audit, other.preparation)


def test_a_pack_of_generators_trains_as_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    from lowdim_bench import preparation

    sizes: list[int] = []
    train = preparation.train

    def recorded(problem: Any, some: Any, *rest: Any) -> Any:
        sizes.append(len(some))
        return train(problem, some, *rest)

    monkeypatch.setattr(preparation, "train", recorded)
    items = prepared(WRAPPED["imp"], *[12] * 8)
    assert not any(item.failure for item in items)
    assert set(sizes) == {8}


def test_the_oracle_answers_as_the_problem_does() -> None:
    choice = submission(
        f"""
        COUNT = {COUNT}
        problem, w = setting.problem, setting.initial.unsqueeze(0)
        order = problem.batch_order(16)
        assert order.examples(3).shape == (1, 16) and problem.batch_order(None).examples(3) is None
        loss, gradient = problem.loss_and_gradient(w, order.examples(3))
        whole, _ = problem.loss_and_gradient(w, None)
        metrics = problem.train_metrics(w)
        assert loss.shape == (1,) and metrics.accuracy.dtype == metrics.loss.dtype == torch.float64
        assert abs(float(metrics.loss) - float(whole)) < 1e-4
        assert problem.blocks[-1].stop == setting.full_dimension == len(setting.problem.initial())
        assert setting.full_training.steps == 12 and problem.example_count == COUNT
        start = torch.arange(float(setting.k))
        return AffineSubspace(gradient[0], DenseBasis(torch.eye(setting.k, setting.full_dimension)), start)
        """
    )
    (item,) = prepared(choice, 4)
    assert not item.failure
    metered = item.problem
    _, gradient = PROBLEM.loss_and_gradient(metered.initial().unsqueeze(0), metered.batch_order(16).examples(3))
    assert item.subspace is not None
    assert torch.equal(item.subspace.offset, gradient[0])
    assert torch.equal(item.subspace.start, torch.arange(4.0))
    spent = item.ledger.spent
    assert (spent.gradient_evaluations, spent.evaluations, spent.examples) == (2, 1, 16 + 2 * (COUNT or 0))


def test_kernels_are_compiled_where_nothing_can_be_kept() -> None:
    choice = submission(
        """
        values = numpy.zeros(3)  # of a type that no other process has compiled it for
        exponentials(values, numpy.empty(3, numpy.int32))
        assert values.tolist() == [1, 1, 1]
        return good(setting)
        """,
        before="import numpy\nfrom lowdim_bench.kernels.mlp import exponentials",
    )
    (item,) = prepared(choice, 3)
    assert not item.failure


def test_sloppy_randomness_and_printing_change_nothing() -> None:
    choice = submission(
        """
        print("to", "stdout"); sys.stderr.write("x" * 100_000); os.write(1, b"y" * 100_000)
        noise = torch.randn(setting.full_dimension) + random.random() + numpy.random.rand()
        return AffineSubspace(noise, good(setting).operator)
        """,
        before="import random, numpy",
    )
    (one,), (other,) = prepared(choice, 3), prepared(choice, 3)
    assert one.subspace is not None
    assert other.subspace is not None
    assert torch.equal(one.subspace.offset, other.subspace.offset)


def test_what_a_process_took_is_measured_from_outside() -> None:
    busy = "for _ in range(3): sum(i * i for i in range(10**6))"
    (item,) = prepared(submission("return good(setting)", before=f"{busy}\nballast = bytearray(200 * 2**20)"), 3)
    assert item.usage is not None
    assert item.usage.seconds > 0.1
    assert item.usage.cpu_seconds > 0.1
    assert fences.NAMESPACES in item.usage.fences or fences.LANDLOCK in item.usage.fences


def test_a_submission_describes_itself() -> None:
    choice = submission(
        "return good(setting)",
        before="from helper import SIZE",
        fields="""
        size: int = SIZE
        shape: str = 'round'

        def k_range(self, blocks):
            return self.size, blocks[-1].stop - 1

        def nested(self):
            return True
        """,
        parameters={"size": 5},
        helper="SIZE = 2",
    )
    method = isolation.build(choice)
    assert isinstance(method, IsolatedMethod)
    told = method.describe()
    assert (told.class_name, told.summary, told.source) == ("Mine", "a method of the tests", "the tests")
    assert told.parameters == {"size": 2, "shape": "round"}
    assert told.resolved == {"size": 5, "shape": "round"}
    assert method.nested()
    assert method.k_range(PROBLEM.blocks) == (5, BLOBS_DIMENSION - 1)
    assert "helper" not in sys.modules
    assert "method" not in sys.modules


# Whoever dies, the others go on and nothing stays behind.

TRAINS = "yield Train(AffineSubspace.full_space(setting.initial), 0, 2)\nreturn good(setting)"


def setting() -> Setting:
    """A trial's, without anything that trains."""
    return Setting(MeteredProblem(PROBLEM, [0], [Ledger()]), 3, 1, TASK.full_training)


def test_a_killed_process_fails_its_trial_alone() -> None:
    choice = submission(
        "yield Train(AffineSubspace.full_space(setting.initial), 0, 2)\n"
        "if setting.k == 3: import ctypes; ctypes.string_at(0)\nreturn good(setting)"
    )
    one, two, three = prepared(choice, 2, 3, 4)
    assert "killed by signal 11" in two.failure
    assert one.subspace is not None
    assert three.subspace is not None


@pytest.mark.parametrize("when", ["between trials", "during a preparation"])
def test_a_killed_nursery_is_started_anew(when: str) -> None:
    def kill() -> None:
        assert HOST.nursery_pid is not None
        os.kill(HOST.nursery_pid, signal.SIGKILL)

    if when == "during a preparation":
        running: Any = isolation.build(submission(TRAINS)).prepare(setting())
        wanted = next(running)
        of_trial = inside()
        kill()
        while of_trial & processes().keys():  # the kernel takes a moment
            time.sleep(0.01)
        with pytest.raises(InfrastructureError, match="were ended from outside"):
            running.send(Trained(wanted.subspace.start))
    else:
        kill()
    (item,) = prepared(submission("return good(setting)"), 3)
    assert not item.failure


def test_to_let_go_of_a_preparation_ends_its_process() -> None:
    running: Any = isolation.build(submission("if not os.fork(): time.sleep(60)\n" + TRAINS)).prepare(setting())
    next(running)
    assert len(inside()) == 2
    running.close()
    assert running.usage.cpu_seconds > 0
    assert not inside()


OWNER = """
import os, sys
from lowdim_bench import isolation
from lowdim_bench.isolation.host import HOST
from tests.isolation.code import inside, submission
from tests.isolation.test_isolated_methods import TRAINS, setting
running = isolation.build(submission("if not os.fork(): time.sleep(60)\\n" + TRAINS)).prepare(setting())
next(running)
sys.stdout.write(f"{HOST.nursery_pid} {' '.join(map(str, inside()))}\\n")
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""


def test_a_killed_worker_takes_nursery_and_trials_with_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OWNER], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = {int(pid) for pid in done.stdout.split()}
    assert len(pids) == 3
    deadline = time.monotonic() + 10
    while pids & processes().keys() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not pids & processes().keys()
