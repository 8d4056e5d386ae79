"""What the futility rule saves around the threshold, and how often it is wrong, on seeds that did not set it.

    python -m benchmarks.futility digits-mlp --k-star 236 --trials 1024

Every trial is trained with the rule off, so to its hardest target or to the last step, and the rule is then applied to its
curve: the decisions are those of a sweep (a test says so), and the truth is known for every one of them. Two tasks are read
from the same curves: `alone`, the ranked target without the easier ones; and `ladder`, the task as it stands, where a run is
given up only when the easiest target that it has not reached is out of reach.

Transition zone: k within a factor of 1.5 around k*, trials at even steps of ln k, each of a replicate of its own. Its steep
part: k from the middle of the first to that of the last window of 64 trials, in the order of k, whose share of successes lies
strictly between 0.05 and 0.95.

Steps saved are counted against runs that stop at success only. Wrong: called futile, and reached that target all the same.
With foresight: runs end at the last target that they will reach, or at the first evaluation if they reach none; no rule can
save more. The constants were set on digits-mlp with replicates below 3,000,000; the default ones here are others. A sweep
never judges the runs of methods that saw data. Here the rule is applied to those too, to show why.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from lowdim_bench import problems
from lowdim_bench.futility import out_of_reach, proportion_interval
from lowdim_bench.methods import parse_choice
from lowdim_bench.records import Trial, TrialResult
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Target, Task, load_task
from lowdim_bench.specs.task import Futility
from lowdim_bench.threads import use_one_thread
from lowdim_bench.trial import run_pack

ZONE_FACTOR = 1.5
FIRST_REPLICATE = 9_000_000
_WINDOW = 64
_DRAWS = 1000


@dataclass(frozen=True)
class Replay:
    """One run with the rule: its steps without it, with it and with foresight, and whether the rule was wrong."""

    k: int
    success: bool
    steps: int
    steps_with_rule: int
    steps_with_foresight: int
    called: bool
    wrong: bool


@dataclass(frozen=True)
class Part:
    """Runs at k_low <= k <= k_high."""

    targets: str
    zone: str
    k_low: int
    k_high: int
    trials: int
    successes: int
    called: int
    wrong: int
    wrong_share: float
    """Of all trials, with Clopper and Pearson's 95 % interval."""
    wrong_low: float
    wrong_high: float
    wrong_share_of_calls: float
    saved: float
    """Share of the steps that stopping at success only trains, with a 95 % bootstrap interval over trials."""
    saved_low: float
    saved_high: float
    saved_with_foresight: float
    """The most that any rule could save of them."""
    saved_by_success: float
    """What stopping at success alone saves of the scheduled steps; and what both save together."""
    saved_by_both: float
    k_half_ratio: float | None
    """The k at which half of the runs succeed, by a logistic fit in ln k: with the rule over without it. It is what wrong
    decisions do to a threshold. None where all or none succeed."""


def replay(rule: Futility, targets: Sequence[Target], steps: int, chance: float, result: TrialResult) -> Replay:
    """Apply the rule to a run that was trained with the rule off, for a task with these targets."""
    reached = {outcome.target: outcome.step for outcome in result.outcomes if outcome.reached}
    last = reached.get(targets[-1].name)
    end = result.trained_steps if last is None else last
    run = Replay(
        k=result.trial.k,
        success=last is not None,
        steps=end,
        steps_with_rule=end,
        steps_with_foresight=max((reached.get(target.name) or result.curve[0].step) for target in targets),
        called=False,
        wrong=False,
    )
    for place, point in enumerate(result.curve):
        if point.step >= end:
            break
        following = next(target for target in targets if (reached.get(target.name) or steps + 1) > point.step)
        if out_of_reach(rule, result.curve[: place + 1], following.level, chance, steps):
            return replace(run, steps_with_rule=point.step, called=True, wrong=following.name in reached)
    return run


def record(
    problem: problems.Problem, task: Task, method: str, ks: Sequence[int], first: int, pack: int
) -> list[TrialResult]:
    """Train one trial at each k with the rule off, in packs of neighbours. Raises SystemExit where the method fails."""
    trials = [Trial(k=k, replicate=first + place, round=0) for place, k in enumerate(ks)]
    results: list[TrialResult] = []
    off, choice = task.model_copy(update={"futility": None}), parse_choice(method)
    for start in range(0, len(trials), pack):
        results += run_pack(problem, off, choice, trials[start : start + pack])
        sys.stderr.write(f"\r{len(results)} of {len(trials)} trials")
    sys.stderr.write("\n")
    failures = [result.reason for result in results if result.status == "failed"]
    if failures:
        raise SystemExit(failures[0])
    return results


def steep_part(replays: Sequence[Replay]) -> tuple[int, int] | None:
    """The smallest and largest k of the steep part, as the module says; None where no window lies in it."""
    ordered = sorted(replays, key=lambda run: run.k)
    windows = [ordered[start : start + _WINDOW] for start in range(0, len(ordered) - _WINDOW + 1, _WINDOW // 4)]
    inside = [window for window in windows if 0.05 < np.mean([run.success for run in window]) < 0.95]
    return (inside[0][_WINDOW // 2].k, inside[-1][_WINDOW // 2].k) if inside else None


def summarize(targets: str, zone: str, runs: Sequence[Replay], steps: int) -> Part:
    """Savings and errors of runs."""
    without = np.array([run.steps for run in runs])
    with_rule = np.array([run.steps_with_rule for run in runs])
    draws = np.random.default_rng(0).integers(len(runs), size=(_DRAWS, len(runs)))
    saved = 1 - with_rule[draws].sum(1) / without[draws].sum(1)
    saved_low, saved_high = np.quantile(saved, [0.025, 0.975])
    called, wrong = sum(run.called for run in runs), sum(run.wrong for run in runs)
    wrong_low, wrong_high = proportion_interval(wrong, len(runs))
    return Part(
        targets=targets,
        zone=zone,
        k_low=min(run.k for run in runs),
        k_high=max(run.k for run in runs),
        trials=len(runs),
        successes=sum(run.success for run in runs),
        called=called,
        wrong=wrong,
        wrong_share=wrong / len(runs),
        wrong_low=wrong_low,
        wrong_high=wrong_high,
        wrong_share_of_calls=wrong / called if called else 0.0,
        saved=1 - float(with_rule.sum() / without.sum()),
        saved_low=float(saved_low),
        saved_high=float(saved_high),
        saved_with_foresight=1 - float(sum(run.steps_with_foresight for run in runs) / without.sum()),
        saved_by_success=1 - float(without.mean() / steps),
        saved_by_both=1 - float(with_rule.mean() / steps),
        k_half_ratio=_k_half_ratio(runs),
    )


def _k_half_ratio(runs: Sequence[Replay]) -> float | None:
    log_k = np.log([run.k for run in runs])
    true = np.array([run.success for run in runs])
    seen = true & ~np.array([run.called for run in runs])
    if true.all() or not seen.any():
        return None
    return math.exp(_half(log_k, seen) - _half(log_k, true))


def _half(log_k: np.ndarray, success: np.ndarray) -> float:
    """The ln k at which a logistic curve through n outcomes (n,) is 1/2, by maximum likelihood."""
    centre, sign = log_k.mean(), np.where(success, -1.0, 1.0)

    def misfit(parameters: np.ndarray) -> float:
        place, log_slope = parameters
        return float(np.logaddexp(0.0, sign * np.exp(log_slope) * (log_k - centre - place)).sum())

    best = minimize(misfit, np.array([0.0, np.log(10.0)]), bounds=[(-2.0, 2.0), (-3.0, 6.0)])
    return float(centre + best.x[0])


def measure(
    task: Task, method: str, k_star: int, trials: int, first: int, pack: int, data_root: Path, rank: int = -1
) -> list[Part]:
    """The parts of the zone around k* of the target at place `rank` of the ladder, alone and with the easier ones."""
    targets = task.targets[: task.targets.index(task.targets[rank]) + 1]
    task = task.model_copy(update={"targets": targets})
    low, high = np.log([k_star / ZONE_FACTOR, k_star * ZONE_FACTOR]).tolist()
    ks = np.exp(np.linspace(low, high, trials)).round().astype(int).tolist()
    problem = problems.build(task, problems.load_arrays(task, data_root))
    if problem.chance_loss is None:
        raise SystemExit(f"{task.name} has no classes, and so no loss of guessing; the rule is for classification.")
    results = record(problem, task, method, ks, first, pack)
    rule, steps = task.futility or Futility(), task.training.steps
    parts: list[Part] = []
    for name, asked in (("alone", targets[-1:]), ("ladder", targets)):
        replays = [replay(rule, asked, steps, problem.chance_loss, result) for result in results]
        parts.append(summarize(f"{targets[-1].name}, {name}", "zone", replays, steps))
        if steep := steep_part(replays):
            inside = [run for run in replays if steep[0] <= run.k <= steep[1]]
            parts.append(summarize(f"{targets[-1].name}, {name}", "steep part", inside, steps))
    return parts


def describe(part: Part) -> str:
    """One line for people."""
    moved = "" if part.k_half_ratio is None else f"; k at one half moves by a factor of {part.k_half_ratio:.4f}"
    wrong, of_calls = f"{100 * part.wrong_share:.2f} %", f"{100 * part.wrong_share_of_calls:.2f} %"
    return (
        f"{part.targets}, {part.zone} (k {part.k_low}..{part.k_high}, {part.successes}/{part.trials} reach it): saves "
        f"{100 * part.saved:.1f} % ({100 * part.saved_low:.1f}..{100 * part.saved_high:.1f}) of steps, with foresight "
        f"{100 * part.saved_with_foresight:.1f} %; wrong {part.wrong}/{part.trials} = {wrong} ({100 * part.wrong_low:.2f}.."
        f"{100 * part.wrong_high:.2f}), {of_calls} of {part.called} calls; of the scheduled steps, stopping at success "
        f"saves {100 * part.saved_by_success:.0f} %, both {100 * part.saved_by_both:.0f} %{moved}\n"
    )


def main(arguments: Sequence[str]) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("-m", "--method", default="random_subspace")
    parser.add_argument("--k-star", type=int, required=True, help="the threshold, as `lowdim-bench run` finds it")
    parser.add_argument(
        "--rank", type=int, default=-1, help="place of the target in the task's ladder; -1 is the hardest"
    )
    parser.add_argument("--trials", type=int, default=1024)
    parser.add_argument("--first-replicate", type=int, default=FIRST_REPLICATE)
    parser.add_argument("--pack", type=int, default=64)
    parser.add_argument("--data-root", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    use_one_thread()
    task, root = load_task(options.task), Settings.resolve(data_root=options.data_root).data_root
    parts = measure(
        task, options.method, options.k_star, options.trials, options.first_replicate, options.pack, root, options.rank
    )
    if options.json:
        sys.stdout.write(json.dumps([asdict(part) for part in parts]) + "\n")
    else:
        sys.stdout.writelines(describe(part) for part in parts)


if __name__ == "__main__":
    main(sys.argv[1:])
