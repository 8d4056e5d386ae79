"""The command that runs sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lowdim_bench.cli.options import (
    Autoscaling,
    DataRoot,
    GpusPerWorker,
    Json,
    RayAddress,
    TrackingUri,
    Workers,
    command,
    complete_method,
    complete_task,
    refuse,
    resolve_settings,
)
from lowdim_bench.errors import UserError

if TYPE_CHECKING:
    from lowdim_bench.bench import SweepState
    from lowdim_bench.calibration.equivalence import Equivalence
    from lowdim_bench.methods import MethodChoice
    from lowdim_bench.settings import Settings
    from lowdim_bench.specs import Task

app = typer.Typer()


@command(app, "lowdim-bench run digits-mlp -m random_subspace -m burn_in_subspace,burn_in_steps=64")
def run(
    task: Annotated[
        list[str], typer.Argument(help="Names of shipped tasks, or paths to task files.", autocompletion=complete_task)
    ],
    method: Annotated[
        list[str],
        typer.Option(
            "--method",
            "-m",
            help="NAME[,key=value...] or a submission's folder; may be given several times.",
            autocompletion=complete_method,
        ),
    ],
    tracking_uri: TrackingUri = None,
    data_root: DataRoot = None,
    ray_address: RayAddress = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    autoscaling: Autoscaling = None,
    check_operator: Annotated[
        bool,
        typer.Option(
            "--check-operator", help="Then compare random_subspace's operator with dense Gaussian bases at k*."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Find the threshold training dimension of every method on every task. The same command goes on where one stopped."""
    from lowdim_bench.settings import quiet_stdout
    from lowdim_bench.specs import load_task

    loaded = [load_task(name) for name in task]
    settings = resolve_settings(
        tracking_uri=tracking_uri,
        data_root=data_root,
        ray_address=ray_address,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        autoscaling=autoscaling,
    )
    with quiet_stdout() as out:
        from lowdim_bench.cli import display
        from lowdim_bench.submissions import choose_method, credit_of

        chosen = [choose_method(text) for text in method]
        choices = [choice for _, choice in chosen]
        _refuse_repeats([one.name for one in loaded], [one.method_digest for one in choices], method)
        if check_operator:
            _refuse_nothing_to_check(choices)
        with display.progress(live=not json) as watch:
            from lowdim_bench.bench import run_sweeps

            credit = {choice.method_digest: credit_of(one) for one, choice in chosen if one}
            states = run_sweeps(settings, loaded, choices, watch, credit)
        failures = [f"{state.method} on {state.task}: {state.failure}" for state in states if state.failure]
        checks: list[Equivalence] = []
        if check_operator:
            try:
                checks = _check_operators(settings, loaded, choices, states, live=not json)
            except UserError as error:  # the thresholds are there all the same, and are shown
                failures.append(f"checking operators: {error}")
        display.show_states(states, out, as_json=json, checks=checks)
    if failures:
        kept = "Everything that finished is kept; put it right and run the same command again."
        refuse("\n".join([*failures, kept]))


def _refuse_nothing_to_check(choices: Sequence[MethodChoice]) -> None:
    from lowdim_bench.calibration.equivalence import REFERENCE, operator_of

    if not any(operator_of(choice) for choice in choices):
        raise UserError(
            f"--check-operator compares the operator of random_subspace with {REFERENCE}; "
            f"there is none to compare among {', '.join(choice.label for choice in choices)}."
        )


def _check_operators(
    settings: Settings, tasks: list[Task], choices: list[MethodChoice], states: list[SweepState], *, live: bool
) -> list[Equivalence]:
    """Of every sweep that did not fail; states come task by task."""
    from itertools import product

    from lowdim_bench.calibration.equivalence import check_sweeps
    from lowdim_bench.cli import display

    pairs = zip(product(tasks, choices), states, strict=True)
    sound = [(task, choice, state.estimate) for (task, choice), state in pairs if not state.failure]
    with display.counting("trainings to check operators", live=live) as advance:
        return check_sweeps(settings, sound, advance)


def _refuse_repeats(tasks: list[str], digests: list[str], methods: list[str]) -> None:
    """Two sweeps of one task and method would be one sweep with two drivers."""
    if len(set(tasks)) < len(tasks):
        raise UserError(f"A task is given twice: {', '.join(tasks)}. Give each once.")
    if len(set(digests)) < len(digests):
        raise UserError(f"A method is given twice with the same parameters: {', '.join(methods)}. Give each once.")
