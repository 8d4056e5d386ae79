"""Certificates, recomputed: is the point where it is claimed to be, in a subspace of as many dimensions?

Several threads may do it at once. Each loss is worked out by one thread alone, so its bits do not depend on how many there are.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import threading
import time
from dataclasses import dataclass, field

from torch import Tensor

from lowdim_bench import audit
from lowdim_bench.certificates import Certificate
from lowdim_bench.environment import agree, environment, is_exact
from lowdim_bench.errors import AuditFailure, CertificateError
from lowdim_bench.methods import MethodChoice
from lowdim_bench.parametrizations import Parametrization, SharedGaussian
from lowdim_bench.problems import PartMetrics, Problem, measure_parts, together
from lowdim_bench.records import TrialResult
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Task, digest_of
from lowdim_bench.verification.report import Checked, Finding

_CHANCE = random.SystemRandom()
"""Which parts a spot check looks at must not be known to who made the certificate."""
_GROWING = threading.Lock()
"""For the columns that all shared Gaussian bases draw from one generator as more are asked for."""


@dataclass
class Examined:
    """One certificate after its examination. `checked` is None where it could not be read, or its map not be made."""

    result: TrialResult
    findings: list[Finding] = field(default_factory=list)
    checked: Checked | None = None

    def find(self, what: str, detail: str) -> None:
        """Note what is wrong."""
        self.findings.append(Finding(what=what, where=self.result.trial.key, detail=detail))


@dataclass(frozen=True)
class _Looked:
    """A point measured again on some parts of the training set, or on all."""

    claimed: tuple[PartMetrics, ...]
    found: tuple[PartMetrics, ...]
    whole: PartMetrics
    """What all of the training set gives; where only some parts were looked at, what it gives if the claim is as far off on
    the others."""
    of: int
    """How many parts there are."""


def examine(
    content: bytes,
    result: TrialResult,
    task: Task,
    method: MethodChoice,
    method_digest: str,
    problem: Problem,
    sample: float = 1.0,
) -> Examined:
    """Everything that one certificate can be held to: its name, its trial, its map, its loss, its degrees of freedom.

    `sample`: the share of the training set's parts, drawn by chance, on which the loss is worked out again.
    """
    seen = Examined(result)
    found = hashlib.sha256(content).hexdigest()
    if found != result.certificate:
        seen.find(
            "certificate altered", f"its SHA-256 is {found[:16]}..., its trial names {str(result.certificate)[:16]}..."
        )
    try:
        certificate = Certificate.from_bytes(content)
    except CertificateError as error:
        seen.find("certificate unreadable", str(error))
        return seen
    _check_origin(seen, certificate, task, method, method_digest)
    _check_record(seen, certificate, task)
    started = time.thread_time()
    shared = certificate.claim.operator.kind == SharedGaussian.kind
    try:
        with _GROWING if shared else contextlib.nullcontext():
            subspace = certificate.subspace(problem)
            weights = subspace.map(certificate.theta.to(problem.device))
    except CertificateError as error:
        seen.find("map altered", str(error))
        return seen
    looked = _look(certificate, problem, weights, sample)
    passed = time.thread_time()
    exact = _check_loss(seen, certificate, task, looked, problem)
    with _GROWING if shared else contextlib.nullcontext():
        _check_freedom(seen, certificate, subspace, problem)
    loss = looked.whole.loss
    seen.checked = Checked(
        trial=result.trial.key,
        k=result.trial.k,
        claimed_loss=certificate.claim.train_loss,
        found_loss=loss if math.isfinite(loss) else None,
        parts=looked.of,
        parts_looked_at=len(looked.found),
        exact=exact,
        correct=not seen.findings,
        cpu_seconds=passed - started,
        audit_cpu_seconds=time.thread_time() - passed,
        training_seconds=result.seconds if result.cpu_seconds is None else result.cpu_seconds,
    )
    return seen


def _check_origin(
    seen: Examined, certificate: Certificate, task: Task, method: MethodChoice, method_digest: str
) -> None:
    """That it was made for this task, method, code and trial."""
    claim = certificate.claim
    code = None if method.code is None else digest_of(method.code.identity())
    here = (task.digest, method_digest, code)
    if (claim.task_digest, claim.method_digest, claim.code_digest) != here:
        seen.find(
            "certificate of another run",
            f"it was made for task {claim.task_digest}, method {claim.method_digest}; this run is of task {task.digest}, "
            f"method {method_digest}"
            + (f", code {code} (it says {claim.code_digest})" if code != claim.code_digest else ""),
        )
    if claim.trial != seen.result.trial:
        seen.find("certificate of another trial", f"it was made for {claim.trial.key} of round {claim.trial.round}")
    if claim.seed != derive("method", task.name, claim.trial.replicate):
        seen.find("seed altered", f"seed {claim.seed} is not that of replicate {claim.trial.replicate}")


def _check_record(seen: Examined, certificate: Certificate, task: Task) -> None:
    """That the trial's result says what its certificate says."""
    claim, result = certificate.claim, seen.result
    pairs = (
        ("outcomes", claim.outcomes, result.outcomes),
        ("audit", claim.audit, result.audit),
        ("learning rate", claim.learning_rate, result.learning_rate),
        ("preparation", claim.preparation, result.preparation),
        ("target", claim.target, task.ranked_target.name),
        ("step", claim.step, next((one.step for one in result.outcomes if one.target == claim.target), None)),
    )
    for name, certified, recorded in pairs:
        if certified != recorded:
            seen.find(f"{name} altered", f"the certificate says {certified}, the record {recorded}")


def _look(certificate: Certificate, problem: Problem, weights: Tensor, sample: float) -> _Looked:
    """Measure the point again: on parts drawn by chance, on all for a sample of 1, and for certificates without parts."""
    claim, sizes = certificate.claim, problem.part_sizes
    told = PartMetrics(claim.train_loss, claim.train_accuracy)
    if len(claim.parts) != len(sizes):  # an older version's, or another task's
        metrics = problem.train_metrics(weights.unsqueeze(0))
        accuracy = None if metrics.accuracy is None else float(metrics.accuracy[0])
        found = PartMetrics(float(metrics.loss[0]), accuracy)
        return _Looked((told,), (found,), found, 1)
    count = len(sizes)
    which = sorted(_CHANCE.sample(range(count), max(1, math.ceil(sample * count))))
    parts = measure_parts(problem, weights, which)
    claimed = tuple(claim.parts[part] for part in which)
    some = [sizes[part] for part in which]
    found, expected = together(parts, some), together(claimed, some)
    if len(which) < count:
        change = None if found.accuracy is None or expected.accuracy is None else found.accuracy - expected.accuracy
        found = PartMetrics(
            told.loss + found.loss - expected.loss,
            None if told.accuracy is None or change is None else told.accuracy + change,
        )
    return _Looked(claimed, parts, found, count)


def _check_loss(seen: Examined, certificate: Certificate, task: Task, looked: _Looked, problem: Problem) -> bool:
    """That the point has the claimed loss and meets the target. Returns whether the loss had to agree to the last bit."""
    claim, target = certificate.claim, task.ranked_target
    exact = is_exact(claim.environment, environment(problem.device))
    _check_parts(seen, certificate, problem)
    loss, pairs = looked.whole.loss, list(zip(looked.claimed, looked.found, strict=True))
    curve = next((point.train_loss for point in seen.result.curve if point.step == claim.step), None)
    same = all(agree(claimed.loss, found.loss, exact=exact) for claimed, found in pairs)
    # The curve was computed in another pack, so that its last bits may differ.
    as_claimed, as_found = (agree(curve, value, exact=False) for value in (claim.train_loss, loss))
    if not same:
        what = "claimed loss altered" if as_found else _what_moved(certificate) if as_claimed else "certificate altered"
        seen.find(what, f"loss {loss:.6g} where {claim.train_loss:.6g} is claimed")
    elif not as_claimed:
        seen.find("curve altered", f"loss {loss:.6g} at step {claim.step}, where the curve has {curve}")
    elif not all(agree(claimed.accuracy, found.accuracy, exact=exact) for claimed, found in pairs):
        seen.find(
            "claimed accuracy altered", f"accuracy {looked.whole.accuracy} where {claim.train_accuracy} is claimed"
        )
    value = looked.whole.metrics.value(target, 0)
    if not (target.reached(value) or (not exact and agree(target.level, value, exact=False))):
        seen.find("target not reached", f"{target.metric} is {value:.6g}; the target is {target.name}")
    return exact


def _check_parts(seen: Examined, certificate: Certificate, problem: Problem) -> None:
    """That what is claimed of the whole training set is what is claimed of its parts."""
    claim, sizes = certificate.claim, problem.part_sizes
    if not claim.parts:
        return
    if len(claim.parts) != len(sizes):
        seen.find("claimed loss altered", f"it is of {len(claim.parts)} parts; the training set has {len(sizes)}")
        return
    whole = together(claim.parts, sizes)
    if whole.loss != claim.train_loss:
        seen.find("claimed loss altered", f"its parts make {whole.loss:.6g} where {claim.train_loss:.6g} is claimed")
    if whole.accuracy != claim.train_accuracy:
        seen.find(
            "claimed accuracy altered", f"its parts make {whole.accuracy} where {claim.train_accuracy} is claimed"
        )


def _what_moved(certificate: Certificate) -> str:
    """What may have been altered where the loss is not that of the training: theta, or whatever else the seed does not give."""
    claim = certificate.claim
    own = ["theta"]
    if claim.operator.kind != "full_space" and claim.operator.seed != claim.seed:
        own.append("operator")
    if any(name.startswith("offset.") for name in certificate.tensors):
        own.append("offset")
    return " or ".join(own) + " altered"


def _check_freedom(seen: Examined, certificate: Certificate, subspace: Parametrization, problem: Problem) -> None:
    """That the map has the claimed rank and side information, measured again."""
    claim = certificate.claim
    replicate = claim.trial.replicate
    origin = problem.origin(replicate, derive("method", problem.task.name, replicate))
    try:
        measured = audit.measure(subspace, claim.operator.k, origin, claim.preparation)
    except AuditFailure as failure:
        seen.find("degrees of freedom", str(failure))
        return
    active, away = claim.audit.active_k, int(certificate.theta.count_nonzero())
    if active is not None and not away <= active <= measured.measured_k:
        seen.find(
            "audit altered", f"{away} of {measured.measured_k} weights are away from their base, {active} are claimed"
        )
    # How many were away at once before the end is the training's own record; the rest is measured again.
    bits = {"side_information_bits": claim.audit.side_information_bits, "active_k": active}
    close = math.isclose(measured.side_information_bits, claim.audit.side_information_bits, rel_tol=1e-9, abs_tol=1e-9)
    if not close or measured.model_copy(update=bits) != claim.audit:
        seen.find("audit altered", f"measured again it is {measured}, claimed is {claim.audit}")
