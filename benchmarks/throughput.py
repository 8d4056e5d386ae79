"""Trial-steps per CPU second: packs of the engine against the loop that one would write first, side by side.

    python benchmarks/throughput.py digits-mlp --k 256 --pack 64 --pairs 5

The other loop trains one trial at a time with torch.func.functional_call, a dense Gaussian basis, autograd and
torch.optim.Adam, on the same batches at the same recipe. Pairs alternate; ratios are taken pair by pair, since the machine's
speed drifts. One thread each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lowdim_bench import problems
from lowdim_bench.engine import Span, train
from lowdim_bench.parametrizations import AffineSubspace, DenseBasis, SignedHash
from lowdim_bench.problems import BatchOrder, Ledger, MeteredProblem
from lowdim_bench.problems.classification import ClassificationProblem
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task, load_task
from lowdim_bench.specs.problem import Classification, ConvNetwork, MlpNetwork


@dataclass(frozen=True)
class Result:
    """What was measured: trial-steps per CPU second of each loop, and ratios pair by pair."""

    task: str
    k: int
    pack: int
    packed: float
    plain: float
    ratios: tuple[float, ...]
    ratio: float
    matrix_product_gflops: float


def plain_network(task: Task, inputs: Tensor, classes: int) -> nn.Module:
    """The task's network as torch modules. Raises ValueError for a network that is neither an MLP nor a plain conv net."""
    assert isinstance(task.problem, Classification)
    spec = task.problem.network
    layers: list[nn.Module] = []
    if isinstance(spec, MlpNetwork):
        widths = [inputs[0].numel(), *spec.hidden]
        layers.append(nn.Flatten())
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
    if isinstance(spec, ConvNetwork):
        channels, side = [inputs.shape[1], *spec.channels], inputs.shape[2]
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
            side //= 2
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * side * side, classes))
    raise ValueError(f"no plain counterpart for a {spec.kind}")


def plain_loop(task: Task, inputs: Tensor, labels: Tensor, order: BatchOrder, k: int, steps: int) -> float:
    """CPU seconds of `steps` steps of one trial."""
    network = plain_network(task, inputs, int(labels.max()) + 1)
    start = {name: value.detach() for name, value in network.named_parameters()}
    shapes = {name: value.shape for name, value in start.items()}
    origin = torch.cat([value.flatten() for value in start.values()])
    basis = torch.randn(len(origin), k)
    basis /= basis.norm(dim=0)
    theta = torch.zeros(k, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=task.training.learning_rate.at(k))
    sizes = [value.numel() for value in start.values()]
    began = time.process_time()
    for step in range(steps):
        examples = order.examples(step)
        assert examples is not None
        weights = (origin + basis @ theta).split(sizes)
        parameters = {name: part.view(shapes[name]) for name, part in zip(shapes, weights, strict=True)}
        logits = functional_call(network, parameters, (inputs[examples[0]],))
        loss = nn.functional.cross_entropy(logits, labels[examples[0]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.process_time() - began


def packed_loop(task: Task, problem: problems.Problem, k: int, pack: int, steps: int, *, dense: bool) -> float:
    """CPU seconds of `steps` steps of a pack of trials in the engine."""
    cpu = torch.device("cpu")
    draw = DenseBasis.gaussian if dense else SignedHash
    dimension = problem.full_dimension
    subspaces = [AffineSubspace(problem.initial(r), draw(k, dimension, r, cpu)) for r in range(pack)]
    metered = MeteredProblem(problem, range(pack), [Ledger() for _ in range(pack)])
    began = time.process_time()
    train(metered, subspaces, task.training, [task.training.learning_rate.at(k)] * pack, Span(0, steps))
    return time.process_time() - began


def matrix_product_gflops(size: int = 1024, repeats: int = 5) -> float:
    """The machine's single-thread float32 matrix-product rate: the ceiling that either loop works under."""
    one, two = torch.randn(size, size), torch.randn(size, size)
    best = min(_seconds(lambda: one @ two) for _ in range(repeats))
    return 2 * size**3 / best / 1e9


def _seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def measure(name: str, k: int, pack: int, steps: int, pairs: int, data_root: Path, *, dense: bool) -> Result:
    """Alternate the two loops `pairs` times, after a warm-up of each."""
    task = load_task(name)
    problem = problems.build(task, problems.load_arrays(task, data_root))
    if not isinstance(problem, ClassificationProblem):
        raise SystemExit(f"{name} has no examples; choose a classification task")
    inputs, labels = problem.inputs, problem.labels
    packed_rates, plain_rates = [], []
    for pair in range(pairs + 1):
        order = BatchOrder(problem, [pair], task.training.batch_size)
        plain = steps / plain_loop(task, inputs, labels, order, k, steps)
        packed = pack * steps / packed_loop(task, problem, k, pack, steps, dense=dense)
        if pair:  # the first pair warms up
            plain_rates.append(plain)
            packed_rates.append(packed)
    ratios = tuple(one / two for one, two in zip(packed_rates, plain_rates, strict=True))
    middle = statistics.median
    return Result(
        name, k, pack, middle(packed_rates), middle(plain_rates), ratios, middle(ratios), matrix_product_gflops()
    )


def main(arguments: Sequence[str]) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--k", type=int, nargs="+", default=[256])
    parser.add_argument("--pack", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--dense", action="store_true", help="a dense basis in the engine too, one for each trial")
    parser.add_argument("--data-root", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    root = Settings.resolve(data_root=options.data_root).data_root
    for k in options.k:
        result = measure(options.task, k, options.pack, options.steps, options.pairs, root, dense=options.dense)
        if options.json:
            sys.stdout.write(json.dumps(asdict(result)) + "\n")
            continue
        sys.stdout.write(
            f"{result.task} k={k} pack={result.pack}: {result.packed:,.0f} trial-steps per CPU second, plain loop "
            f"{result.plain:,.0f}; ratio {result.ratio:.1f} ({min(result.ratios):.1f}..{max(result.ratios):.1f}, "
            f"{len(result.ratios)} pairs); matrix products {result.matrix_product_gflops:.0f} GFLOP/s\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
