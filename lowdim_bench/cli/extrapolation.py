"""The part of `estimate` that asks nothing of this machine."""

from __future__ import annotations

from collections.abc import Sequence

from lowdim_bench.errors import UserError

IMAGENET = "imagenet-resnet50"
"""A workload that no task file describes: its data cannot be had without a contract, nor held in memory."""


def extrapolate_tasks(
    names: Sequence[str],
    device: str,
    workers: int,
    sweeps: int,
    trials_per_round: int | None,
    *,
    as_json: bool,
) -> None:
    """Print what each task would take. Raises `UserError` for tasks and devices that are not known."""
    from lowdim_bench.settings import quiet_stdout
    from lowdim_bench.specs import load_task

    if not names:
        raise UserError(
            f"Give one or more tasks: lowdim-bench estimate {IMAGENET} --device {device} --workers {workers}"
        )
    tasks = {name: None if name == IMAGENET else load_task(name) for name in names}
    with quiet_stdout() as out:
        from lowdim_bench.cli import display, reports
        from lowdim_bench.forecast.extrapolation import IMAGENET_THRESHOLD, extrapolate
        from lowdim_bench.forecast.machines import machine
        from lowdim_bench.forecast.workloads import imagenet_resnet50, workload

        on, rows = machine(device), []
        for name, task in tasks.items():
            work = imagenet_resnet50() if task is None else workload(task)
            threshold = IMAGENET_THRESHOLD if task is None else task.threshold
            if trials_per_round is not None:
                threshold = threshold.model_copy(update={"trials_per_round": trials_per_round})
            with display.counting(f"{name}: simulated clusters", live=not as_json) as advance:
                rows.append(extrapolate(work, threshold, on, workers, sweeps, advance))
        reports.show_extrapolations(rows, out, as_json=as_json)
