"""Cost against k, D and the number of trials: the engine beside the loops that one would write, as one figure.

    python -m benchmarks.cost --figure cost.png

Three panels: CPU time of a trial-step against k on a task as it ships; against D, on the task's data with one hidden layer of
several widths at one k; and CPU time of N trials of a few steps each, with all that comes once (drawing the basis, compiling).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import altair as alt

from benchmarks import engine_pack
from benchmarks.contest import Contest
from benchmarks.loops import LOOPS, build_loop
from benchmarks.throughput import loop_rate
from lowdim_bench.figures import style
from lowdim_bench.methods import MethodChoice, parse_choice
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task
from lowdim_bench.specs.problem import Classification, MlpNetwork
from lowdim_bench.threads import use_one_thread

PANELS = {
    "k": ("training dimension k", "CPU ms a trial-step"),
    "full_dimension": ("full dimension D", "CPU ms a trial-step"),
    "trials": ("number of trials", "CPU seconds of all trials"),
}


@dataclass(frozen=True)
class Point:
    """One point of one curve: median and range over the rounds, in the unit of its panel."""

    panel: str
    loop: str
    x: int
    median: float
    low: float
    high: float
    rounds: int


def wide(task: Task, hidden: int) -> Task:
    """The task with one hidden layer of another width."""
    assert isinstance(task.problem, Classification)
    problem = task.problem.model_copy(update={"network": MlpNetwork(kind="mlp", hidden=(hidden,))})
    return task.model_copy(update={"problem": problem})


class Costs:
    """Measures points. All loops take turns within a round."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._loops: Sequence[str] = options.against
        self._method: MethodChoice = parse_choice(options.method)
        self._pack: int = options.pack
        self._steps: int = options.steps
        self._rounds: int = options.rounds

    def of_a_step(self, panel: str, contest: Contest, x: int, k: int) -> Iterator[Point]:
        """CPU milliseconds of a trial-step at one k."""
        subspaces = engine_pack.prepared(contest, self._method, k, self._pack)
        measures: dict[str, Callable[[int], float]] = {
            "engine": lambda _: engine_pack.seconds_of_steps(contest, subspaces, self._steps) / self._steps / self._pack
        }
        for name in self._loops:
            loop = build_loop(name, contest)
            measures[loop.name] = lambda number, loop=loop: 1 / loop_rate(loop, k, number, self._steps)
        yield from self._points(panel, x, {name: _scaled(measure, 1e3) for name, measure in measures.items()})

    def of_trials(self, contest: Contest, count: int, k: int) -> Iterator[Point]:
        """CPU seconds of `count` trainings from nothing."""
        measures = {"engine": lambda _: self._engine_trials(contest, count, k)}
        for name in self._loops:
            # A fresh loop each time, since JAX compiles once a loop.
            measures[build_loop(name, contest).name] = lambda _, name=name: self._loop_trials(name, contest, count, k)
        yield from self._points("trials", count, measures)

    def _engine_trials(self, contest: Contest, count: int, k: int) -> float:
        began = time.process_time()
        for done in range(0, count, self._pack):
            subspaces = engine_pack.prepared(contest, self._method, k, min(self._pack, count - done))
            engine_pack.seconds_of_steps(contest, subspaces, self._steps)
        return time.process_time() - began

    def _loop_trials(self, name: str, contest: Contest, count: int, k: int) -> float:
        loop = build_loop(name, contest)
        began = time.process_time()
        for replicate in range(count):
            loop.begin(k, replicate).advance(self._steps)
        return time.process_time() - began

    def _points(self, panel: str, x: int, measures: dict[str, Callable[[int], float]]) -> Iterator[Point]:
        seen: dict[str, list[float]] = {name: [] for name in measures}
        for number in range(self._rounds + 1):
            for name, measure in measures.items():
                value = measure(number)
                if number:  # the first round warms up
                    seen[name].append(value)
        for name, values in seen.items():
            yield Point(panel, name, x, statistics.median(values), min(values), max(values), len(values))


def _scaled(measure: Callable[[int], float], factor: float) -> Callable[[int], float]:
    return lambda number: factor * measure(number)


def draw(points: Sequence[Point], title: str, path: Path) -> None:
    """The figure: a panel each, logarithmic axes, bands from the fastest to the slowest round."""
    rows = [asdict(point) for point in points]
    panels = alt.hconcat(*(_panel([row for row in rows if row["panel"] == panel], panel) for panel in PANELS))
    path.write_bytes(style.render(style.finished(panels, title), path.suffix.removeprefix(".")))


def _panel(rows: style.Rows, panel: str) -> style.Figure:
    x_title, y_title = PANELS[panel]
    xs = [row["x"] for row in rows]
    lowest, highest = min(row["low"] for row in rows), max(row["high"] for row in rows)
    base = alt.Chart(style.values(rows)).encode(
        x=style.log_x("x", x_title, min(xs), max(xs)),
        color=alt.Color("loop:N", title=None, scale=alt.Scale(range=style.PALETTE)),
    )
    band = base.mark_area(opacity=0.2).encode(y=style.log_y("low", y_title, lowest, highest), y2="high:Q")
    line = base.mark_line(point=True).encode(y=style.log_y("median", y_title, lowest, highest))
    return band + line


def measure_all(options: argparse.Namespace, contest: Contest, root: Path) -> Iterator[Point]:
    """Every point of every panel."""
    costs = Costs(options)
    for k in options.k:
        yield from costs.of_a_step("k", contest, k, k)
    for hidden in options.hidden:
        other = Contest.of(wide(contest.task, hidden), root)
        yield from costs.of_a_step("full_dimension", other, other.full_dimension, options.fixed_k)
    for count in options.trials:
        yield from costs.of_trials(contest, count, options.fixed_k)


def main(arguments: Sequence[str]) -> None:
    """Parse, measure, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="?", default="digits-mlp")
    parser.add_argument("--k", type=int, nargs="+", default=[4, 16, 64, 256, 1024, 2048])
    parser.add_argument("--hidden", type=int, nargs="+", default=[8, 32, 128, 512, 2048], help="widths, for D")
    parser.add_argument("--trials", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--fixed-k", type=int, default=64, help="k where something else is varied")
    parser.add_argument("--pack", type=int, default=32, help="trials in the engine's pack, at most")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", nargs="*", choices=LOOPS, default=list(LOOPS))
    parser.add_argument("--method", "-m", default="random_subspace")
    parser.add_argument("--figure", type=Path, default=Path("cost.png"), help="a file that ends in .png or .svg")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.figure.suffix not in {".png", ".svg"}:
        parser.error(f"--figure must end in .png or .svg; got {str(options.figure)!r}")
    use_one_thread()
    root = Settings.resolve(data_root=options.data_root).data_root
    contest = Contest.load(options.task, root)
    points = []
    for point in measure_all(options, contest, root):
        points.append(point)
        if not options.json:
            value = f"{point.median:.4g} ({point.low:.4g}..{point.high:.4g}, n = {point.rounds})"
            sys.stdout.write(f"{point.panel} = {point.x:,}, {point.loop}: {value} {PANELS[point.panel][1]}\n")
            sys.stdout.flush()
    details = f"k = {options.fixed_k} where not varied, packs of up to {options.pack}, {options.steps} steps"
    draw(points, f"{options.task}, {options.method}, one thread; {details}", options.figure)
    if options.json:
        record = {"task": options.task, "figure": str(options.figure), "points": [asdict(point) for point in points]}
        sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
