"""Validation: a submission, or what installed packages add, held to the contract on a tiny problem before anything is spent."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lowdim_bench import installed, isolation
from lowdim_bench.contract import Broken, Finding, Subject, attempt, check, content
from lowdim_bench.methods import METHODS, Method, MethodChoice, choose, installed_methods
from lowdim_bench.records import Trial
from lowdim_bench.specs import TRACKS, Track, installed_tasks, load_task
from lowdim_bench.submissions import FILE, Submission, freeze_submission, submission_tasks
from lowdim_bench.testing import TINY, tiny_problem
from lowdim_bench.trial import run_pack

_ANOTHER_PROCESS = "from lowdim_bench.validation import tell_content; tell_content()"
_PATIENCE = 120.0
"""Seconds for the other process."""


def validate(folder: Path) -> Iterator[Finding]:
    """The checks of a submission's folder, one by one as they are made. What needs a check that failed is left out."""
    frozen: list[tuple[Submission, MethodChoice]] = []
    yield attempt(
        "schema", lambda: _schema(folder, frozen), "Correct the folder; see the chapter Submit of the README."
    )
    if not frozen:
        return
    submission, choice = frozen[0]
    yield _name(folder, submission, choice)
    yield attempt("tasks", lambda: _tasks(folder, submission), "Correct the tasks.")
    open_track = any(task.track == "open" for task in submission_tasks(folder))
    yield from _validate_method(choice, submission.track, "open" if open_track else "cold")


def validate_installed() -> Iterator[tuple[str, Finding]]:
    """The checks of what installed packages add, each with its name and package; `UserError` where names clash."""
    for name, point in installed_methods().items():
        label = f"method {name} ({installed.package_of(point)})"
        chosen: list[MethodChoice] = []
        yield label, attempt("name", lambda name=name, chosen=chosen: _chosen(name, chosen), "Repair the package.")
        for choice in chosen:
            for finding in _validate_method(choice, None, "cold"):
                yield label, finding
    for name, point in installed_tasks().items():
        label = f"task {name} ({installed.package_of(point)})"
        yield label, attempt("schema", lambda name=name: f"digest {load_task(name).digest}", "Correct the task file.")


def _chosen(name: str, found: list[MethodChoice]) -> str:
    found.append(choose(name))
    return "no other method has it"


def _validate_method(choice: MethodChoice, expected: Track | None, least: Track) -> Iterator[Finding]:
    """`least`: the strictest track that its tasks leave it."""
    built: list[Method] = []
    yield attempt("imports", lambda: _imports(choice, built), "Correct the code; what it raised is said.")
    if not built:
        return
    subject = Subject(built[0], TINY, tiny_problem())
    with _begun_elsewhere(choice, _middle(subject)) as digest:
        contract = list(check(subject))
        yield from contract
        if not all(one.passed for one in contract):
            return
        yield attempt("other process", lambda: _other_process(subject, digest))
    yield attempt("cost", lambda: _cost(subject))
    yield attempt("training", lambda: _training(choice, subject))
    if expected is not None:
        yield attempt("track", lambda: _track(subject, expected, least))


def _schema(folder: Path, found: list[tuple[Submission, MethodChoice]]) -> str:
    submission, choice = freeze_submission(folder)
    found.append((submission, choice))
    if choice.code is None:
        return f"{FILE} is valid; method {choice.label}"
    return f"{FILE} is valid; {len(choice.code.files)} files of code, {choice.code.bits:,} bits compressed"


def _name(folder: Path, submission: Submission, choice: MethodChoice) -> Finding:
    at = folder.absolute().name
    if submission.name != at:
        return Finding("name", False, f"'{submission.name}' lies in folder '{at}'", "Give both the same name.")
    if choice.code is not None and submission.name in {*METHODS, *installed_methods()}:
        return Finding("name", False, f"'{submission.name}' is the name of another method", "Choose another name.")
    return Finding("name", True, f"'{submission.name}' is the folder's name, and no other method's")


def _tasks(folder: Path, submission: Submission) -> str:
    tasks = submission_tasks(folder)
    for name, task in zip(submission.tasks, tasks, strict=True):
        if name != task.name and task.track != "open":
            raise Broken(f"{name} is a task of your own, on track {task.track}", "Write `track: open` into it.")
    return ", ".join(task.name for task in tasks)


def _imports(choice: MethodChoice, built: list[Method]) -> str:
    started = time.perf_counter()
    method = isolation.build(choice)
    method.k_range(tiny_problem().blocks)
    built.append(method)
    where = "in a fenced process of its own, " if choice.code is not None else ""
    return f"{choice.label}, {where}{time.perf_counter() - started:.1f} s"


@contextmanager
def _begun_elsewhere(choice: MethodChoice, k: int) -> Iterator[Callable[[], str]]:
    """Prepare in another process meanwhile; lends a function that waits for the digest of what came out."""
    with tempfile.TemporaryFile("w+") as given:
        json.dump({"choice": choice.model_dump(mode="json"), "k": k}, given)
        given.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-c", _ANOTHER_PROCESS],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": "1"},  # so that the order of a set is another one
        )

    def digest() -> str:
        out, err = process.communicate(timeout=_PATIENCE)
        if process.returncode:
            said = err.strip().splitlines()[-1:]
            raise Broken(f"in another process it fails: {' '.join(said)}", "Make it work there too.")
        return out.strip()

    try:
        yield digest
    finally:
        if process.returncode is None:
            process.kill()
            process.communicate()


def _other_process(subject: Subject, digest: Callable[[], str]) -> str:
    k = _middle(subject)
    if digest() != _digest(subject, k):
        raise Broken(
            f"another process prepares another subspace from the same seed (k = {k})",
            "Depend on nothing of the process: no hash(), no order of a set, no time, no global random state.",
        )
    return f"the same bits (k = {k})"


def tell_content() -> None:
    """In the other process: print the digest of what is prepared for the choice and k on standard input."""
    given = json.load(sys.stdin)
    choice = MethodChoice.model_validate_json(json.dumps(given["choice"]))
    subject = Subject(isolation.build(choice), TINY, tiny_problem())
    sys.stdout.write(_digest(subject, given["k"]) + "\n")


def _digest(subject: Subject, k: int) -> str:
    return hashlib.sha256(repr(content(subject.alone(k))).encode()).hexdigest()


def _middle(subject: Subject) -> int:
    ks = subject.ks()
    return ks[len(ks) // 2]


def _cost(subject: Subject) -> str:
    k = _middle(subject)
    again = Subject(subject.method, subject.task, subject.problem)
    started = time.perf_counter()
    again.alone(k)
    seconds = time.perf_counter() - started
    most = max(spent.gradient_evaluations + spent.evaluations for _, spent in subject.audits())
    limit = subject.task.preparation.gradient_evaluations
    return f"at most {most:,} gradient and full evaluations of {limit:,}; {seconds:.2f} s to prepare k = {k}"


def _training(choice: MethodChoice, subject: Subject) -> str:
    k = _middle(subject)
    (result,) = run_pack(subject.problem, subject.task, choice, [Trial(k=k, replicate=0, round=0)])
    if result.status == "failed":
        raise Broken(f"the trial failed: {result.reason}", "Have only theta change after prepare().")
    last = result.curve[-1].train_loss if result.curve else None
    loss = "not finite" if last is None else f"{last:.3g}"
    return f"{result.status} {result.trained_steps} steps at k = {k}, loss {loss}, {result.seconds:.2f} s in all"


def _track(subject: Subject, expected: Track, least: Track) -> str:
    audits = subject.audits()
    measured = TRACKS[max(TRACKS.index(least), *(TRACKS.index(audit.track) for audit, _ in audits))]
    bits = max(audit.side_information_bits for audit, _ in audits)
    if TRACKS.index(measured) > TRACKS.index(expected):
        raise Broken(
            f"expected {expected}, but what it uses makes it {measured} ({bits:,.0f} bits beyond the seed)",
            f"Write `track: {measured}`, or use less.",
        )
    hint = "" if measured == expected else f"; `track: {expected}` is laxer than it needs"
    return f"{measured} (at most {bits:,.0f} bits beyond the seed){hint}"
