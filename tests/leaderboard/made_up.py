"""Sweeps made by hand, whose thresholds are known."""

from __future__ import annotations

from collections.abc import Sequence

from lowdim_bench.methods import MethodChoice
from lowdim_bench.records import Audit, Outcome, Spending, Trial, TrialResult
from lowdim_bench.specs import Task, load_task
from lowdim_bench.tracking import StoredSweep

TASK = load_task("digits-mlp")
FULL = 2410


def sweep(
    method: str,
    step_at: int,
    *,
    task: Task = TASK,
    low: int = 1,
    high: int = 2048,
    ks: Sequence[int] = (),
    bits: float = 0.0,
) -> StoredSweep:
    """A finished sweep whose trials succeed from k = step_at on, at 12 % steps around it, two replicates a k."""
    around = ks or [round(step_at * 1.12**power) for power in range(-10, 11)]
    results = [
        TrialResult(
            trial=Trial(k=min(max(k, low), high), replicate=2 * place + half, round=place),
            status="trained",
            outcomes=tuple(Outcome(target=target.name, reached=k >= step_at, step=10) for target in task.targets),
            audit=Audit(measured_k=k, rank_evidence="exact", affine=True, side_information_bits=bits, track="prepared"),
            preparation=Spending(gradient_evaluations=k, examples=64 * k),
        )
        for place, k in enumerate(around)
        for half in (0, 1)
    ]
    choice = MethodChoice(name=method)
    return StoredSweep(
        f"run-{method}-{task.name}", task, choice, "found", "", low, high, FULL, tuple(results), choice.method_digest
    )
