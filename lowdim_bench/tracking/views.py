"""How the experiment shows itself in MLflow's own interface: its description, and a saved view that is a leaderboard."""

from __future__ import annotations

import json
import time

from lowdim_bench.tracking import keys

DESCRIPTION = (
    "Sweeps of lowdim-bench: how few numbers does a method train until it reaches a task's target? One run for each task and "
    "method; **k_star** is the threshold training dimension, **parameter_efficiency** is D / k*. Compare runs of one task "
    "only: the view [Leaderboard](/leaderboard/runs) has the columns; the [leaderboard](/leaderboard) of `lowdim-bench serve`, "
    "and `lowdim-bench rank`, have the ranks with their intervals and figures."
)
"""Its links lead to routes of the same server, see `lowdim_bench.pages.site`; elsewhere they lead nowhere."""
CLAIMS_DESCRIPTION = (
    "Published claims as `lowdim-bench reproduce` measures them: one run for each claim and scale, **verdict.json** says what "
    "it came to. The [scoreboard](/leaderboard#claims) of `lowdim-bench serve` shows all of them."
)
VIEW = "leaderboard"
COLUMNS = (
    f"tags.`{keys.TASK}`",
    f"tags.`{keys.METHOD}`",
    f"tags.`{keys.TRACK}`",
    f"tags.`{keys.STATUS}`",
    "metrics.`k_star`",
    "metrics.`k_star_low`",
    "metrics.`k_star_high`",
    "metrics.`parameter_efficiency`",
    "metrics.`hits`",
    "metrics.`trials`",
    "metrics.`side_information_bits`",
    "metrics.`preparation_gradient_evaluations`",
)


def experiment_tags(experiment: str) -> dict[str, str]:
    """Tags for a new experiment."""
    if experiment == keys.CLAIMS_EXPERIMENT:
        return {keys.NOTE: CLAIMS_DESCRIPTION}
    now = int(time.time() * 1000)
    state = {
        "searchFilter": "",
        "orderByKey": "metrics.`parameter_efficiency`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": list(COLUMNS),
    }
    view = {"name": "Leaderboard", "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
    return {keys.NOTE: DESCRIPTION, f"mlflow.sharedViewState.{VIEW}": json.dumps(view)}


def saved_view(experiment: str) -> str:
    """The address of the view below that of MLflow's interface. Nothing may be added to it: a filter or an order in the address
    replaces the view."""
    return f"#/experiments/{experiment}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"


def described(sentence: str, run_id: str) -> str:
    """The description of a run: a sentence, and the way back to its row."""
    return f"{sentence}\n\n[Its row on the leaderboard](/leaderboard#row-{run_id}) of `lowdim-bench serve`"
