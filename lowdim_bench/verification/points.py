"""The weights that a run's trials ended at, made again from their certificates: what to look at a landscape from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from lowdim_bench import problems
from lowdim_bench.certificates import Certificate
from lowdim_bench.errors import CertificateError, UserError
from lowdim_bench.landscape.training import Trained
from lowdim_bench.problems import Problem
from lowdim_bench.specs import Task
from lowdim_bench.tracking import keys
from lowdim_bench.tracking.dossier import Contents, Dossier
from lowdim_bench.verification import bookkeeping
from lowdim_bench.verification.report import Finding


@dataclass(frozen=True)
class Points:
    """Trials of one run that reached the ranked target, each of another replicate."""

    task: Task
    problem: Problem
    replicates: tuple[int, ...]
    ks: tuple[int, ...]
    trained: Trained
    """From w_0 to where the trial reached its target; nothing in between is kept."""


def read_points(dossier: Dossier, data_root: Path, most: int) -> Points:
    """The points of up to `most` trials, those nearest to k*. Nothing of a submission is imported.

    Raises `UserError` where fewer than two trials of different replicates have a certificate, or one cannot be read.
    """
    with dossier.fetched() as contents:
        return _read(contents, data_root, most)


def _read(contents: Contents, data_root: Path, most: int) -> Points:
    findings: list[Finding] = []
    task = bookkeeping.read_task(contents, findings)
    trials, failures = contents.folder(keys.TRIALS), contents.folder(keys.FAILURES)
    results = bookkeeping.read_results(contents, trials, failures, findings)
    if task is None or findings:
        raise UserError(f"Run {contents.run_id[:8]} is not as it was written: {findings[0].text}")
    where = math.log(max(1.0, contents.metrics.get("k_star", 1.0)))
    certified = sorted(
        (result for result in results if result.certificate),
        key=lambda one: (abs(math.log(one.trial.k) - where), one.trial.k, one.trial.replicate),
    )
    nearest = list({one.trial.replicate: one for one in reversed(certified)}.values())[::-1][:most]
    if len(nearest) < 2:
        raise UserError(
            f"Run {contents.run_id[:8]} has certificates of {len(nearest)} replicates; paths between trainings need two. "
            "Only trials that reach the ranked target have one."
        )
    problem = problems.build(task, problems.load_arrays(task, data_root))
    passed = []
    for result in nearest:
        try:
            certificate = Certificate.from_bytes(contents.certificate(result) or b"")
            weights = certificate.subspace(problem).map(certificate.theta)
        except CertificateError as error:
            raise UserError(
                f"The certificate of {result.trial.key} cannot be read: {error}. Run `lowdim-bench verify`."
            ) from None
        passed.append(torch.stack([problem.initial(result.trial.replicate), weights]))
    return Points(
        task=task,
        problem=problem,
        replicates=tuple(one.trial.replicate for one in nearest),
        ks=tuple(one.trial.k for one in nearest),
        trained=Trained(torch.stack(passed), (0, max(1, *(one.trained_steps for one in nearest)))),
    )
