"""Trial-steps per CPU second: packs of the engine beside the loops that one would write instead, in one run.

    python -m benchmarks.throughput digits-mlp --k 16 256 --pack 64 --pairs 5

Rounds of all loops alternate, and ratios are taken within a round, since the machine's speed drifts. One thread each. The
engine trains what a user gets, the default random map; the others have a dense Gaussian basis, which the engine has
too with `-m random_subspace,operator=gaussian`. A ratio is that of the whole design, map and engine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import engine_pack
from benchmarks.ceiling import blas_kernels, matrix_product_gflops, network_flop
from benchmarks.contest import Contest, Loop
from benchmarks.loops import LOOPS, build_loop
from lowdim_bench.methods import MethodChoice, parse_choice
from lowdim_bench.settings import Settings
from lowdim_bench.threads import use_one_thread

_WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Spread:
    """Median and range of n values."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}..{self.high:.3g}, n = {self.n})"


@dataclass(frozen=True)
class Result:
    """What was measured at one k. Rates are trial-steps per CPU second; ratios are the engine's rate over another's."""

    task: str
    method: str
    k: int
    full_dimension: int
    pack: int
    """Trials given to the engine at once; on a CPU it trains no more of them side by side than its caches hold."""
    steps: int
    """Of the engine in each round."""
    other_steps: Mapping[str, int]
    network_mflop: float
    """Millions of operations in the matrix products of one trial-step."""
    blas_kernels: str
    """What SciPy's BLAS takes the processor for."""
    ceiling_gflops: Spread
    rates: Mapping[str, Spread]
    ratios: Mapping[str, Spread]
    shares: Mapping[str, Spread]
    """Of the ceiling, within the same round."""


def loop_rate(loop: Loop, k: int, replicate: int, steps: int) -> float:
    """Trial-steps per CPU second of one training, without its start."""
    training = loop.begin(k, replicate)
    training.advance(_WARM_UP_STEPS)
    began = time.process_time()
    training.advance(steps)
    return steps / (time.process_time() - began)


def measure(
    contest: Contest,
    loops: Sequence[Loop],
    method: MethodChoice,
    k: int,
    pack: int,
    steps: Mapping[str, int],
    rounds: int,
) -> Result:
    """Alternate the engine and the loops `rounds` times, after a round that warms up."""
    subspaces = engine_pack.prepared(contest, method, k, pack)
    flop = network_flop(contest.problem.blocks, contest.problem.inputs.shape[1:], contest.batch_size)
    names = ["engine", *(loop.name for loop in loops)]
    rates: dict[str, list[float]] = {name: [] for name in names}
    ceilings = []
    for number in range(rounds + 1):
        seen = {loop.name: loop_rate(loop, k, number, steps[loop.name]) for loop in loops}
        seen["engine"] = pack * steps["engine"] / engine_pack.seconds_of_steps(contest, subspaces, steps["engine"])
        if number:
            ceilings.append(matrix_product_gflops())
            for name, rate in seen.items():
                rates[name].append(rate)
    return Result(
        task=contest.task.name,
        method=method.label,
        k=k,
        full_dimension=contest.full_dimension,
        pack=pack,
        steps=steps["engine"],
        other_steps={loop.name: steps[loop.name] for loop in loops},
        network_mflop=flop / 1e6,
        blas_kernels=blas_kernels(),
        ceiling_gflops=Spread.of(ceilings),
        rates={name: Spread.of(rates[name]) for name in names},
        ratios={name: Spread.of(_ratios(rates["engine"], rates[name])) for name in names[1:]},
        shares={name: Spread.of(_ratios([rate * flop / 1e9 for rate in rates[name]], ceilings)) for name in names},
    )


def _ratios(ones: Sequence[float], twos: Sequence[float]) -> list[float]:
    return [one / two for one, two in zip(ones, twos, strict=True)]


def describe(result: Result) -> str:
    """For people."""
    title = f"{result.task} (D = {result.full_dimension:,}) k = {result.k}, {result.method}, pack of {result.pack}"
    lines = [
        f"{title}; {result.network_mflop:.3g} MFLOP a step",
        f"  matrix products: {result.ceiling_gflops} GFLOP/s; OpenBLAS has its kernels for {result.blas_kernels}",
    ]
    for name, rate in result.rates.items():
        ratio = f"; engine / {name}: {result.ratios[name]}" if name in result.ratios else ""
        lines.append(f"  {name}: {rate} trial-steps per CPU second; share of the ceiling {result.shares[name]}{ratio}")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--k", type=int, nargs="+", default=[256])
    parser.add_argument("--pack", type=int, default=16, help="trials in the engine's pack")
    parser.add_argument("--steps", type=int, default=50, help="steps of the engine in each round")
    parser.add_argument("--other-steps", type=int, default=None, help="steps of the other loops; default: as many")
    parser.add_argument("--pairs", type=int, default=5, help="rounds; in each every loop runs once")
    parser.add_argument("--against", nargs="*", choices=list(LOOPS), default=list(LOOPS))
    parser.add_argument(
        "--method", "-m", default="random_subspace", help="what the engine trains, as for lowdim-bench run"
    )
    parser.add_argument("--data-root", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    use_one_thread()
    contest = Contest.load(options.task, Settings.resolve(data_root=options.data_root).data_root)
    loops = [build_loop(name, contest) for name in options.against]
    steps = {loop.name: options.other_steps or options.steps for loop in loops} | {"engine": options.steps}
    for k in options.k:
        result = measure(contest, loops, parse_choice(options.method), k, options.pack, steps, options.pairs)
        sys.stdout.write(json.dumps(asdict(result)) + "\n" if options.json else describe(result))
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
