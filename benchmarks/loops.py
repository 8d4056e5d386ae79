"""The competitors by name. JAX is imported only when it is asked for."""

from __future__ import annotations

from benchmarks.contest import Contest, Loop

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
