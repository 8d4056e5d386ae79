"""Reproduce claims: measure what is missing of their parts on all workers, store each piece at once, decide at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from lowdim_bench.claims import work
from lowdim_bench.claims.base import Claim, Part, Scale
from lowdim_bench.claims.scoreboard import Decided, read
from lowdim_bench.errors import InfrastructureError
from lowdim_bench.execution import Executor, Finished, Job
from lowdim_bench.settings import Settings
from lowdim_bench.specs import canonical_json
from lowdim_bench.tracking import ClaimLog, ClaimStore
from lowdim_bench.tracking.claim_log import Identity

_TICK_SECONDS = 1.0

Progress = Callable[[int, int], None]
"""Is told how many replicates of all parts are measured, and how many there are."""


@dataclass(frozen=True)
class Outcome:
    """What became of a claim: its verdict, or why there is none."""

    claim: Claim
    decided: Decided | None
    failure: str = ""


@dataclass
class _Run:
    """One claim while it is measured."""

    claim: Claim
    scale: Scale
    log: ClaimLog
    parts: Sequence[tuple[str, Part]] = ()
    """By their digests; equal parts measure the same."""
    decided: Decided | None = None
    failure: str = ""

    def missing(self, part: Part) -> list[int]:
        known = self.log.measured(part.name)
        return [replicate for replicate in part.seeds if replicate not in known]

    @property
    def open(self) -> bool:
        return self.decided is None and not self.failure

    def take(self, part: str, done: Finished) -> None:
        """Keep what a job measured of the parts that it is of."""
        for digest, own in self.parts:
            if digest == part and self.open:
                try:
                    self.log.append(own.name, work.measured(done))
                except InfrastructureError as error:
                    self.failure = f"part {own.name}: {error}"
                    self.log.fail(self.failure)
                    return
        self.decide()

    def decide(self) -> None:
        """Decide the claim, where all is measured."""
        if not self.open or any(self.missing(part) for _, part in self.parts):
            return
        known = {part.name: self.log.measured(part.name) for _, part in self.parts}
        decided = Decided.of(
            self.claim,
            self.scale,
            {part.name: [known[part.name][replicate] for replicate in part.seeds] for _, part in self.parts},
        )
        metrics = {"checks": float(len(decided.checks))}
        for place, check in enumerate(decided.checks, 1):
            metrics[f"check_{place}"] = check.estimate
            metrics |= {
                f"check_{place}_{end}": x for end, x in (("low", check.low), ("high", check.high)) if x is not None
            }
        record = canonical_json(decided.model_dump(mode="json")).encode()
        self.log.decide(decided.verdict, record, metrics, decided.sentence)
        self.decided = decided


def reproduce(
    settings: Settings, claims: Sequence[Claim], scale: Scale, *, again: bool = False, progress: Progress | None = None
) -> list[Outcome]:
    """Measure and decide claims, distributed over all workers; what is decided already is not measured again, but with `again`.

    Equal parts of several claims are measured once. Raises `UserError` for what the user can put right, and
    `InfrastructureError` when the cluster or the store is lost; whatever was measured by then is kept, on Ctrl-C too.
    """
    with ExitStack() as stack:
        store = ClaimStore(settings)
        runs = [_open(stack, store, claim, scale, again=again) for claim in claims]
        on_record = read(store.verdicts()) if any(run.log.decided for run in runs) else {}
        for run in runs:
            if run.log.decided:
                known = on_record.get(run.claim.digest)
                run.decided = known.retold(run.claim) if known else None
                run.failure = "" if known else "its verdict cannot be read; measure it anew with --again"
            else:
                run.parts = [(part.digest, part) for part in run.claim.parts()]
                run.decide()  # everything may have been measured before
        _drive(stack, settings, runs, progress)
    return [Outcome(run.claim, run.decided, run.failure) for run in runs]


def _open(stack: ExitStack, store: ClaimStore, claim: Claim, scale: Scale, *, again: bool) -> _Run:
    words = f"{claim.statement} {claim.source}"
    log = store.open(Identity(claim.name, claim.digest, scale, words), again=again)
    return _Run(claim, scale, stack.enter_context(log))


def _drive(stack: ExitStack, settings: Settings, runs: Sequence[_Run], progress: Progress | None) -> None:
    queue = _queue([run for run in runs if run.open])
    if not queue:
        return  # all was decided before: no cluster is needed to say so
    executor = stack.enter_context(Executor(settings, work.WORK))
    total, done_by_now = sum(len(job.trials) for job in queue), 0
    for job in queue:
        executor.submit(job)
    while done_by_now < total:
        if progress:
            progress(done_by_now, total)
        for done in executor.wait(timeout=_TICK_SECONDS):
            done_by_now += len(done.job.trials)
            for run in runs:
                run.take(done.job.sweep, done)
        for run in runs:
            if run.open:
                run.log.heartbeat()
    if progress:
        progress(total, total)


def _queue(runs: Sequence[_Run]) -> list[Job]:
    """What is still to be measured, each part of several claims once."""
    wanted: dict[str, tuple[Part, set[int]]] = {}
    for run in runs:
        for digest, part in run.parts:
            wanted.setdefault(digest, (part, set()))[1].update(run.missing(part))
    return [job for part, missing in wanted.values() for job in work.jobs(part, sorted(missing))]
