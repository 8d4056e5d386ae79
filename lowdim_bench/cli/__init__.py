"""The command line: parse, call one function, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, ParamSpec

import typer

from lowdim_bench.errors import LowdimError, UserError

if TYPE_CHECKING:
    from lowdim_bench.bench import SweepState
    from lowdim_bench.calibration.equivalence import Equivalence
    from lowdim_bench.methods import MethodChoice
    from lowdim_bench.settings import Settings
    from lowdim_bench.specs import Task

_INTERRUPTED = 130
_REFUSED = 2
P = ParamSpec("P")

app = typer.Typer(
    name="lowdim-bench",
    help="How few degrees of freedom does it take to train a neural network? Measures, ranks, and shows the evidence.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
calibrate_app = typer.Typer(
    help="Check the benchmark itself against known answers.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(calibrate_app, name="calibrate")


def main() -> None:
    """The entry point of the installed script."""
    app()


def _command(group: typer.Typer, example: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register a command with an example under its help; turn the project's own errors into a bare message."""

    def register(function: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                function(*args, **kwargs)
            except LowdimError as error:
                _refuse(str(error))
            except KeyboardInterrupt:
                typer.echo("Interrupted. Finished trials are kept: the same command goes on from here.", err=True)
                raise typer.Exit(_INTERRUPTED) from None

        group.command(epilog=f"Example: {example}")(guarded)
        return function

    return register


def _refuse(message: str) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(_REFUSED)


def _complete_task(incomplete: str) -> list[str]:
    from lowdim_bench.specs import task_names

    return [name for name in task_names() if name.startswith(incomplete)]


def _complete_method(incomplete: str) -> list[str]:
    from lowdim_bench.methods import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text for people.")]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="MLflow store: sqlite:///FILE or http://HOST:PORT. [LOWDIM_BENCH_TRACKING_URI; default: ./mlflow.db]"
    ),
]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder of data sets, as torchvision lays them out. [LOWDIM_BENCH_DATA_ROOT]")
]
RayAddress = Annotated[
    str | None,
    typer.Option(help="A standing Ray cluster, HOST:PORT or auto. [LOWDIM_BENCH_RAY_ADDRESS; default: this machine]"),
]
Workers = Annotated[
    int | None, typer.Option(help="Worker processes. [LOWDIM_BENCH_WORKERS; default: one for each core or GPU]")
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(help="GPUs for each worker, may be a fraction; 0: CPU only. [LOWDIM_BENCH_GPUS_PER_WORKER]"),
]
Autoscaling = Annotated[
    bool | None,
    typer.Option("--autoscaling/--no-autoscaling", help="The cluster grows on demand. [LOWDIM_BENCH_AUTOSCALING]"),
]


def _settings(**options: object) -> Settings:
    from lowdim_bench.settings import Settings, prepare_environment

    settings = Settings.resolve(**options)  # type: ignore[arg-type]
    prepare_environment(settings)
    return settings


@_command(app, "lowdim-bench tasks --json")
def tasks(json: Json = False) -> None:
    """List the tasks that ship."""
    from lowdim_bench.cli import display
    from lowdim_bench.specs import load_task, task_names

    loaded = [load_task(name) for name in task_names()]
    display.show_tasks(loaded, sys.stdout, as_json=json)


@_command(app, "lowdim-bench methods --json")
def methods(json: Json = False) -> None:
    """List the methods and their parameters."""
    from lowdim_bench.cli import display
    from lowdim_bench.methods import METHODS, method_class

    display.show_methods({name: method_class(name) for name in METHODS}, sys.stdout, as_json=json)


@_command(app, "lowdim-bench schema > task.schema.json")
def schema(json: Json = False) -> None:
    """Print the JSON Schema of task files, for editors: pretty, or with --json on one line."""
    from json import dumps

    from lowdim_bench.specs import Task

    typer.echo(dumps(Task.model_json_schema(), indent=None if json else 2))


@_command(app, "lowdim-bench run digits-mlp -m random_subspace -m burn_in_subspace,burn_in_steps=64")
def run(
    task: Annotated[
        list[str], typer.Argument(help="Names of shipped tasks, or paths to task files.", autocompletion=_complete_task)
    ],
    method: Annotated[
        list[str],
        typer.Option(
            "--method",
            "-m",
            help="NAME[,key=value...] or a submission's folder; may be given several times.",
            autocompletion=_complete_method,
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
    settings = _settings(
        tracking_uri=tracking_uri,
        data_root=data_root,
        ray_address=ray_address,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        autoscaling=autoscaling,
    )
    with quiet_stdout() as out:
        from lowdim_bench.cli import display
        from lowdim_bench.submissions import choose_method

        choices = [choose_method(text) for text in method]
        _refuse_repeats([one.name for one in loaded], [one.method_digest for one in choices], method)
        if check_operator:
            _refuse_nothing_to_check(choices)
        with display.progress(live=not json) as watch:
            from lowdim_bench.bench import run_sweeps

            states = run_sweeps(settings, loaded, choices, watch)
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
        _refuse("\n".join([*failures, kept]))


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


@_command(app, "lowdim-bench rank --json")
def rank(
    task: Annotated[list[str] | None, typer.Argument(help="Only these tasks.", autocompletion=_complete_task)] = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Rank the methods by parameter efficiency D / k*, with intervals and evidence."""
    from lowdim_bench.settings import quiet_stdout

    settings = _settings(tracking_uri=tracking_uri)
    with quiet_stdout() as out:
        from lowdim_bench.cli import display

        with display.busy("Reading what is recorded ...", live=not json):
            from lowdim_bench.leaderboard import build_board
            from lowdim_bench.tracking import Store

            with Store(settings) as store:
                sweeps = store.sweeps()
        wanted = set(task or [])
        known = sorted({sweep.task.name for sweep in sweeps})
        if missing := sorted(wanted - set(known)):
            raise UserError(
                f"Nothing is recorded for {', '.join(missing)} in {settings.shown_tracking_uri}. "
                f"Recorded: {', '.join(known) or '(nothing yet)'}. Run it first: "
                f"lowdim-bench run {missing[0]} -m random_subspace"
            )
        display.show_board(build_board([s for s in sweeps if not wanted or s.task.name in wanted]), out, as_json=json)


@_command(calibrate_app, "lowdim-bench calibrate wells --tracking-uri sqlite:///wells.db")
def wells(
    tracking_uri: TrackingUri = None,
    ray_address: RayAddress = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Measure fifteen quadratic wells and hold their thresholds against theory. Takes some minutes."""
    from lowdim_bench.settings import quiet_stdout

    settings = _settings(tracking_uri=tracking_uri, ray_address=ray_address, workers=workers)
    with quiet_stdout() as out:
        from lowdim_bench.calibration.wells import compare_wells, measure_wells
        from lowdim_bench.cli import display

        with display.progress(live=not json) as watch:
            states = measure_wells(settings, watch)
        with display.counting("wells compared", live=not json) as advance:
            rows = compare_wells(states, advance)
        display.show_wells(rows, out, as_json=json)
    if not all(row.agrees for row in rows):
        _refuse(f"{sum(not row.agrees for row in rows)} of {len(rows)} thresholds disagree with theory.")


@_command(calibrate_app, "lowdim-bench calibrate coverage --sweeps 200")
def coverage(
    sweeps: Annotated[int, typer.Option(min=10, max=100_000, help="Simulated sweeps for each case.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation.")] = 0,
    json: Json = False,
) -> None:
    """Simulate whole sweeps with known thresholds: how often do intervals cover them, after how many trainings?"""
    from lowdim_bench.calibration.coverage import coverage_table
    from lowdim_bench.cli import display

    with display.counting("sweeps", live=not json) as advance:
        rows = coverage_table(sweeps, seed, advance)
    display.show_coverage(rows, sys.stdout, as_json=json)


@_command(calibrate_app, "lowdim-bench calibrate operators digits-mlp --operator hadamard")
def operators(
    task: Annotated[
        str, typer.Argument(help="Name of a shipped task, or path to a task file.", autocompletion=_complete_task)
    ],
    operator: Annotated[
        list[str] | None, typer.Option(help="May be given several times. [default: the task's default operator]")
    ] = None,
    k: Annotated[
        list[int] | None, typer.Option(min=1, help="Where to compare; several times. [default: about the threshold]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, max=10_000, help="Trainings at each k.")] = 40,
    data_root: DataRoot = None,
    json: Json = False,
) -> None:
    """Does an operator stand in for a dense Gaussian basis? Factors on k that bring both to the same loss, seed by seed."""
    from lowdim_bench.settings import quiet_stdout
    from lowdim_bench.specs import load_task

    loaded = load_task(task)
    settings = _settings(data_root=data_root)
    with quiet_stdout() as out:
        from lowdim_bench.calibration.equivalence import check_operators
        from lowdim_bench.cli import display

        with display.counting("trainings", live=not json) as advance:
            rows = check_operators(loaded, settings.data_root, operator, k, seeds, advance)
        display.show_equivalence(rows, out, as_json=json)
    if names := [row.operator for row in rows if row.verdict == "no"]:
        _refuse(f"{', '.join(names)} needs another k than a dense Gaussian basis on {loaded.name}.")
