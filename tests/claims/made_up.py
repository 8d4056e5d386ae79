"""Claims with made-up numbers, decided."""

from __future__ import annotations

from lowdim_bench.claims.scoreboard import Decided
from lowdim_bench.claims.verdicts import Check


def decided(number: int, low: float, text: str = "an effect", scale: str = "cpu") -> Decided:
    """One that claims an effect above 0 and measures it, give or take 1, at `low` + 1; and another one for certain."""
    checks = [
        Check(what=f"{text} at {place}", above=0.0, estimate=end + 1, low=end, high=end + 2, n=7, interval="nobody's")
        for place, end in (("k = 8", 5.0), ("k = 32", low))
    ]
    return Decided.model_validate(
        {
            "number": number, "name": f"claim-{number}", "statement": f"There is {text}.", "source": f"{text} et al. 2020",
            "expected": "above 0", "provenance": text, "scale": scale, "claim_digest": f"{scale}-{number}-{low:g}",
            "checks": tuple(checks), "made_by": "lowdim-bench 0",
        }
    )  # fmt: skip


def decided_claims() -> list[Decided]:
    """One of each verdict."""
    return [decided(1, 1.0), decided(2, -1.0), decided(3, -3.0), decided(1, 2.0, scale="full")]
