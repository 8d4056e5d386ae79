"""Run a pack of trials: prepare, audit, train, evaluate. Runs on a worker, touches no file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from lowdim_bench import audit, certificates, futility, isolation
from lowdim_bench.certificates import Certificate, Claim
from lowdim_bench.engine import Span, train
from lowdim_bench.environment import environment
from lowdim_bench.errors import AuditFailure, CertificateError, MethodFailure
from lowdim_bench.methods import MethodChoice
from lowdim_bench.parametrizations import Coordinates, FullSpace, Pack, Parametrization, Standing
from lowdim_bench.preparation import Prepared, prepare_pack
from lowdim_bench.problems import (
    BatchOrder,
    Ledger,
    MeteredProblem,
    Metrics,
    PartMetrics,
    Problem,
    measure_parts,
    together,
)
from lowdim_bench.records import Audit, CurvePoint, FutilityCall, Outcome, Trial, TrialResult
from lowdim_bench.specs import TRACKS, Task, digest_of
from lowdim_bench.specs.task import AlternatingLeastSquares

Keep = Callable[[str, bytes], None]
"""Is given every certificate: its SHA-256 and its content."""


@dataclass(frozen=True)
class _Success:
    """What confirmed that the ranked target was reached: theta (k,), and the metrics that were computed from it alone."""

    step: int
    theta: Tensor
    parts: tuple[PartMetrics, ...]
    """Loss and accuracy on each part of the training set."""
    whole: PartMetrics
    """And on all of it."""


@dataclass
class _Run:
    """One scored training: a trial at one of the task's learning-rate multipliers."""

    trial: Trial
    subspace: Parametrization
    rate: float
    ledger: Ledger
    cold: bool
    """Whether its method saw no data. The curve of a warm start, from its own step 0, is no power law: it is never given up."""
    curve: list[CurvePoint] = field(default_factory=list)
    reached_at: dict[str, int] = field(default_factory=dict)
    unconfirmed: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    diverged: bool = False
    futile: tuple[str, int] | None = None
    """The target, by name, that was called out of reach first, and at which step."""
    test_accuracy: float | None = None
    success: _Success | None = None
    stands: Standing | None = None
    """Where it was when last looked at."""


def run_pack(
    problem: Problem, task: Task, method: MethodChoice, trials: Sequence[Trial], keep: Keep | None = None
) -> list[TrialResult]:
    """Results of the trials, in their order. What a method does wrong becomes a result with status "failed".

    Without `keep` no certificates are made, and the results name none.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    prepared = prepare_pack(problem, task, isolation.build(method), trials)
    audits: dict[str, Audit] = {}
    runs: list[_Run] = []
    for item in prepared:
        if item.diverged:
            continue
        try:
            audits[item.trial.key] = _audit(item, problem, task)
        except MethodFailure as failure:
            item.failure = str(failure)
            continue
        assert item.subspace is not None
        for multiplier in task.training.learning_rate.multipliers:
            rate = task.training.learning_rate.at(item.trial.k) * multiplier
            cold = audits[item.trial.key].track == "cold"
            runs.append(_Run(item.trial, item.subspace, rate, Ledger(), cold))
    moved: dict[str, str] = {}
    for kind in {type(run.subspace.operator): None for run in runs}:  # only maps of one kind can be trained as one pack
        moved |= _train_and_score(problem, task, [run for run in runs if type(run.subspace.operator) is kind])
    seconds = (time.perf_counter() - started) / len(trials)
    cpu_seconds = (time.process_time() - cpu_started) / len(trials)
    results: list[TrialResult] = []
    for item in prepared:
        own = [run for run in runs if run.trial == item.trial]
        if own and item.trial.key not in moved:
            try:
                audits[item.trial.key] = _audit_trained(item, own, audits[item.trial.key], problem, task)
            except MethodFailure as failure:
                moved[item.trial.key] = str(failure)
        result = _result(item, audits, own, moved, task, seconds).model_copy(update={"cpu_seconds": cpu_seconds})
        if keep is not None and result.reached(task.ranked_target.name):
            result = _certify(result, _best(own, task), item.seed, problem, task, method, keep)
        results.append(result)
    return results


def _audit(item: Prepared, problem: Problem, task: Task) -> Audit:
    if item.failure:
        raise MethodFailure(item.failure)
    assert item.subspace is not None
    spent = item.ledger.spent
    origin = problem.origin(item.trial.replicate, item.seed)
    measured = audit.measure(item.subspace, item.trial.k, origin, spent)
    _check_blocks(item.subspace, task)
    if TRACKS.index(measured.track) > TRACKS.index(task.track):
        reason = "the method saw data before its k-dimensional training" if measured.affine else "its map is not affine"
        raise AuditFailure(
            f"{reason} (track '{measured.track}'); task {task.name} admits no more than track '{task.track}'"
        )
    return measured


def _audit_trained(item: Prepared, runs: Sequence[_Run], before: Audit, problem: Problem, task: Task) -> Audit:
    """The trial's audit after training. The dense gradients that chose what a mask moved to are charged as preparation, though
    training took them too: what they told is no part of the k numbers."""
    order = BatchOrder(problem, [item.trial.replicate], task.training.batch_size)
    for run in runs:
        assert run.stands is not None
        for step in run.stands.movement.looks if run.stands.movement else ():
            examples = order.examples(step)
            seen = problem.example_count or 0 if examples is None else examples.shape[1]
            item.ledger.charge_gradients(1, seen, None if examples is None else examples[0])
    standing, origin = _best(runs, task).stands, problem.origin(item.trial.replicate, item.seed)
    assert standing is not None
    return audit.measure_trained(standing, item.trial.k, origin, item.ledger.spent, before)


def _check_blocks(subspace: Parametrization, task: Task) -> None:
    """That least squares can solve for what a method prepared, where the task trains by least squares, and only there."""
    solves = isinstance(task.training.optimizer, AlternatingLeastSquares)
    if solves and not isinstance(subspace.operator, Coordinates | FullSpace):
        raise AuditFailure(
            f"task {task.name} trains by alternating least squares, which solves for some of the weights themselves; the "
            f"method prepared a {type(subspace.operator).__name__}, which mixes them"
        )
    if subspace.rows is not None and not solves:
        raise AuditFailure(f"the method chooses rows of least-squares problems; task {task.name} trains by gradients")


def _train_and_score(problem: Problem, task: Task, runs: Sequence[_Run]) -> Mapping[str, str]:
    """Train all runs as one pack; returns the audit failures found afterwards, by trial key."""
    before = {run.trial.key: run.subspace.fingerprint() for run in runs}
    metered = MeteredProblem(problem, [run.trial.replicate for run in runs], [run.ledger for run in runs])
    observer = _Scorer(problem, task, runs)
    subspaces = [run.subspace for run in runs]
    span = Span(0, task.training.steps)
    train(metered, subspaces, task.training, [run.rate for run in runs], span, observer)
    moved: dict[str, str] = {}
    for run in runs:
        assert run.stands is not None  # the last step is always looked at
        weights = run.stands.parametrization.map(run.stands.theta)
        accuracy = None if run.diverged else problem.test_accuracy(weights.unsqueeze(0))
        run.test_accuracy = None if accuracy is None else float(accuracy[0])
        try:
            audit.check_unmoved(run.subspace, before[run.trial.key])
        except AuditFailure as failure:
            moved[run.trial.key] = str(failure)
    return moved


class _Scorer:
    """Decides success: a target counts as reached at the first scheduled evaluation that a second one, made from the
    float32 theta alone, confirms. A run ends when its hardest target is reached, when it is no longer finite, or when the
    task's rule calls its next target out of reach; unless it is one of those that run on to audit that rule."""

    def __init__(self, problem: Problem, task: Task, runs: Sequence[_Run]) -> None:
        self.every = task.training.evaluate_every
        self._problem, self._task, self._runs = problem, task, runs

    def __call__(self, step: int, rows: Sequence[int], theta: Tensor, pack: Pack) -> list[bool]:
        metrics = self._problem.train_metrics(pack.map(theta))
        runs = [self._runs[row] for row in rows]
        for run, standing in zip(runs, pack.stands([run.subspace for run in runs], theta), strict=True):
            run.stands = standing
        return [self._look(step, run, metrics, place) for place, run in enumerate(runs)]

    def _look(self, step: int, run: _Run, metrics: Metrics, place: int) -> bool:
        loss = float(metrics.loss[place])
        accuracy = None if metrics.accuracy is None else float(metrics.accuracy[place])
        run.ledger.charge_evaluation(self._problem.example_count or 0)
        run.steps = step
        run.curve.append(
            CurvePoint(step=step, train_loss=loss if math.isfinite(loss) else None, train_accuracy=accuracy)
        )
        if not math.isfinite(loss):
            run.diverged = True
            return False
        crossed = [
            target
            for target in self._task.targets
            if target.name not in run.reached_at and target.reached(metrics.value(target, place))
        ]
        if crossed:
            assert run.stands is not None
            alone = run.stands.theta.clone()
            sizes = self._problem.part_sizes
            parts = measure_parts(self._problem, run.stands.parametrization.map(alone), range(len(sizes)))
            own = together(parts, sizes)
            for target in crossed:
                if target.reached(own.metrics.value(target, 0)):
                    run.reached_at[target.name] = step
                    if target == self._task.ranked_target:
                        run.success = _Success(step, alone.cpu(), parts, own)
                else:
                    run.unconfirmed[target.name] = run.unconfirmed.get(target.name, 0) + 1
        return self._task.ranked_target.name not in run.reached_at and not self._given_up(step, run)

    def _given_up(self, step: int, run: _Run) -> bool:
        """Judged by the easiest target that is still to be reached: the harder ones are out of reach with it, and no target
        loses a success that another one's futility would have cost."""
        rule, chance = self._task.futility, self._problem.chance_loss
        if rule is None or chance is None or run.futile or not run.cold:
            return False
        target = next(target for target in self._task.targets if target.name not in run.reached_at)
        if not futility.out_of_reach(rule, run.curve, target.level, chance, self._task.training.steps):
            return False
        run.futile = target.name, step
        return not futility.runs_on(rule, self._task.name, run.trial.replicate)


def _result(
    item: Prepared,
    audits: Mapping[str, Audit],
    runs: Sequence[_Run],
    moved: Mapping[str, str],
    task: Task,
    seconds: float,
) -> TrialResult:
    failure = item.failure or moved.get(item.trial.key, "")
    if failure:
        return TrialResult(
            trial=item.trial,
            status="failed",
            reason=failure,
            preparation=item.ledger.spent,
            seconds=seconds,
            submitted_code=item.usage,
        )
    if item.diverged:
        return TrialResult(
            trial=item.trial,
            status="diverged",
            reason="full-space training in preparation was not finite",
            outcomes=tuple(Outcome(target=target.name, reached=False) for target in task.targets),
            preparation=item.ledger.spent,
            seconds=seconds,
            submitted_code=item.usage,
        )
    best = _best(runs, task)
    status: Literal["trained", "diverged"] = "diverged" if all(_exploded(run, task) for run in runs) else "trained"
    spent = [run.ledger.spent for run in runs]
    total = spent[0].model_copy(
        update={name: sum(getattr(part, name) for part in spent) for name in type(spent[0]).model_fields}
    )
    return TrialResult(
        trial=item.trial,
        status=status,
        reason="the training loss was not finite, or enormous" if status == "diverged" else "",
        outcomes=tuple(_outcome(target.name, runs) for target in task.targets),
        audit=audits[item.trial.key],
        preparation=item.ledger.spent,
        training=total,
        learning_rate=best.rate,
        trained_steps=sum(run.steps for run in runs),
        test_accuracy=best.test_accuracy,
        curve=tuple(best.curve),
        futility=tuple(_call(run.futile, run, task) for run in runs if run.futile),
        seconds=seconds,
        submitted_code=item.usage,
    )


def _certify(
    result: TrialResult, run: _Run, seed: int, problem: Problem, task: Task, method: MethodChoice, keep: Keep
) -> TrialResult:
    """The result with the name of its certificate, which is handed over; or with the reason why there is none."""
    success = run.success
    assert success is not None
    assert result.audit is not None
    assert run.stands is not None
    try:
        operator, offset, start, tensors = certificates.recipes(
            run.stands.parametrization, problem.origin(run.trial.replicate, seed)
        )
        tensors["theta"] = success.theta
        claim = Claim(
            task_digest=task.digest,
            method_digest=method.method_digest,
            code_digest=None if method.code is None else digest_of(method.code.identity()),
            trial=run.trial,
            seed=seed,
            target=task.ranked_target.name,
            step=success.step,
            learning_rate=run.rate,
            operator=operator,
            offset=offset,
            start=start,
            train_loss=success.whole.loss,
            train_accuracy=success.whole.accuracy,
            parts=success.parts,
            outcomes=result.outcomes,
            audit=result.audit,
            preparation=result.preparation,
            environment=environment(problem.device),
        )
        content = Certificate(claim, tensors).to_bytes()
    except CertificateError as error:
        return result.model_copy(update={"uncertified": str(error)})
    name = certificates.name_of(content)
    keep(name, content)
    return result.model_copy(update={"certificate": name})


def _best(runs: Sequence[_Run], task: Task) -> _Run:
    return min(runs, key=lambda run: _merit(run, task))


_ENORMOUS = 1e4


def _exploded(run: _Run, task: Task) -> bool:
    """Whether a run ended in no number, or so far above every target that its learning rate must be to blame."""
    last = run.curve[-1].train_loss
    levels = [target.level for target in task.targets if target.at_most is not None]
    return run.diverged or last is None or last > _ENORMOUS * max([1.0, *levels])


def _merit(run: _Run, task: Task) -> tuple[int, float, float]:
    """Orders runs of one trial: most targets, then fewest steps to the hardest one, then lowest last loss."""
    last = run.curve[-1].train_loss
    steps = run.reached_at.get(task.ranked_target.name, math.inf)  # not run.steps: a run that diverged has few
    return -len(run.reached_at), steps, math.inf if last is None else last


def _outcome(target: str, runs: Sequence[_Run]) -> Outcome:
    steps = [run.reached_at[target] for run in runs if target in run.reached_at]
    unconfirmed = sum(run.unconfirmed.get(target, 0) for run in runs)
    return Outcome(target=target, reached=bool(steps), step=min(steps) if steps else None, unconfirmed=unconfirmed)


def _call(futile: tuple[str, int], run: _Run, task: Task) -> FutilityCall:
    target, step = futile
    audited = run.steps > step
    return FutilityCall(
        target=target,
        step=step,
        audited=audited,
        reached=target in run.reached_at,
        steps_saved=0 if audited else task.training.steps - step,
    )
