"""Records, replayed: do the trials, the thresholds and the tags of a run follow from each other?"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from pydantic import ValidationError

from lowdim_bench.bench import conclude
from lowdim_bench.environment import agree
from lowdim_bench.errors import UserError
from lowdim_bench.methods import METHODS, MethodChoice
from lowdim_bench.planner import plan_round
from lowdim_bench.records import Outcome, Trial, TrialResult
from lowdim_bench.specs import Target, Task, digest_of
from lowdim_bench.specs.base import explain
from lowdim_bench.threshold import estimate
from lowdim_bench.tracking import keys, summary, trial_files, views
from lowdim_bench.tracking.certificate_files import CertificateFiles
from lowdim_bench.tracking.dossier import Contents
from lowdim_bench.verification.report import Finding

CLOSENESS = 1e-6
"""Relative difference of estimated numbers that another processor or version of a library may make."""


def read_task(contents: Contents, findings: list[Finding]) -> Task | None:
    """The task of a run, held to its tags; None where it cannot be read."""
    content = contents.read(keys.TASK_FILE)
    if content is None:
        findings.append(Finding(what="file missing", where=keys.TASK_FILE, detail="the run does not hold it"))
        return None
    try:
        task = Task.model_validate_json(content)
    except ValidationError as error:
        detail = f"it is no task, or one of another version of lowdim-bench:\n{explain(error)}"
        findings.append(Finding(what="task unreadable", where=keys.TASK_FILE, detail=detail))
        return None
    tag = contents.tags.get(keys.TASK_DIGEST)
    if task.digest != tag:
        findings.append(
            Finding(
                what="task altered", where=keys.TASK_FILE, detail=f"its digest is {task.digest}, the run's tag {tag}"
            )
        )
    findings += _tags(contents, {keys.TASK: task.name, keys.TRACK: task.track})
    return task


def read_method(contents: Contents, findings: list[Finding], remarks: list[str]) -> MethodChoice | None:
    """The method of a run, held to its tags, without importing what is not built in; None where it cannot be read."""
    content = contents.read(keys.METHOD_FILE)
    if content is None:
        findings.append(Finding(what="file missing", where=keys.METHOD_FILE, detail="the run does not hold it"))
        return None
    tag = contents.tags.get(keys.METHOD_DIGEST, "")
    try:
        method = MethodChoice.model_validate_json(content)
        digest = method.method_digest if is_known(method) else tag
    except (ValidationError, UserError) as error:
        reason = explain(error) if isinstance(error, ValidationError) else error
        detail = f"it is no method, or one of another version of lowdim-bench:\n{reason}"
        findings.append(Finding(what="method unreadable", where=keys.METHOD_FILE, detail=detail))
        return None
    if not is_known(method):
        remarks.append(f"{method.name} is not imported here, so that the digest of its source is not recomputed")
    if digest != tag:
        what = "code altered" if method.code else "method altered"
        findings.append(
            Finding(what=what, where=keys.METHOD_FILE, detail=f"its digest is {digest}, the run's tag {tag}")
        )
    findings += _tags(contents, {keys.METHOD: method.name})
    sweep = keys.sweep_id(contents.tags.get(keys.TASK_DIGEST, ""), tag)
    findings += _tags(contents, {keys.SWEEP: sweep})
    return method


def is_known(method: MethodChoice) -> bool:
    """Whether its digest can be computed without importing anybody's code: it is built in, or its code is data."""
    return method.code is not None or (method.name in METHODS and not method.origin)


def read_results(
    contents: Contents, trials: Mapping[str, bytes], failures: Mapping[str, bytes], findings: list[Finding]
) -> list[TrialResult]:
    """What every trial came to, of files that are named by their content; a trial in two files must be the same in both."""
    decoded: dict[str, dict[str, tuple[TrialResult, ...]]] = {}
    for folder, files in ((keys.TRIALS, trials), (keys.FAILURES, failures)):
        decoded[folder] = {}
        for name in sorted(files):
            try:
                decoded[folder][name] = trial_files.decode_one(name, files[name])
            except ValueError as error:
                findings.append(Finding(what="trial file altered", where=f"{folder}/{name}", detail=str(error)))
    first: dict[str, TrialResult] = {}
    for name, results in decoded[keys.TRIALS].items():
        for result in results:
            timeless = result.model_copy(update={"seconds": 0.0, "cpu_seconds": None, "submitted_code": None})
            if first.setdefault(result.trial.key, timeless) != timeless:
                findings.append(
                    Finding(what="trial repeated", where=result.trial.key, detail=f"{name} holds it again, otherwise")
                )
    failed = contents.tags.get(keys.STATUS) == "failed"
    return trial_files.standing(decoded[keys.TRIALS], decoded[keys.FAILURES], but_last_round=failed)


def check_plan(
    task: Task, k_range: tuple[int, int], first_replicate: int, results: Sequence[TrialResult], *, finished: bool
) -> Iterator[Finding]:
    """That the trials are those that the planner asks for, round by round, given the ones before; all of them where the sweep
    is finished."""
    held = {_name(result.trial): result.trial for result in results}
    last = max((trial.round for trial in held.values()), default=-1)
    expected: set[str] = set()
    known = last  # up to which round it is known what was asked for
    for number in range(last + 2):
        before = [result for result in results if result.trial.round < number]
        planned = {_name(trial): trial for trial in plan_round(task, *k_range, before, first_replicate)}
        expected |= planned.keys()
        if missing := [planned[name] for name in planned if name not in held]:
            if finished or number < last:
                yield from _missing(missing, number)
            known = number  # what later rounds would ask for hangs on these
            break
        if not planned:
            break
    for name, trial in sorted(held.items()):
        if name not in expected and trial.round <= known:
            detail = f"the planner asks for no such trial in round {trial.round}"
            yield Finding(what="trial extra", where=trial.key, detail=detail)


def _name(trial: Trial) -> str:
    """With its round: a trial that was asked for in another one is another."""
    return f"{trial.round:04d}-{trial.key}"


def _missing(missing: Sequence[Trial], number: int) -> Iterator[Finding]:
    for trial in sorted(missing, key=lambda one: (one.k, one.replicate)):
        yield Finding(what="trial missing", where=trial.key, detail=f"the planner asks for it in round {number}")


def check_outcomes(task: Task, results: Sequence[TrialResult]) -> Iterator[Finding]:
    """That what a trial is said to have reached fits its curve and the task's schedule."""
    names = [target.name for target in task.targets]
    for result in results:
        if result.status == "failed":
            continue
        if [outcome.target for outcome in result.outcomes] != names:
            detail = f"they are not of the targets {', '.join(names)}"
            yield Finding(what="outcomes altered", where=result.trial.key, detail=detail)
            continue
        yield from _check_schedule(task, result)
        for target, outcome in zip(task.targets, result.outcomes, strict=True):
            yield from _check_outcome(task, result, target, outcome)


def _check_schedule(task: Task, result: TrialResult) -> Iterator[Finding]:
    """Learning rate and evaluations: those of the task, up to the end unless there was a reason to stop."""
    recipe, key = task.training, result.trial.key
    rates = [recipe.learning_rate.at(result.trial.k) * m for m in recipe.learning_rate.multipliers]
    if result.learning_rate is not None and not any(close(rate, result.learning_rate) for rate in rates):
        detail = f"it is {result.learning_rate}, the task has {', '.join(map(str, rates))}"
        yield Finding(what="learning rate altered", where=key, detail=detail)
    steps = [point.step for point in result.curve]
    scheduled = [*range(recipe.evaluate_every, recipe.steps, recipe.evaluate_every), recipe.steps]
    stopped = (
        result.status == "diverged"
        or result.reached(task.ranked_target.name)
        or any(not call.audited for call in result.futility)
    )
    if steps != scheduled[: len(steps)] or not (stopped or len(steps) == len(scheduled)):
        detail = f"it has steps {steps}; the task evaluates at {scheduled}, and nothing ended the training before"
        yield Finding(what="curve altered", where=key, detail=detail)


def _check_outcome(task: Task, result: TrialResult, target: Target, outcome: Outcome) -> Iterator[Finding]:
    """Of one target: the curve meets it where it is reached, and elsewhere only as often as was not confirmed. Nothing but the
    last bits keeps an evaluation from being confirmed, so there the curve meets the target by no more than the tolerance."""
    key = result.trial.key
    values = {
        point.step: point.train_loss if target.metric == "train_loss" else point.train_accuracy
        for point in result.curve
    }
    hits = [step for step, value in values.items() if value is not None and target.reached(value)]
    if outcome.reached and outcome.step is None:
        yield Finding(what="outcomes altered", where=key, detail=f"{target.name} is reached at no step")
    elif not outcome.reached and len(hits) > outcome.unconfirmed:
        detail = f"its curve meets {target.name} at step {hits[0]}, which is recorded as not reached"
        yield Finding(what="success hidden", where=key, detail=detail)
    elif excess := _not_confirmed_in_earnest(task, target, outcome, {step: values[step] for step in hits}):
        yield Finding(what="success hidden", where=key, detail=f"{target.name}: {excess}")
    elif outcome.reached and len(task.training.learning_rate.multipliers) == 1 and outcome.step not in hits:
        detail = f"its curve does not meet {target.name} at step {outcome.step}"
        yield Finding(what="outcomes altered", where=key, detail=detail)


def _not_confirmed_in_earnest(task: Task, target: Target, outcome: Outcome, hits: Mapping[int, float | None]) -> str:
    """What is wrong with the evaluations that are recorded as not confirmed; empty where nothing is."""
    recipe = task.training
    most = -(-recipe.steps // recipe.evaluate_every) * len(recipe.learning_rate.multipliers)
    if outcome.unconfirmed > most:
        return f"{outcome.unconfirmed} evaluations were not confirmed, and there are {most} at the most"
    before = [step for step in hits if outcome.step is None or step < outcome.step]
    for step in before:
        if not agree(hits[step], target.level, exact=False):
            return f"at step {step} its curve has {hits[step]}, too far beyond the target not to have been confirmed"
    return ""


def check_conclusion(
    contents: Contents, task: Task, method: MethodChoice, k_range: tuple[int, int], results: Sequence[TrialResult]
) -> Iterator[Finding]:
    """That threshold.json, metrics, status and tags of a finished sweep are what its trials give."""
    full_dimension = _whole(contents.tags, keys.FULL_DIMENSION)
    ladder, ks, curve = conclude(task, *k_range, results)
    ranked = ladder[-1]
    seen, fit = summary.points(results, ranked.target), summary.finite_rows(ks, curve)
    record = summary.threshold_record(ranked, ladder, seen, fit, full_dimension)
    content = contents.read(keys.THRESHOLD_FILE)
    if content is None:
        yield Finding(what="file missing", where=keys.THRESHOLD_FILE, detail="the run does not hold it")
    else:
        yield from _check_threshold(contents, content, record)
    sentence = summary.sentence(task, method.label, ranked, full_dimension)
    described = views.described(sentence, contents.run_id)
    note = sentence if contents.tags.get(keys.NOTE) == sentence else described  # an older version records no link
    yield from _tags(contents, {keys.STATUS: ranked.status, keys.FAILURE: "", keys.NOTE: note})
    for name, value in summary.final_metrics(ranked, results, full_dimension).items():
        stored = contents.metrics.get(name)
        if stored is None or close(value, stored):  # an older version records fewer
            continue
        if value is not None or not _from_a_round(task, k_range, results, name, stored):
            yield Finding(what="metric altered", where=name, detail=f"it is {stored}, its trials give {value}")


def _from_a_round(
    task: Task, k_range: tuple[int, int], results: Sequence[TrialResult], name: str, stored: float
) -> bool:
    """Whether a metric is what an earlier round gave: the store keeps the last there was where the result has none."""
    last = max((result.trial.round for result in results), default=0)
    for end in range(last):
        some = [result for result in results if result.trial.round <= end]
        found = summary.progress_metrics(estimate(task.threshold, task.ranked_target.name, *k_range, some))
        if name in found and close(found[name], stored):
            return True
    return False


def _check_threshold(contents: Contents, content: bytes, record: dict[str, Any]) -> Iterator[Finding]:
    what, where = "threshold altered", keys.THRESHOLD_FILE
    try:
        stored = json.loads(content)
        digest = digest_of(stored)
    except (ValueError, RecursionError) as error:
        yield Finding(what=what, where=where, detail=f"it is not JSON: {error}")
        return
    if differing := _difference(json.loads(json.dumps(record)), stored):
        yield Finding(what=what, where=where, detail=differing)
    elif digest != contents.tags.get(keys.THRESHOLD_DIGEST):
        tag = contents.tags.get(keys.THRESHOLD_DIGEST)
        yield Finding(
            what="tag altered", where=keys.THRESHOLD_DIGEST, detail=f"it is {tag}, the file's digest is {digest}"
        )


def check_tags(contents: Contents, expected: Mapping[str, object]) -> list[Finding]:
    """That tags are what was computed."""
    return _tags(contents, {name: str(value) for name, value in expected.items()})


def check_params(contents: Contents, task: Task, method: MethodChoice) -> Iterator[Finding]:
    """That the parameters shown beside a run are those of its task and method."""
    if not is_known(method):
        return
    for name, value in summary.parameters(task, method).items():
        stored = contents.params.get(name, value)
        if stored[:500] != value[:500]:
            yield Finding(what="parameter altered", where=name, detail=f"it is {stored}, task and method say {value}")


def check_files(files: CertificateFiles, results: Sequence[TrialResult], target: str) -> Iterator[Finding]:
    """That every success has its certificate, and every certificate its success."""
    for name, why in files.torn.items():
        yield Finding(what="certificates unreadable", where=f"{keys.CERTIFICATES}/{name}", detail=why)
    wanted: dict[str, str] = {}
    for result in results:
        key = result.trial.key
        if result.certificate is not None:
            wanted[keys.certificate_file(key, result.certificate)] = key
        if result.reached(target) and result.certificate is None:
            why = result.uncertified or "its result names none"
            yield Finding(what="success without certificate", where=key, detail=why)
        elif result.certificate is not None and not result.reached(target):
            yield Finding(what="certificate without success", where=key, detail=f"it did not reach {target}")
    for name in sorted(wanted.keys() - files.names):
        yield Finding(
            what="certificate missing", where=wanted[name], detail=f"the run's {keys.CERTIFICATES} hold no {name}"
        )
    for name in sorted(files.names - wanted.keys()):
        yield Finding(what="certificate without success", where=name, detail="no trial names it")


def close(one: float | None, other: float | None) -> bool:
    """Whether two estimated numbers are the same, but for rounding."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=CLOSENESS, abs_tol=1e-12)


def _difference(wanted: Any, stored: Any, path: str = "") -> str:
    """Where plain data first differs from what was wanted; empty where it does not, but for rounding."""
    if isinstance(wanted, dict) and isinstance(stored, dict) and stored.keys() <= wanted.keys():  # as above
        pairs = [(f"{path}.{key}".lstrip("."), wanted[key], stored[key]) for key in stored]
    elif isinstance(wanted, list) and isinstance(stored, list) and len(wanted) == len(stored):
        pairs = [(f"{path}[{place}]", *pair) for place, pair in enumerate(zip(wanted, stored, strict=True))]
    else:
        same = close(wanted, stored) if _is_number(wanted) and _is_number(stored) else wanted == stored
        return "" if same else f"{path or 'it'} is {stored}, its trials give {wanted}"[:300]
    return next((found for name, a, b in pairs if (found := _difference(a, b, name))), "")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tags(contents: Contents, expected: Mapping[str, str]) -> list[Finding]:
    return [
        Finding(what="tag altered", where=name, detail=f"it is {contents.tags.get(name)!r}, not {value!r}")
        for name, value in expected.items()
        if contents.tags.get(name, "") != value
    ]


def _whole(tags: Mapping[str, str], name: str) -> int:
    text = tags.get(name, "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0
