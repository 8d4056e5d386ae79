"""The competitors by name. JAX is imported only when it is asked for."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contest import Contest, Loop, loss_curve
from lowdim_bench.specs import Task
from lowdim_bench.threads import use_one_thread

LOOPS = ("plain", "jax")


def build_loop(name: str, contest: Contest) -> Loop:
    """A competitor for a task. Raises SystemExit for JAX where the extra is not installed."""
    if name == "plain":
        from benchmarks.plain_torch import PlainTorch

        return PlainTorch(contest)
    try:
        from benchmarks.lean_jax import LeanJax
    except ModuleNotFoundError as error:
        if error.name != "jax":
            raise
        raise SystemExit(
            "The JAX loop needs the optional extra: pip install -c constraints.txt '.[benchmarks]'. "
            "Or leave it out: --against plain"
        ) from None
    return LeanJax(contest)


def curve_in_basis(
    name: str, task: Task, data_root: Path, k: int, replicate: int, basis_of: int
) -> list[tuple[int, float]]:
    """The loss curve of a loop in the Gaussian basis of a replicate; from plain values, so that another process can run it."""
    use_one_thread()
    contest = Contest.of(task, data_root)
    loop = build_loop(name, contest)
    basis = contest.gaussian_basis(k, basis_of)[:, loop.order].contiguous()
    return list(loss_curve(loop.begin(k, replicate, basis), task))
