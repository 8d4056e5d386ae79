"""The record of one sweep while a driver runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, final

import numpy as np

from lowdim_bench import figures
from lowdim_bench.figures import Fit
from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Estimate, TrialResult
from lowdim_bench.specs import Task, canonical_json, digest_of
from lowdim_bench.tracking import certificate_files, keys, summary, trial_files, views
from lowdim_bench.tracking.run_log import Right, RunLog

if TYPE_CHECKING:  # MLflow is imported when a store is opened
    from lowdim_bench.tracking.connection import Connection, StoredRun


@final
class SweepLog(RunLog):
    """Everything of one sweep that is kept, and the right to add to it. Made by `Store.open_sweep`; close it at the end."""

    def __init__(
        self,
        connection: Connection,
        run: StoredRun,
        task: Task,
        method: MethodChoice,
        full_dimension: int,
        claim: Right,
        first_replicate: int = 0,
    ) -> None:
        super().__init__(connection, run, claim)
        self.first_replicate = first_replicate
        """Where the replicates of this sweep begin."""
        self._task, self._method, self._full_dimension = task, method, full_dimension
        self._started = run.started
        self._threshold_digest = run.tags.get(keys.THRESHOLD_DIGEST, "")
        # Its range is written before any trial, so a run that had none when it was found needs no listing.
        folders = (keys.TRIALS, keys.FAILURES)
        self._trials, self._failures = (self._load(one) if keys.K_LOW in run.tags else {} for one in folders)
        self._again = self._status == "failed"
        if self._status not in keys.FINAL:
            self._begin(marked=run.status == "RUNNING")

    def results(self) -> list[TrialResult]:
        """What every trial came to, once: by round, k, replicate.

        A failed trial is among them, unless it went well later. Where the sweep itself had failed when it was opened, those of
        its last round are not: the cause may have been put right, no later round was planned on them, and they run once more.
        """
        return trial_files.standing(self._trials, self._failures, but_last_round=self._again)

    def failures(self) -> list[TrialResult]:
        """Every attempt on record that failed, whatever became of its trial later: by round, k, replicate."""
        return trial_files.sort(result for results in self._failures.values() for result in results)

    def append(self, results: Sequence[TrialResult], certificates: Mapping[str, bytes] | None = None) -> None:
        """Keep finished trials, in one immutable file (and one more for those that failed).

        `certificates`: those that the results name, by SHA-256. They are stored first: a trial on record has its certificate.
        Raises KeyError where one is not among them.
        """
        kept = [result for result in results if result.status != "failed"]
        failed = [result for result in results if result.status == "failed"]
        known = {keys.TRIALS: self._trials, keys.FAILURES: self._failures}
        for folder, some in ((keys.TRIALS, kept), (keys.FAILURES, failed)):
            if some:
                if self._status != "running":
                    self._begin()
                self._lease.confirm()
                named = {
                    keys.certificate_file(r.trial.key, r.certificate): r.certificate for r in some if r.certificate
                }
                files = certificate_files.encode({file: (certificates or {})[name] for file, name in named.items()})
                if files:
                    self._connection.upload(self.run_id, keys.CERTIFICATES, files)
                name, content = trial_files.encode(some)
                self._connection.upload(self.run_id, folder, {name: content})
                known[folder][name] = tuple(some)
        self._again = False  # what has run once more stands

    def log_progress(self, estimate: Estimate, trainings: int, round: int) -> None:  # noqa: A002 - the planner's word
        """How narrow the interval is after a round. A sweep that was finished before is left as it is."""
        if self._status != "running":
            return
        from lowdim_bench.tracking.connection import Point

        values = summary.progress_metrics(estimate) | {"trainings": trainings}
        self._connection.write(self.run_id, points=[Point(name, value, round) for name, value in values.items()])

    def finish(
        self, estimate: Estimate, ladder: Sequence[Estimate], ks: Sequence[int] | np.ndarray, curve: np.ndarray
    ) -> None:
        """Record the result: metrics, threshold.json, figures, one sentence. Doing so again changes nothing.

        `ladder`: the estimates of all targets, the ranked one last. `curve`: success probability of the ranked target at each
        of `ks`, as `success_curve` gives it: a row for each k, with its mean and the ends of its 95 % band.
        """
        results = self.results()
        fit = summary.finite_rows(ks, curve)
        seen = summary.points(results, estimate.target)
        record = summary.threshold_record(estimate, ladder, seen, fit, self._full_dimension)
        digest = digest_of(record)
        if self._status in keys.FINAL and digest == self._threshold_digest:
            return
        self._write_metrics(estimate, results, seen, fit)
        files = {keys.THRESHOLD_FILE: canonical_json(record).encode()} | self._figures(estimate, seen, fit)
        self._connection.upload(self.run_id, "", files)
        sentence = summary.sentence(self._task, self._method.label, estimate, self._full_dimension)
        note = views.described(sentence, self.run_id)
        tags = {keys.NOTE: note, keys.STATUS: estimate.status, keys.FAILURE: "", keys.THRESHOLD_DIGEST: digest}
        self._connection.set_status(self.run_id, "FINISHED")
        self._connection.write(self.run_id, tags=tags)  # last: what is cut short before is done again
        self._status, self._threshold_digest = estimate.status, digest

    def _write_metrics(
        self, estimate: Estimate, results: Sequence[TrialResult], seen: Sequence[figures.Point], fit: Fit | None
    ) -> None:
        from lowdim_bench.tracking.connection import Point

        points = [Point("success_probability", point.fraction, point.k) for point in seen]
        if fit is not None:
            pairs = zip(fit.k, fit.probability, strict=True)
            points += [Point("success_probability_fit", p, round(k)) for k, p in pairs]
        # These have k for a step. Their time grows with the trials: written again they are the same points, and those of
        # more trials are the later ones, which MLflow shows.
        self._connection.write(self.run_id, points=points, timestamp=self._started + len(results))
        final = summary.final_metrics(estimate, results, self._full_dimension)
        last_round = max((result.trial.round for result in results), default=0)
        self._connection.write(self.run_id, points=[Point(name, value, last_round) for name, value in final.items()])

    def _load(self, folder: str) -> dict[str, tuple[TrialResult, ...]]:
        return trial_files.decode(self._connection.download(self.run_id, folder), f"run {self.run_id}: {folder}")

    def _figures(self, estimate: Estimate, seen: Sequence[figures.Point], fit: Fit | None) -> dict[str, bytes]:
        title = f"{self._method.label} on {self._task.name} (D = {self._full_dimension:,})"
        level = self._task.threshold.success_probability
        figure = figures.phase_transition(seen, fit, estimate, level, title)
        return {f"phase_transition.{kind}": figures.render(figure, kind) for kind in ("svg", "png")}
