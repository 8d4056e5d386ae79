"""What operators cost: time forward and transposed, memory, and the largest case in a process of its own.

    python -m benchmarks.operators
    python -m benchmarks.operators --memory

Times are CPU milliseconds a trial in a pack, one thread, medians over rounds in which all operators take turns; ratios are
to the signed hash, round by round. "hash in torch" is the same map with an int64 index and a float a coordinate, as it was
before it had kernels of its own. A stored matrix that would not fit is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from lowdim_bench.parametrizations import RANDOM_OPERATORS, AffineSubspace, Operator, Pack, SignedHash
from lowdim_bench.parametrizations.operators import pack
from lowdim_bench.threads import use_one_thread

CPU = torch.device("cpu")
SIZES = ((2_410, 16, 64), (2_410, 256, 64), (2_410, 2048, 16), (199_210, 16, 16), (199_210, 256, 16), (199_210, 2048, 4),
         (1_000_000, 1_000, 1), (11_000_000, 10_000, 1))  # fmt: skip
"""(D, k, trials in the pack): digits-mlp, mnist-mlp, and beyond."""
LARGEST = SIZES[-1][:2]
OPERATORS = ("signed_hash", "hash in torch", "sparse_signs", "shared_gaussian", "hadamard", "fastfood", "gaussian")
_LARGEST_MATRIX_BYTES = 2_000_000_000

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One operator at one size. Times are in milliseconds a trial, spread (lowest, highest) over rounds."""

    full_dimension: int
    k: int
    pack: int
    operator: str
    forward: float
    adjoint: float
    ratio: float
    """Time both ways over that of the signed hash: median over rounds."""
    ratio_low: float
    ratio_high: float
    stored_megabytes: float
    """Tensors that decide the maps of the pack, a basis that trials share counted once."""
    rounds: int


def hash_in_torch(operators: Sequence[SignedHash]) -> tuple[Map, Map, int]:
    """The signed hash by gather and scatter: forward, adjoint, bytes stored."""
    width = operators[0].k
    bucket = torch.stack([operator.code[0].long() >> 1 for operator in operators])
    sign = torch.stack([1.0 - 2.0 * (operator.code[0] & 1) for operator in operators])
    scale = sign * torch.stack([operator.scale(width)[row] for operator, row in zip(operators, bucket, strict=True)])

    def adjoint(weights: Tensor) -> Tensor:
        return weights.new_zeros(len(weights), width).scatter_add_(1, bucket, weights * scale)

    return lambda theta: theta.gather(1, bucket).mul_(scale), adjoint, bucket.nbytes + scale.nbytes


def maps_of(name: str, k: int, full_dimension: int, count: int) -> tuple[Map, Map, int] | None:
    """Forward and adjoint of a pack, and the bytes that are stored; None for a matrix that would be too large."""
    matrices = {"gaussian": count, "shared_gaussian": 1}.get(name, 0)
    if 4 * k * full_dimension * matrices > _LARGEST_MATRIX_BYTES:
        return None
    if name == "hash in torch":
        return hash_in_torch([SignedHash(k, full_dimension, seed, CPU) for seed in range(count)])
    operators: list[Operator] = [RANDOM_OPERATORS[name](k, full_dimension, seed, CPU) for seed in range(count)]
    packed = pack(operators)
    bases = [sum(tensor.nbytes for key, tensor in one.tensors().items() if key == "basis") for one in operators[:1]]
    own = sum(tensor.nbytes for one in operators for key, tensor in one.tensors().items() if key != "basis")
    return packed.forward, packed.adjoint, own + sum(bases)


def measure(full_dimension: int, k: int, count: int, rounds: int) -> Iterator[Row]:
    """All operators in turns at one size."""
    maps = {name: made for name in OPERATORS if (made := maps_of(name, k, full_dimension, count)) is not None}
    theta, weights = torch.randn(count, k), torch.randn(count, full_dimension)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in maps}
    for turn in range(rounds + 1):
        for name, (forward, adjoint, _) in maps.items():
            pair = _milliseconds(forward, theta) / count, _milliseconds(adjoint, weights) / count
            if turn:  # the first one warms up
                times[name].append(pair)
    for name, pairs in times.items():
        ratios = [sum(own) / sum(reference) for own, reference in zip(pairs, times["signed_hash"], strict=True)]
        forward, adjoint = (statistics.median(column) for column in zip(*pairs, strict=True))
        yield Row(full_dimension, k, count, name, forward, adjoint, statistics.median(ratios), min(ratios), max(ratios),
                  maps[name][2] / 1e6, rounds)  # fmt: skip


def _milliseconds(function: Map, argument: Tensor, least: float = 0.02) -> float:
    """CPU milliseconds of a call, over as many as take a while."""
    calls, began = 0, time.process_time()
    while (spent := time.process_time() - began) < least:
        function(argument)
        calls += 1
    return 1e3 * spent / calls


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process that draws a signed hash and applies it both ways, in 1e6 bytes."""

    full_dimension: int
    k: int
    libraries: float
    parameters: float
    beyond: float
    """What the peak added to the two: operator, the mapped weights, the pulled-back gradient, and all that is temporary."""


def projection_memory(full_dimension: int, k: int) -> Memory:
    """Measured in this process, which should be a fresh one: what it once held and gave back would hide the peak."""
    tiny = Pack.of([AffineSubspace(torch.ones(9), SignedHash(2, 9, 0, CPU))])
    tiny.pull_back(torch.ones(1, 2), tiny.map(torch.ones(1, 2)))  # loads the compiled kernels
    libraries = _resident("VmRSS")
    parameters = torch.ones(full_dimension)
    before = _resident("VmRSS")
    whole = Pack.of([AffineSubspace(parameters, SignedHash(k, full_dimension, 0, CPU))])
    theta = torch.ones(1, k)
    whole.pull_back(theta, whole.map(theta))
    return Memory(full_dimension, k, libraries, before - libraries, _resident("VmHWM") - before)


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(field))


def memory_of_a_fresh_process(full_dimension: int, k: int) -> Memory:
    """`projection_memory` in a child."""
    command = [sys.executable, "-m", "benchmarks.operators", "--child", str(full_dimension), str(k)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return Memory(**json.loads(done.stdout))


def main(arguments: Sequence[str]) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="only the memory of the largest case")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=int, nargs=2, metavar=("D", "k"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    use_one_thread()
    if options.child:
        _print(asdict(projection_memory(*options.child)), as_json=True)
        return
    for size in () if options.memory else SIZES:
        for row in measure(*size, options.rounds):
            _print(asdict(row), as_json=options.json)
    _print(asdict(memory_of_a_fresh_process(*LARGEST)), as_json=options.json)


def _print(values: dict[str, object], *, as_json: bool) -> None:
    shown = (f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items())
    sys.stdout.write((json.dumps(values) if as_json else ", ".join(shown)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
