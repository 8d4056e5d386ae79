"""Certificates of maps that are not affine: made again from a seed and a few options, and recomputed by `verify`."""

from __future__ import annotations

from typing import Any

import pytest

from lowdim_bench import audit
from lowdim_bench.certificates import Certificate, name_of
from lowdim_bench.errors import CertificateError
from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.specs import Task
from lowdim_bench.trial import run_pack
from lowdim_bench.verification.evidence import examine
from lowdim_bench.verification.precision import coarsest
from tests.problems.small import BLOBS, make_task, small_problem

RECIPE = {
    "training": {"steps": 60, "learning_rate": {"value": 0.1}},
    "targets": [{"metric": "train_loss", "at_most": 0.9}],
}
TASK = make_task(BLOBS, {**RECIPE, "track": "open"})
PROBLEM = small_problem(TASK)
CASES: dict[str, dict[str, Any]] = {
    "lora": {},
    "low_rank": {},
    "nola": {"rank": 2},
    "said": {"operator": "sparse_signs"},
    "tensor_train": {"cores": 2},
    "vera": {},
}
K = 24


def certify(name: str, task: Task = TASK) -> tuple[TrialResult, bytes]:
    kept: dict[str, bytes] = {}
    method = MethodChoice(name=name, parameters=CASES[name])
    (result,) = run_pack(PROBLEM, task, method, [Trial(k=K, replicate=3, round=0)], kept.__setitem__)
    assert result.certificate is not None, result
    return result, kept[result.certificate]


@pytest.mark.parametrize("name", CASES)
def test_theta_alone_is_stored_and_brings_the_point_back_to_the_bit(name: str) -> None:
    result, content = certify(name)
    certificate = Certificate.from_bytes(content)
    assert certificate.tensors.keys() == {"theta"}
    assert certificate.claim.operator.options == CASES[name]
    subspace = certificate.subspace(PROBLEM)
    metrics = PROBLEM.train_metrics(subspace.map(certificate.theta).unsqueeze(0))
    assert certificate.claim.train_loss == float(metrics.loss[0])
    measured = audit.measure(subspace, K, PROBLEM.origin(3, certificate.claim.seed), result.preparation)
    assert measured == result.audit
    assert (measured.track, measured.affine, measured.side_information_bits) == ("open", False, 0)
    assert Certificate.from_bytes(certificate.to_bytes()).to_bytes() == content


@pytest.mark.parametrize("name", CASES)
def test_verification_recomputes_them_and_finds_nothing(name: str) -> None:
    result, content = certify(name)
    method = MethodChoice(name=name, parameters=CASES[name])
    seen = examine(content, result, TASK, method, method.method_digest, PROBLEM)
    assert [finding.what for finding in seen.findings] == []
    certificate = Certificate.from_bytes(content)
    coarse = coarsest(PROBLEM, certificate.subspace(PROBLEM), certificate.theta, TASK.ranked_target, "one")
    assert coarse.bits_per_number is not None
    assert coarse.bits_per_number < 24


def test_altered_options_and_altered_numbers_are_found() -> None:
    result, content = certify("nola")
    method = MethodChoice(name="nola", parameters=CASES["nola"])
    certificate = Certificate.from_bytes(content)
    recipe = certificate.claim.operator.model_copy(update={"options": {"rank": 3}})
    claim = certificate.claim.model_copy(update={"operator": recipe})
    moved = {"theta": certificate.theta + 0.5}
    for forged, what in (
        (Certificate(claim, certificate.tensors), "theta altered"),
        (Certificate(certificate.claim, moved), "theta altered"),
    ):
        bytes_ = forged.to_bytes()
        renamed = result.model_copy(update={"certificate": name_of(bytes_)})
        found = [
            finding.what for finding in examine(bytes_, renamed, TASK, method, method.method_digest, PROBLEM).findings
        ]
        assert what in found


@pytest.mark.parametrize("options", [{}, {"rank": 0}, {"rank": "all"}, {"rank": 2, "more": 1}])
def test_recipes_that_make_no_map_are_refused(options: dict[str, Any]) -> None:
    certificate = Certificate.from_bytes(certify("nola")[1])
    recipe = certificate.claim.operator.model_copy(update={"options": options})
    forged = Certificate(certificate.claim.model_copy(update={"operator": recipe}), certificate.tensors)
    with pytest.raises(CertificateError, match="its operator cannot be made"):
        Certificate.from_bytes(forged.to_bytes()).subspace(PROBLEM)


@pytest.mark.parametrize("track", ["cold", "prepared"])
def test_only_an_open_task_takes_them(track: str) -> None:
    task = make_task(BLOBS, {**RECIPE, "track": track})
    (result,) = run_pack(small_problem(task), task, MethodChoice(name="lora"), [Trial(k=K, replicate=3, round=0)])
    assert result.status == "failed"
    assert result.reason == f"its map is not affine (track 'open'); task blobs admits no more than track '{track}'"
