"""What verifying a certificate costs beside the training that it certifies, in processor time.

    python -m benchmarks.verify_share mnist-conv2 --ks 4096 512 --data-root DATA
    python -m benchmarks.verify_share mnist-conv2 --ks 4096 512 --data-root DATA --sample 0.25     # a spot check

For each k, trains replicate after replicate by the harness's own code, and verifies each certificate right after its training,
until there are as many pairs as asked; the ks take turns. A training that does not reach its target has no certificate, and
counts for neither. The data is loaded once, for both.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from lowdim_bench import problems
from lowdim_bench.methods import MethodChoice, parse_choice
from lowdim_bench.problems import Problem
from lowdim_bench.records import Trial
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task, load_task
from lowdim_bench.threads import use_one_thread
from lowdim_bench.trial import run_pack
from lowdim_bench.verification.evidence import examine


@dataclass(frozen=True)
class Pair:
    """One training and the verification of its certificate, in seconds of processor time."""

    k: int
    replicate: int
    steps: int
    training: float
    verifying: float
    audit: float
    """Of `verifying`: measuring the degrees of freedom again."""

    @property
    def share(self) -> float:
        return self.verifying / self.training


def measure(
    problem: Problem, task: Task, method: MethodChoice, k: int, replicate: int, sample: float = 1.0
) -> Pair | None:
    """One pair; None where the training did not reach the ranked target. Raises RuntimeError where its certificate is wrong."""
    kept: dict[str, bytes] = {}
    began = time.process_time()
    (result,) = run_pack(problem, task, method, [Trial(k=k, replicate=replicate, round=0)], kept.__setitem__)
    training = time.process_time() - began
    if result.certificate is None:
        return None
    began = time.process_time()
    examined = examine(kept[result.certificate], result, task, method, method.method_digest, problem, sample)
    verifying = time.process_time() - began
    if examined.findings or examined.checked is None:
        raise RuntimeError(f"the certificate of {result.trial.key} is not right: {examined.findings}")
    return Pair(k, replicate, result.trained_steps, training, verifying, examined.checked.audit_cpu_seconds)


def collect(
    problem: Problem, task: Task, method: MethodChoice, ks: Sequence[int], pairs: int, most: int, sample: float = 1.0
) -> list[Pair]:
    """As many pairs of each k as asked, of the first `most` replicates."""
    found: dict[int, list[Pair]] = {k: [] for k in ks}
    for replicate in range(most):
        for k in ks:
            if len(found[k]) < pairs and (pair := measure(problem, task, method, k, replicate, sample)):
                found[k].append(pair)
                sys.stderr.write(f"k = {k}, replicate {replicate}: {pair.steps} steps, {100 * pair.share:.3g} %\n")
    return [pair for some in found.values() for pair in some]


def table(pairs: Sequence[Pair]) -> str:
    """For people: medians, and the smallest and largest share."""
    lines = ["    k  pairs  steps  training  verifying  (audit)   share of the training"]
    for k in dict.fromkeys(pair.k for pair in pairs):
        some = [pair for pair in pairs if pair.k == k]
        shares = [100 * pair.share for pair in some]
        steps, training, verifying, audit = (
            median(values)
            for values in zip(*((one.steps, one.training, one.verifying, one.audit) for one in some), strict=True)
        )
        lines.append(
            f"{k:>5}  {len(some):>5}  {steps:>5.0f}  {training:>6.2f} s  {verifying:>7.2f} s  {audit:>5.2f} s   "
            f"{median(shares):.3g} % ({min(shares):.3g} .. {max(shares):.3g})"
        )
    total = sum(pair.verifying for pair in pairs) / sum(pair.training for pair in pairs)
    lines.append(f"all {len(pairs)}: {100 * total:.3g} % of all processor time of the trainings")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Parse, measure, print; the exit code is 1 where a median is above what was asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--method", default="random_subspace")
    parser.add_argument(
        "--ks", type=int, nargs="+", required=True, help="the largest ks reach targets in the fewest steps"
    )
    parser.add_argument("--pairs", type=int, default=5, help="for each k")
    parser.add_argument("--replicates", type=int, default=40, help="the most that are trained for them, for each k")
    parser.add_argument("--sample", type=float, default=1.0, help="share of the data that is looked at again")
    parser.add_argument("--data-root", help="folder of data sets")
    parser.add_argument("--at-most", type=float, metavar="PERCENT", help="fail where the median of any k is above it")
    options = parser.parse_args(arguments)
    use_one_thread()
    task, method = load_task(options.task), parse_choice(options.method)
    problem = problems.build(task, problems.load_arrays(task, Settings.resolve(data_root=options.data_root).data_root))
    # What is done for the first time in a process is compiled or loaded then.
    run_pack(problem, task, method, [Trial(k=options.ks[0], replicate=options.replicates, round=0)])
    pairs = collect(problem, task, method, options.ks, options.pairs, options.replicates, options.sample)
    if not pairs:
        raise SystemExit("no training reached its target: give larger ks")
    sys.stdout.write(table(pairs))
    too_much = [
        k
        for k in options.ks
        if (own := [p.share for p in pairs if p.k == k]) and 100 * median(own) > (options.at_most or 100)
    ]
    if too_much:
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
