"""Everything together, on trainings of milliseconds, and as a command."""

from __future__ import annotations

import json
import math
import os
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from lowdim_bench import problems
from lowdim_bench.cli.landscape import _without_nan
from lowdim_bench.errors import UserError
from lowdim_bench.landscape import Diagnosis, diagnose, kernel_distance, tangent_kernel, widened
from lowdim_bench.landscape.training import full_training
from lowdim_bench.problems.classification import ClassificationProblem
from lowdim_bench.problems.pixel_labelling import PixelProblem
from tests.cli.conftest import COMMAND
from tests.problems.small import (
    ARENAS,
    BLOBS,
    PIXELS,
    QUADRATIC,
    WELL,
    blobs,
    make_task,
    merged,
    small_images,
    small_problem,
)


def named(found: Diagnosis, name: str) -> tuple[float, ...]:
    (one,) = [finding for finding in found.findings if finding.name == name]
    return one.values


def ways(found: Diagnosis, kind: str) -> list[tuple[float, ...]]:
    """Losses on all ways of a kind; each once, whichever diagnostics looked at it."""
    return list(dict.fromkeys(way.losses for _, way in found.ways if way.kind == kind))


def barrier(losses: tuple[float, ...]) -> float:
    """The most by which losses at evenly spaced positions lie above the chord."""
    last = len(losses) - 1
    return max(loss - losses[0] - place / last * (losses[-1] - losses[0]) for place, loss in enumerate(losses))


DIAGNOSTICS = (
    "linear interpolation",
    "averaged iterates",
    "convexity",
    "random planes",
    "embedding principle",
    "duplicate neurons",
    "kernels",
    "linear mode connectivity",
    "permutation alignment",
    "curve connectivity",
    "string of beads",
    "ensemble disagreement",
    "n-wedge connectors",
    "transient chaos",
)


def test_full_training_keeps_what_it_passes() -> None:
    task = make_task(BLOBS, {"full_training": {"steps": 45}})
    problem = small_problem(task)
    found = full_training(task, problem, [0, 1])
    assert found.steps[0] == 0
    assert found.steps[-1] == 45
    assert found.passed.shape == (2, len(found.steps), 53)
    assert torch.equal(found.starts[1], problem.initial(1))
    shorter = full_training(make_task(BLOBS, {"full_training": {"steps": found.steps[3]}}), problem, [1])
    assert torch.equal(shorter.ends[0], found.passed[1, 3])


def test_a_network_gets_every_diagnostic() -> None:
    task = make_task(BLOBS)
    wider = widened(task)
    assert wider is not None
    steps: list[tuple[int, int]] = []
    found = diagnose(
        task, small_problem(task), problems.build(wider, blobs()), range(3), lambda *step: steps.append(step)
    )
    assert found.dimension == 53
    assert steps[-1][0] == steps[-1][1] == len(steps)
    assert {finding.of: len(finding.values) for finding in found.findings} == {
        "replicate": 3,
        "pair": 1,
        "group": 1,
        "task": 1,
    }
    assert {finding.diagnostic for finding in found.findings} == set(DIAGNOSTICS)
    (straight,), (aligned,) = ways(found, "between two w_T"), ways(found, "between them, aligned")
    assert named(found, "loss barrier") == pytest.approx((barrier(straight),))
    assert named(found, "loss barrier after alignment") == pytest.approx((barrier(aligned),))
    from_start = ways(found, "from w_0 to w_T")
    assert found.start_losses == pytest.approx([losses[0] for losses in from_start], rel=1e-6)
    assert found.end_losses == pytest.approx([losses[-1] for losses in from_start], rel=1e-6)
    assert len(ways(found, "trained Bezier curve")) == len(ways(found, "string of beads")) == 1
    spokes = ways(found, "from the trained hub to w_T")
    assert [losses[0] for losses in spokes] == pytest.approx(
        3 * list(named(found, "loss at the trained hub")), rel=1e-6
    )
    assert [losses[-1] for losses in spokes] == pytest.approx(found.end_losses, rel=1e-6)
    assert max(named(found, "loss change of alignment (rounding)")) < 1e-5
    assert max(named(found, "loss change of splitting a neuron")) < 1e-5
    assert named(found, "chi_1 at initialization") == pytest.approx((0.5,))


def test_no_replicate_is_in_two_pairs_or_groups() -> None:
    task = make_task(WELL)
    found = diagnose(task, small_problem(task), None, range(7))
    pairs = dict.fromkeys(way.name for diagnostic, way in found.ways if diagnostic == "linear mode connectivity")
    assert list(pairs) == ["0, 1", "2, 3", "4, 5"], "the last one has no partner"
    groups = dict.fromkeys(way.name for diagnostic, way in found.ways if diagnostic == "n-wedge connectors")
    assert list(groups) == ["0, 1, 2", "3, 4, 5"]


def test_a_kernel_s_velocity_is_its_distance_a_step() -> None:
    """Of a linear model the kernel does not move at all."""
    task = make_task(BLOBS, {"full_training": {"steps": 45}})
    problem = small_problem(task)
    assert isinstance(problem, ClassificationProblem)
    found, passed = diagnose(task, problem, None, [0, 1]), full_training(task, problem, [0, 1])
    steps = [0, 2, 4, 8, 16, 44, 45]
    velocities = [one for one in found.findings if one.series == "kernel velocity a step"]
    assert [one.x for one in velocities] == [(a + b) / 2 for a, b in pairwise(steps)]
    for row in (0, 1):
        kernels = {step: tangent_kernel(problem, passed.passed[row, passed.steps.index(step)], 100) for step in steps}
        at_first, at_last = (
            named(found, f"kernel velocity a step, from {name}")[row] for name in ("0 to 2", "44 to 45")
        )
        assert at_first == pytest.approx(kernel_distance(kernels[0], kernels[2]) / 2)
        assert at_last == pytest.approx(kernel_distance(kernels[44], kernels[45]))
        moved = kernel_distance(kernels[0], kernels[45])
        assert named(found, "kernel distance from w_0 to w_T")[row] == pytest.approx(moved)
    linear = make_task(merged(BLOBS, {"problem": {"network": {"hidden": []}}}))
    still = diagnose(linear, small_problem(linear), None, [0, 1])
    kept = [one for one in still.findings if one.diagnostic == "kernels"]
    assert len(kept) == 12
    assert all(value == pytest.approx(0, abs=1e-12) for one in kept for value in one.values)


@pytest.mark.slow
def test_a_residual_network_gets_what_it_can_have() -> None:
    network = {"kind": "resnet", "blocks_per_group": 1, "widths": [2, 2, 2], "norm_groups": 1}
    task = make_task(merged(BLOBS, {"problem": {"network": network}, "full_training": {"steps": 3}}))
    found = diagnose(task, problems.build(task, small_images(train=20, test=10)), None, [0, 1])
    names = {finding.name for finding in found.findings}
    assert {"loss barrier", "kernel distance from w_0 to w_T", "disagreement on the test set"} <= names
    assert not any("alignment" in name or "neuron" in name or "chi_1" in name for name in names)


@pytest.mark.parametrize("normalization", [None, {"kind": "batch"}], ids=["plain", "batch normalization"])
def test_a_convolutional_network_gets_every_diagnostic(normalization: dict[str, Any] | None) -> None:
    network = {"kind": "convnet", "channels": [3], "normalization": normalization}
    task = make_task(merged(BLOBS, {"problem": {"network": network}, "full_training": {"steps": 8}}))
    wider, images = widened(task), small_images(train=20, test=10)
    assert wider is not None
    found = diagnose(task, problems.build(task, images), problems.build(wider, images), [0, 1])
    perceptron = make_task(BLOBS, {"full_training": {"steps": 8}})
    wider = widened(perceptron)
    assert wider is not None
    same = diagnose(perceptron, small_problem(perceptron), problems.build(wider, blobs()), [0, 1])
    assert [finding.name for finding in found.findings] == [finding.name for finding in same.findings]
    assert max(named(found, "loss change of alignment (rounding)")) < 1e-5
    assert max(named(found, "loss change of splitting a neuron")) < 1e-5
    chi_1 = 0.5 if normalization is None else math.pi / (math.pi - 1)
    assert named(found, "chi_1 at initialization") == pytest.approx((chi_1,))


@pytest.mark.parametrize("base", [WELL, QUADRATIC, PIXELS], ids=lambda base: base["name"])
def test_other_problems_too(base: dict[str, Any]) -> None:
    task = make_task(base)
    wider = widened(task)
    found = diagnose(task, small_problem(task), None if wider is None else small_problem(wider), [0, 1])
    assert (wider is not None) == any("splitting" in finding.name for finding in found.findings)
    if base is WELL:
        assert named(found, "loss barrier") == (0.0,), "a well is convex"
        assert named(found, "positive eigenvalues in a random 10-plane at w_0") == (1.0, 1.0)


def test_what_cannot_be_diagnosed_is_refused() -> None:
    task = make_task(BLOBS)
    with pytest.raises(UserError, match="at least 2 replicates; got 1"):
        diagnose(task, small_problem(task), None, [0])
    wild = make_task(WELL, {"full_training": {"learning_rate": {"value": 1e30}}})
    with pytest.raises(UserError, match=r"not finite, in replicates \[0, 1\]"):
        diagnose(wild, small_problem(wild), None, [0, 1])


def test_networks_that_label_pixels_are_told_their_errors_by_path_length_beside_the_engineered_ones() -> None:
    task = make_task(PIXELS, {"problem": {"network": {"steps": 2}}})
    one = small_problem(task)
    assert isinstance(one, PixelProblem)
    found = diagnose(task, one, None, range(6), errors_only=True)
    assert {finding.diagnostic for finding in found.findings} == {"label errors"}
    ends = full_training(task, one, range(6)).ends
    errors = [one.test_errors(weights) for weights in ends]
    known = one.train_metrics(ends).accuracy
    assert known is not None
    assert named(found, "error on training data, 1 - train_accuracy") == pytest.approx((1 - known).tolist())
    assert named(found, "test images with a wrong label") == tuple(one.whole_images for one in errors)
    assert named(found, "path error") == tuple(one.path for one in errors)
    assert named(found, "distractor error") == tuple(one.distractor for one in errors)
    for length in (1, 2, 3):
        missed = named(found, f"share of test images with a wrong label, path length {length}")
        assert missed == tuple(one.by_path_length[length] for one in errors)
        # Two steps solve what is two pixels long (Larsen & Druckmann 2022).
        engineered = f"engineered solution of 2 steps: share of test images with a wrong label, path length {length}"
        assert named(found, engineered) == (float(length > 2),)
    assert {finding.of: finding.interval is None for finding in found.findings} == {
        "replicate": False,
        "reference": True,
    }


def test_a_network_that_is_no_grid_is_compared_with_one_of_as_many_steps_as_the_longest_path() -> None:
    feed_forward = {"kind": "pixel_feed_forward", "layers": 2}
    for base, network in ((PIXELS, feed_forward), (ARENAS, feed_forward), (ARENAS, {})):
        task = make_task(base, {"problem": {"network": network}})
        found = diagnose(task, small_problem(task), None, range(2), errors_only=True)
        steps = 3 if base is PIXELS else 2
        assert named(found, f"engineered solution of {steps} steps: test images with a wrong label") == (0.0,)


def test_what_labels_no_pixels_has_no_errors_by_path_length() -> None:
    task = make_task(QUADRATIC)
    with pytest.raises(UserError, match="labels no pixels"):
        diagnose(task, small_problem(task), None, range(2), errors_only=True)


def test_json_knows_no_nan() -> None:
    assert _without_nan({"a": (1.0, math.nan), "b": [{"c": -math.inf, "d": None}]}) == {
        "a": [1.0, None],
        "b": [{"c": None, "d": None}],
    }


@pytest.mark.slow
def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(json.dumps(QUADRATIC))

    def run(*options: str) -> str:
        environment = os.environ | {"LOWDIM_BENCH_STATE_DIR": str(tmp_path / "state")}
        command = [*COMMAND, "diagnose", "small.yaml", *options]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    text = run()
    assert "small-quadratic (D = 15)" in text
    assert "loss barrier after alignment" in text
    assert "1 (pair)" in text
    assert "6 replicates, for pairs 12" in text
    plain = json.loads(run("--json", "--replicates", "6", "--figures", "made"))
    assert plain["replicates"] == list(range(6))
    by = {one["name"]: one for one in plain["findings"]}
    found, of_pairs = by["distance |w_T - w_0|"], by["loss barrier"]
    assert (found["n"], found["of"]) == (6, "replicate")
    assert found["interval"] == found["range"] == [min(found["values"]), max(found["values"])]
    assert (of_pairs["n"], of_pairs["of"], of_pairs["interval"]) == (3, "pair", None)
    made = {path.name for path in (tmp_path / "made").iterdir()}
    diagnostics = {one["diagnostic"] for one in plain["findings"]}
    names = [f"small-quadratic-{name.replace(' ', '-')}" for name in diagnostics]
    assert made == {f"{name}.{kind}" for name in names for kind in ("svg", "png", "csv")}
    drawn = (tmp_path / "made" / "small-quadratic-permutation-alignment.svg").read_text()
    assert "between them, aligned" in drawn
    assert "loss barrier after alignment" in drawn


@pytest.mark.slow
def test_the_command_prints_and_draws_errors_by_path_length(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(json.dumps(PIXELS))
    environment = os.environ | {"LOWDIM_BENCH_STATE_DIR": str(tmp_path / "state")}
    options = ("--errors-only", "--replicates", "6", "--figures", "made")
    command = [*COMMAND, "diagnose", "small.yaml", *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for said in (
        "path length 3",
        "path error",
        "distractor error",
        "6 (replicate)",
        "not trained",
        "engineered solution",
    ):
        assert said in done.stdout
    assert "loss barrier" not in done.stdout
    drawn = (tmp_path / "made" / "small-pixels-label-errors.svg").read_text()
    assert "path length of the image" in drawn
    assert "engineered solution of 3 steps" in drawn
