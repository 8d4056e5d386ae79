"""One run after the other: records replayed, certificates recomputed, a verdict kept on the run."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch

from lowdim_bench import problems
from lowdim_bench.bench import searched_range
from lowdim_bench.certificates import Certificate
from lowdim_bench.environment import TOLERANCE, environment
from lowdim_bench.errors import UserError
from lowdim_bench.methods import MethodChoice
from lowdim_bench.parametrizations import AffineSubspace, SignedHash
from lowdim_bench.problems import Problem
from lowdim_bench.records import TrialResult
from lowdim_bench.specs import Task
from lowdim_bench.threshold import estimate
from lowdim_bench.tracking import keys
from lowdim_bench.tracking.dossier import Contents, Dossier, Verdict, state_of
from lowdim_bench.verification import bookkeeping
from lowdim_bench.verification.evidence import Examined, examine
from lowdim_bench.verification.precision import coarsest
from lowdim_bench.verification.report import Finding, Precision, Report

_NUMBER = re.compile(r"[0-9]{1,18}")
Bits = Literal["nearest", "all", "none"]
"""Of which certificates the coarsest precision is looked for: the one nearest to k*, all, or none."""
Progress = Callable[[int, int], None]
"""Is told how many certificates are done, and of how many."""


class Verifier:
    """Verifies runs on the CPU of this process; keeps the last task's problem, for runs of one task often follow each other."""

    def __init__(
        self, data_root: Path, bits: Bits = "nearest", threads: int | None = None, sample: float = 1.0
    ) -> None:
        """`threads`: how many certificates are examined at once; as many as there are cores for None. `sample`: the share of
        the training set's parts, drawn by chance for each certificate, on which its loss is worked out again."""
        self._data_root = data_root
        self._threads = threads or len(os.sched_getaffinity(0))
        self._bits: Bits = bits
        self._sample = sample
        self._problem: Problem | None = None
        self._loading = 0.0

    def verify(self, dossier: Dossier, progress: Progress | None = None) -> Report:
        """Check a run and keep the verdict on it. Raises `UserError` where its task's data is missing here.

        A spot check that finds nothing keeps no verdict: it clears nobody.
        """
        with dossier.fetched() as contents:
            report = self._verify(contents, progress)
        if report.correct and report.sample < 1:
            return report
        try:
            dossier.record(_verdict(report))
        except UserError as error:  # an account that may read only: what was found is told all the same
            report = report.model_copy(update={"remarks": (*report.remarks, f"the verdict is not kept: {error}")})
        return report

    def _verify(self, contents: Contents, progress: Progress | None) -> Report:
        findings: list[Finding] = []
        remarks: list[str] = []
        trials, failures = contents.folder(keys.TRIALS), contents.folder(keys.FAILURES)
        names = contents.names(keys.CERTIFICATES)
        task = bookkeeping.read_task(contents, findings)
        method = bookkeeping.read_method(contents, findings, remarks)
        results = bookkeeping.read_results(contents, trials, failures, findings)
        examined: list[Examined] = []
        precision: list[Precision] = []
        replayed = taken = 0.0
        if task is not None and task.digest != contents.tags.get(keys.TASK_DIGEST):
            remarks.append("nothing is recomputed: its task is not the one that it was measured on")
        elif task is not None and method is not None:
            problem = self._problem_of(task)
            started = time.perf_counter()
            findings += _check_records(contents, task, method, results, problem, remarks)
            findings += bookkeeping.check_files(contents.certificates, results, task.ranked_target.name)
            replayed = time.perf_counter() - started
            examined = self._examine(contents, task, method, results, problem, progress)
            taken = time.perf_counter() - started - replayed
            precision = _precision(self._bits, task, contents, results, examined, problem)
        findings += [finding for one in examined for finding in one.findings]
        return Report(
            run_id=contents.run_id,
            task=contents.tags.get(keys.TASK, "?"),
            method=method.label if method else contents.tags.get(keys.METHOD, "?"),
            status=contents.tags.get(keys.STATUS, "running"),
            findings=tuple(findings),
            remarks=tuple(remarks),
            checked=tuple(one.checked for one in examined if one.checked),
            precision=tuple(precision),
            sample=self._sample,
            tolerance=TOLERANCE,
            loading_seconds=self._loading,
            threads=self._threads,
            seconds=taken,
            records_seconds=replayed,
            state=state_of(contents.tags, trials, failures, names),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _problem_of(self, task: Task) -> Problem:
        self._loading = 0.0
        if self._problem is None or self._problem.task.digest != task.digest:
            started = time.perf_counter()
            self._problem = problems.build(task, problems.load_arrays(task, self._data_root))
            # What is computed for the first time in a process is compiled or loaded then, which is no part of a pass.
            initial = self._problem.initial(0)
            subspace = AffineSubspace(initial, SignedHash(1, len(initial), 0, self._problem.device))
            self._problem.train_metrics(subspace.map(subspace.start).unsqueeze(0))
            self._loading = time.perf_counter() - started
        return self._problem

    def _examine(
        self,
        contents: Contents,
        task: Task,
        method: MethodChoice,
        results: Sequence[TrialResult],
        problem: Problem,
        progress: Progress | None,
    ) -> list[Examined]:
        """As many certificates at a time as there are threads, for a stored basis may take tens of megabytes."""
        certified = [result for result in results if result.certificate is not None]
        digest = contents.tags.get(keys.METHOD_DIGEST, "")
        examined: list[Examined] = []
        with ThreadPoolExecutor(self._threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for first in range(0, len(certified), self._threads):
                if progress:
                    progress(first, len(certified))
                some = certified[first : first + self._threads]
                jobs = [
                    pool.submit(examine, content, result, task, method, digest, problem, self._sample)
                    for result in some
                    if (content := contents.certificate(result)) is not None  # what is missing is found by its name
                ]
                examined += [job.result() for job in jobs]
        if progress:
            progress(len(certified), len(certified))
        return examined


def _check_records(
    contents: Contents,
    task: Task,
    method: MethodChoice,
    results: Sequence[TrialResult],
    problem: Problem,
    remarks: list[str],
) -> list[Finding]:
    """That the records of a run follow from each other. What cannot be checked is noted among `remarks`."""
    findings = bookkeeping.check_tags(contents, {keys.FULL_DIMENSION: problem.full_dimension})
    findings += bookkeeping.check_params(contents, task, method)
    findings += bookkeeping.check_outcomes(task, results)
    k_range = _k_range(contents.tags)
    if k_range is None:
        where = f"{keys.K_LOW}, {keys.K_HIGH}"
        return [*findings, Finding(what="tag altered", where=where, detail="they are no range of k")]
    if bookkeeping.is_known(method) and method.code is None:
        low, high = searched_range(task, method.build().k_range(problem.blocks), problem.full_dimension)
        findings += bookkeeping.check_tags(contents, {keys.K_LOW: low, keys.K_HIGH: high})
    else:
        remarks.append(f"the k that {method.name} can prepare, {k_range[0]} to {k_range[1]}, is its own word")
    status = contents.tags.get(keys.STATUS, "running")
    finished = status in keys.FINAL
    first = contents.tags.get(keys.FIRST_REPLICATE, "0")
    if not _NUMBER.fullmatch(first) or (method.code is None and first != "0"):
        where = keys.FIRST_REPLICATE
        return [*findings, Finding(what="tag altered", where=where, detail=f"it is {first!r}")]
    findings += bookkeeping.check_plan(task, k_range, int(first), results, finished=finished)
    if finished and results:
        findings += bookkeeping.check_conclusion(contents, task, method, k_range, results)
    elif finished:
        findings.append(Finding(what="trial missing", where=keys.TRIALS, detail="a finished sweep has trials"))
    return findings


def _k_range(tags: Mapping[str, str]) -> tuple[int, int] | None:
    low, high = tags.get(keys.K_LOW, ""), tags.get(keys.K_HIGH, "")
    if not (_NUMBER.fullmatch(low) and _NUMBER.fullmatch(high) and 1 <= int(low) <= int(high) < 2**40):
        return None
    return int(low), int(high)


def _precision(
    bits: Bits,
    task: Task,
    contents: Contents,
    results: Sequence[TrialResult],
    examined: Sequence[Examined],
    problem: Problem,
) -> list[Precision]:
    """Of sound certificates alone."""
    sound = [one for one in examined if one.checked and one.checked.correct]
    k_range = _k_range(contents.tags)
    if bits == "none" or not sound or k_range is None:
        return []
    if bits == "nearest":
        ranked = estimate(task.threshold, task.ranked_target.name, *k_range, results)
        where = ranked.k_star or ranked.high or ranked.low or 1

        def distance(one: Examined) -> tuple[float, int, int]:
            trial = one.result.trial
            return abs(math.log(trial.k / where)), trial.k, trial.replicate

        sound = [min(sound, key=distance)]
    found: list[Precision] = []
    for one in sound:
        content = contents.certificate(one.result)
        assert content is not None
        certificate = Certificate.from_bytes(content)
        subspace, key = certificate.subspace(problem), one.result.trial.key
        found.append(coarsest(problem, subspace, certificate.theta, task.ranked_target, key))
    return found


def _verdict(report: Report) -> Verdict:
    return Verdict(
        correct=report.correct,
        state=report.state,
        time=report.time,
        findings=len(report.findings),
        certificates=len(report.checked),
        environment=environment(torch.device("cpu")),
    )
