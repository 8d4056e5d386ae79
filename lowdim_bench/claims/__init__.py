"""Published claims as code: one short file for each, or for a few that share their runs, and one line in `CLAIMS`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from lowdim_bench.claims.base import SCALES, Claim, Scale
from lowdim_bench.errors import UserError, unknown

__all__ = ["CLAIMS", "SCALES", "Claim", "Scale", "choose", "claim"]

CLAIMS = {
    1: "phase_transition:PhaseTransition",
    2: "phase_transition:HarderTargets",
    3: "subspaces:BurnIn",
    4: "subspaces:LotterySubspace",
    5: "tickets:TicketMask",
    6: "wells:WellTheory",
    7: "wells:WellInvariance",
    8: "tickets:WinningTickets",
    9: "stability:StableFromTheStart",
    10: "stability:LaterSpawning",
    11: "alignment:AlignedNeurons",
    12: "stability:StraightWay",
    13: "initial_masks:InitialMasks",
    14: "random_bases:RandomBases",
    15: "other_families:OtherFamilies",
}
"""Number to module and class within this package; imported when asked for."""
_ALL = "all"


def claim_class(number: int) -> type[Claim]:
    """The class of a claim. Raises KeyError for another number."""
    module, _, attribute = CLAIMS[number].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def claim(number: int, scale: Scale) -> Claim:
    """A claim with its configuration at a scale."""
    kind = claim_class(number)
    return kind(**(kind.full if scale == "full" else {}))


def choose(asked: Sequence[str], scale: Scale) -> list[Claim]:
    """The claims that were asked for, by number or name, each once, in the order of their numbers; all of them for 'all' or
    for nothing. Raises `UserError` for what is none."""
    every = [claim(number, scale) for number in CLAIMS]
    if not asked or _ALL in asked:
        if len(asked) > 1:
            raise UserError(f"'{_ALL}' is every claim; got {', '.join(asked)}. Give '{_ALL}' alone, or single claims.")
        return every
    known = {name: one for one in every for name in (str(one.number), one.name)}
    if wrong := [name for name in asked if name not in known]:
        raise unknown("claim", wrong[0], [*(f"{one.number} ({one.name})" for one in every), _ALL])
    wanted = {known[name].number for name in asked}
    return [one for one in every if one.number in wanted]
