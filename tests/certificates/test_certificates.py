"""Certificates bring back the exact point and subspace of every kind of method, and refuse whatever is not one."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowdim_bench import audit, certificates
from lowdim_bench.certificates import Certificate, name_of, recipes
from lowdim_bench.environment import agree, environment, is_exact
from lowdim_bench.errors import CertificateError
from lowdim_bench.methods import MethodChoice
from lowdim_bench.parametrizations import (
    RANDOM_OPERATORS,
    AffineSubspace,
    Coordinates,
    DenseBasis,
    Operator,
    SharedGaussian,
    SignedHash,
    SubsampledHadamard,
)
from lowdim_bench.problems import Block, Origin
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.specs import Task, canonical_json
from lowdim_bench.trial import run_pack
from tests.problems.small import BLOBS, BLOBS_DIMENSION, make_task, small_problem

TASK = make_task(
    BLOBS,
    {"training": {"steps": 60, "learning_rate": {"value": 0.1}}, "targets": [{"metric": "train_loss", "at_most": 0.9}]},
)
PROBLEM = small_problem(TASK)
CPU = torch.device("cpu")
ORIGIN = Origin((Block("w", "weight", (40,), 0, 40),), torch.ones(40), 5, torch.abs)
CASES = {
    **{kind: ("random_subspace", {"operator": kind}, 30) for kind in RANDOM_OPERATORS},
    "burn_in_subspace": ("burn_in_subspace", {"burn_in_steps": 4}, 30),
    "imp": ("imp", {}, 30),
    "one_shot_magnitude": ("one_shot_magnitude", {"rewind_step": 3}, 30),
    "random_mask": ("random_mask", {}, 50),
    "lottery_subspace": ("lottery_subspace", {"increments": 12, "stride": 1}, 8),
    "dense": ("dense", {}, BLOBS_DIMENSION),
}


def certify(
    name: str, parameters: dict[str, Any], k: int, task: Task = TASK
) -> tuple[TrialResult, bytes | None, dict[str, bytes]]:
    kept: dict[str, bytes] = {}
    method = MethodChoice(name=name, parameters=parameters)
    (result,) = run_pack(small_problem(task), task, method, [Trial(k=k, replicate=3, round=0)], kept.__setitem__)
    return result, kept.get(result.certificate or ""), kept


@pytest.mark.parametrize("case", CASES)
def test_the_point_and_its_subspace_come_back_to_the_bit(case: str) -> None:
    name, parameters, k = CASES[case]
    result, content, _ = certify(name, parameters, k)
    assert content is not None, result
    certificate = Certificate.from_bytes(content)
    claim = certificate.claim
    assert result.certificate == name_of(content)
    subspace = certificate.subspace(PROBLEM)
    metrics = PROBLEM.train_metrics(subspace.map(certificate.theta).unsqueeze(0))
    assert metrics.accuracy is not None
    assert (claim.train_loss, claim.train_accuracy) == (float(metrics.loss[0]), float(metrics.accuracy[0]))
    assert TASK.ranked_target.reached(claim.train_loss)
    assert claim.step == result.outcomes[-1].step == result.curve[-1].step
    assert len(certificate.theta) == claim.operator.k == claim.audit.measured_k == k
    measured = audit.measure(subspace, k, PROBLEM.origin(3, claim.seed), result.preparation)
    assert measured == claim.audit == result.audit
    assert Certificate.from_bytes(certificate.to_bytes()).to_bytes() == content


@pytest.mark.parametrize("case", ["signed_hash", "imp"])
def test_what_the_seed_gives_is_not_stored(case: str) -> None:
    name, parameters, k = CASES[case]
    _, content, _ = certify(name, parameters, k)
    assert content is not None
    stored = set(Certificate.from_bytes(content).tensors)
    assert stored == ({"theta"} if case == "signed_hash" else {"theta", "operator.indices"})


def test_a_trial_run_again_has_the_same_certificate() -> None:
    assert certify(*CASES["imp"])[1] == certify(*CASES["imp"])[1]


def test_only_successes_are_certified() -> None:
    result, content, kept = certify("random_subspace", {}, 1)
    assert not result.reached(TASK.ranked_target.name)
    assert (content, kept, result.certificate) == (None, {}, None)


def test_without_somebody_to_keep_them_none_are_made() -> None:
    (result,) = run_pack(PROBLEM, TASK, MethodChoice(name="imp"), [Trial(k=30, replicate=3, round=0)])
    assert result.reached(TASK.ranked_target.name)
    assert result.certificate is None


def test_of_several_learning_rates_the_best_runs_theta_is_kept() -> None:
    rates = {"value": 0.1, "multipliers": [0.001, 1.0]}
    task = make_task(TASK.model_dump(mode="json"), {"training": {"learning_rate": rates}})
    result, content, kept = certify("random_subspace", {}, 30, task)
    assert content is not None
    assert len(kept) == 1
    claim = Certificate.from_bytes(content).claim
    assert claim.learning_rate == result.learning_rate == 0.1


def test_too_large_a_certificate_is_not_kept_and_the_trial_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LARGEST", 5000)
    result, content, kept = certify("lottery_subspace", {"increments": 12, "stride": 1}, 8)
    assert result.reached(TASK.ranked_target.name)
    assert (content, kept) == (None, {})
    assert "at most 5,000 are kept" in result.uncertified


def altered(operator: Operator, *names: str) -> Operator:
    """An operator that names its seed, and is not what comes from it."""
    for name in names:
        tensor = getattr(operator, name)
        setattr(operator, name, tensor.flip(-1) if tensor.is_floating_point() else tensor ^ 1)
    return operator


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        (altered(DenseBasis.gaussian(3, 40, 5, CPU), "columns"), "dense"),
        (altered(SignedHash(3, 40, 5, CPU), "code"), "signed_hash"),
        (altered(SignedHash.sparse_signs(7, 40, 5, CPU), "code"), "sparse_signs"),
        (Coordinates(torch.arange(4), 40, seed=5), "coordinates"),
    ],
)
def test_a_seed_that_does_not_give_the_operator_is_not_believed(operator: Operator, kind: str) -> None:
    recipe, _, _, tensors = recipes(AffineSubspace(torch.zeros(40), operator), ORIGIN)
    assert (recipe.kind, recipe.seed) == (kind, None)
    again = certificates._operator(recipe, {name[9:]: one for name, one in tensors.items()}, ORIGIN)
    assert isinstance(again, Operator)
    assert torch.equal(again.matrix(), operator.matrix())


@pytest.mark.parametrize("operator", [altered(SubsampledHadamard(3, 40, 5, CPU), "_sign")])
def test_an_altered_operator_that_has_no_tensors_to_be_made_from_is_refused(operator: Operator) -> None:
    with pytest.raises(CertificateError, match="can be made from its seed alone"):
        recipes(AffineSubspace(torch.zeros(40), operator), ORIGIN)


@pytest.mark.parametrize(
    ("offset", "base", "differences"),
    [
        (torch.zeros(40), "zeros", 0),
        (torch.ones(40), "initial", 0),
        (torch.ones(40).index_fill(0, torch.tensor([3, 7]), 5.0), "initial", 2),
        (torch.zeros(40).index_fill(0, torch.tensor([3]), -0.0), "zeros", 1),
        (torch.linspace(2, 3, 40), "stored", 0),
    ],
)
def test_an_offset_takes_as_few_numbers_as_tell_it(offset: torch.Tensor, base: str, differences: int) -> None:
    subspace = AffineSubspace(offset, SharedGaussian(3, 40, 5, CPU))
    _, recipe, start, tensors = recipes(subspace, ORIGIN)
    assert (recipe.base, recipe.differences) == (base, differences)
    assert (start.base, start.differences) == ("zeros", 0)
    of_offset = {name[7:]: one for name, one in tensors.items() if name.startswith("offset.")}
    again = certificates._vector(recipe, of_offset, {"initial": ORIGIN.initial}, 40)
    assert torch.equal(again.view(torch.int32), offset.view(torch.int32))


CONTENT = certify(*CASES["burn_in_subspace"])[1] or b""


def rewritten(**changes: Any) -> bytes:
    """The certificate with other claims."""
    certificate = Certificate.from_bytes(CONTENT)
    said = certificate.claim.model_dump(mode="json") | changes
    return safetensors.torch.save(dict(certificate.tensors), {"certificate": canonical_json(said)})


def with_tensors(**changes: torch.Tensor | None) -> bytes:
    certificate = Certificate.from_bytes(CONTENT)
    tensors = {name: one for name, one in {**certificate.tensors, **changes}.items() if one is not None}
    return safetensors.torch.save(tensors, {"certificate": canonical_json(certificate.claim.model_dump(mode="json"))})


OPERATOR = Certificate.from_bytes(CONTENT).claim.operator.model_dump(mode="json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no safetensors file"),
        (CONTENT[:-1], "no safetensors file"),
        (safetensors.torch.save({"theta": torch.zeros(3)}), "metadata is not one entry"),
        (safetensors.torch.save({}, {"certificate": "{}"}), "what it claims is not valid"),
        (safetensors.torch.save({}, {"certificate": "[" * 5000}), "what it claims is not valid"),
        (rewritten(format=2), "what it claims is not valid"),
        (rewritten(train_loss="NaN"), "what it claims is not valid"),
        (rewritten(surprise=1), "unknown key"),
        (rewritten(trial={"k": 29, "replicate": 3, "round": 0}), "its map takes 30 numbers, its trial has k = 29"),
        (rewritten(offset={"base": "initial", "differences": 0}), "what it claims needs"),
        (rewritten(operator=OPERATOR | {"kind": "hadamard", "seed": None}), "from its seed alone"),
        (with_tensors(theta=torch.zeros(29)), "theta is torch.float32 (29,), not torch.float32 (30,)"),
        (with_tensors(theta=torch.zeros(30, dtype=torch.float64)), "theta is torch.float64"),
        (with_tensors(theta=torch.full((30,), torch.nan)), "theta holds values that are not finite"),
        (with_tensors(extra=torch.zeros(1)), "it holds extra, offset.values, theta"),
    ],
)
def test_what_is_no_certificate_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(CertificateError) as refusal:
        Certificate.from_bytes(content)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (rewritten(operator=OPERATOR | {"kind": "magic"}), "no operator of kind 'magic'"),
        (rewritten(operator=OPERATOR | {"full_dimension": 2**39}, offset={"base": "zeros"}), "its map ends in"),
        (rewritten(start={"base": "initial"}), "theta cannot start at initial weights"),
    ],
)
def test_what_fits_no_problem_is_refused(content: bytes, message: str) -> None:
    try:
        certificate = Certificate.from_bytes(content)
    except CertificateError:  # its tensors are not those of its claim
        certificate = None
    if certificate is None:
        held = {"theta": Certificate.from_bytes(CONTENT).theta}
        claim = json.loads(
            json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]["certificate"]
        )
        certificate = Certificate.from_bytes(safetensors.torch.save(held, {"certificate": canonical_json(claim)}))
    with pytest.raises(CertificateError) as refusal:
        certificate.subspace(PROBLEM)
    assert message in str(refusal.value)


@given(st.data())
def test_a_spoilt_certificate_is_refused_or_read(data: st.DataObject) -> None:
    content = bytearray(CONTENT)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        Certificate.from_bytes(bytes(content)).subspace(PROBLEM)
    except CertificateError:
        return


def test_kernels_that_a_variable_chose_are_another_environment() -> None:
    """With OPENBLAS_CORETYPE set the last bits of losses are others, and an honest run is not to be accused of that."""
    told = (
        "import torch; from lowdim_bench.environment import environment; print(environment(torch.device('cpu')).blas)"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    blas = {
        subprocess.run(
            [sys.executable, "-c", told], env=plain | more, capture_output=True, text=True, check=True
        ).stdout
        for more in ({}, {"OPENBLAS_CORETYPE": "Prescott"}, {"OPENBLAS_L2_SIZE": "256"}, {"OPENBLAS_NUM_THREADS": "1"})
    }
    assert len(blas) == 3


def test_losses_agree_to_the_bit_in_one_environment_and_closely_in_another() -> None:
    here = environment(CPU)
    assert is_exact(here, here)
    assert not is_exact(here.model_copy(update={"cpu": "another"}), here)
    assert not agree(0.1, 0.1 + 1e-16 * 2, exact=True)
    assert agree(0.1, 0.10005, exact=False)
    assert not agree(0.1, 0.1002, exact=False)
    assert not agree(0.1, float("nan"), exact=False)
