"""How the experiment shows itself in MLflow's own interface: its description, and a saved view that is a leaderboard."""

from __future__ import annotations

import json
import time

from lowdim_bench.tracking import keys

DESCRIPTION = (
    "Sweeps of lowdim-bench: how few numbers does a method train until it reaches a task's target? One run for each task and "
    "method; **k_star** is the threshold training dimension, **parameter_efficiency** is D / k*. Compare runs of one task "
    "only: the view *Leaderboard* has the columns, `lowdim-bench rank` the ranks with their intervals."
)
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


def experiment_tags() -> dict[str, str]:
    """Tags for a new experiment. The view is linked as `?viewStateShareKey=leaderboard` of its page of runs."""
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
    return {keys.NOTE: DESCRIPTION, "mlflow.sharedViewState.leaderboard": json.dumps(view)}
