"""For notebooks and scripts: run sweeps, read what is recorded as data frames, draw and save every figure of the page.

    from lowdim_bench import notebook

    notebook.run("digits-mlp", ["random_subspace", "imp"])
    results = notebook.load()
    results.rows                                    # a data frame, one line a sweep
    results.figure("digits-mlp thresholds")         # an Altair chart, which a notebook shows

Options are those of the commands, under the same names and with the same defaults: `tracking_uri`, `data_root`,
`ray_address`, `workers`, `gpus_per_worker`, `autoscaling`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from lowdim_bench import bench, pages
from lowdim_bench.errors import unknown
from lowdim_bench.leaderboard import Board, Row
from lowdim_bench.leaderboard import label as label_of
from lowdim_bench.settings import Settings, prepare_environment
from lowdim_bench.specs import Task, load_task
from lowdim_bench.submissions import choose_method, credit_of
from lowdim_bench.tracking import Store, StoredSweep

__all__ = ["Results", "load", "run"]


def run(task: str | Path | Task, methods: str | Sequence[str], **options: Any) -> pd.DataFrame:
    """Find the threshold of methods on a task, as the command `run` does, and go on where it was interrupted.

    `task` is a name, the path of a task file, or a `Task`; a method is NAME[,key=value...] or a submission's folder.
    Returns a line for each method: status, k*, its interval, trials, failure. Raises `UserError` for what can be put right.
    """
    chosen = [choose_method(text) for text in ([methods] if isinstance(methods, str) else methods)]
    credit = {choice.method_digest: credit_of(one) for one, choice in chosen if one}
    what = task if isinstance(task, Task) else load_task(str(task))
    settings = _settings(options)
    states = bench.run_sweeps(settings, [what], [choice for _, choice in chosen], credit=credit)
    return pd.DataFrame(
        {
            "task": state.task,
            "method": state.method,
            "status": state.estimate.status,
            "k_star": state.estimate.k_star,
            "low": state.estimate.low,
            "high": state.estimate.high,
            "trials": state.trainings,
            "failure": state.failure,
        }
        for state in states
    ).convert_dtypes()


def load(tasks: Sequence[str] = (), **options: Any) -> Results:
    """What is recorded, of some tasks or of all. Raises `UserError` where the store cannot be read."""
    settings = _settings(options)
    with Store(settings) as store:
        sweeps = store.sweeps()
    known = sorted({sweep.task.name for sweep in sweeps})
    for name in tasks:
        if name not in known:
            raise unknown(f"task in {settings.shown_tracking_uri}", name, known)
    return Results(
        [sweep for sweep in sweeps if not tasks or sweep.task.name in tasks],
        pages.facts_about(settings.shown_tracking_uri),
    )


@dataclass(frozen=True)
class Results:
    """Recorded sweeps, with their leaderboard; every number is the one that page, report and `rank` show."""

    sweeps: Sequence[StoredSweep]
    facts: Mapping[str, str]

    @cached_property
    def content(self) -> pages.Content:
        """Tables and figures as the page has them."""
        return pages.collect(self.sweeps, "lowdim-bench leaderboard", self.facts)

    @property
    def board(self) -> Board:
        return self.content.board

    @property
    def rows(self) -> pd.DataFrame:
        """The leaderboard, a line for each sweep, in its order: the fields of `lowdim_bench.leaderboard.Row`."""
        lines = []
        for row in self.board.rows:
            line = row.model_dump(exclude={"ladder", "futility", "relative", "params"})
            line["label"] = _label(row)
            relative = row.relative
            line["vs_random"], line["vs_random_low"], line["vs_random_high"] = (
                (relative.value, relative.low, relative.high) if relative else (None, None, None)
            )
            lines.append(line)
        return pd.DataFrame(lines).convert_dtypes()

    @property
    def thresholds(self) -> pd.DataFrame:
        """k* with its interval at every target of every sweep: what a success surface is read from."""
        return pd.DataFrame(
            {
                "task": row.task,
                "label": _label(row),
                "target": one.target,
                "status": one.status,
                "k_star": one.k_star,
                "low": one.low,
                "high": one.high,
            }
            for row in self.board.rows
            for one in row.ladder
        ).convert_dtypes()

    @property
    def trials(self) -> pd.DataFrame:
        """Every training: its k and replicate, and for each target whether and after how many steps it was reached."""
        lines = []
        labels = {row.run_id: _label(row) for row in self.board.rows}
        for sweep in self.sweeps:
            label = labels[sweep.run_id]
            for one in sweep.results:
                line: dict[str, Any] = {"task": sweep.task.name, "label": label, "status": one.status}
                line |= {"k": one.trial.k, "replicate": one.trial.replicate, "reason": one.reason}
                for outcome in one.outcomes:
                    line[f"reached {outcome.target}"] = outcome.reached
                    line[f"steps to {outcome.target}"] = outcome.step
                lines.append(line)
        return pd.DataFrame(lines).convert_dtypes()

    @cached_property
    def figures(self) -> dict[str, alt.TopLevelMixin]:
        """Every figure of the page by a name for people, as Altair charts."""
        return {
            name: alt.Chart.from_dict(dict(shown.specification))
            for name, shown in pages.named_figures(self.content).items()
        }

    def figure(self, name: str) -> alt.TopLevelMixin:
        """One of `figures`. Raises `UserError` for an unknown name."""
        if name not in self.figures:
            raise unknown("figure", name, list(self.figures))
        return self.figures[name]

    def save_figures(self, folder: str | Path) -> list[Path]:
        """Write every figure as SVG and PNG, sized for a column of a paper, and the data behind it as CSV.

        Raises `UserError` where the folder cannot be written.
        """
        return pages.save_figures(pages.named_figures(self.content), Path(folder))

    def _repr_html_(self) -> str:
        return self.rows[["rank", "task", "label", "status", "k_star", "low", "high", "efficiency"]].to_html(
            index=False
        )


def _label(row: Row) -> str:
    return label_of(row.method, row.params, row.submission)


def _settings(options: Mapping[str, Any]) -> Settings:
    settings = Settings.resolve(**options)
    prepare_environment(settings)
    return settings
