"""Piecewise straight ways of low loss between trained weights: dynamic string sampling."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lowdim_bench.engine import Span, train
from lowdim_bench.landscape.paths import Curve, curve_of, evaluate
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.problems import Ledger, MeteredProblem, Problem
from lowdim_bench.specs import Recipe

DEPTH = 3
"""How often segments are divided: into at most 2 ** DEPTH."""
SLACK = 1.1
"""A segment is divided where its highest loss is above that of both ends of the string by more than this factor."""
_POINTS = 11
"""Of a segment, both ends among them."""


@dataclass(frozen=True)
class String:
    """What was found on a string of beads between two points."""

    curve: Curve
    beads: int
    """Points between the ends, each trained."""
    level: float
    """The loss above which segments were divided."""
    connected: bool
    """Whether no point of it lies above that level: whether both ends lie in one connected sub-level set, as far as it was
    looked at."""


def string(
    problem: Problem, ends: tuple[Tensor, Tensor], recipe: Recipe, level: float | None = None, depth: int = DEPTH
) -> String:
    """Connect two points (D,) by straight segments of low loss (Freeman & Bruna 2017, arXiv 1611.01540, algorithm 1).

    Wherever a segment rises above `level` it is divided at its highest point, and that point is trained by `recipe`; all of one
    round together, `depth` rounds at most. By default the level is `SLACK` times the higher loss of the ends.
    """
    points = list(ends)
    if level is None:
        level = SLACK * float(evaluate(problem, torch.stack(points))[0].max())
    for _ in range(depth):
        highest = [_highest(problem, one, other) for one, other in pairwise(points)]
        high = [place for place, (loss, _) in enumerate(highest) if loss > level]
        if not high:
            break
        beads = _trained(problem, torch.stack([highest[place][1] for place in high]), recipe)
        for place, bead in sorted(zip(high, beads, strict=True), reverse=True, key=lambda one: one[0]):
            points.insert(place + 1, bead)
    way = torch.cat([_segment(one, other) for one, other in pairwise(points)])
    losses, _ = evaluate(problem, way)
    return String(
        curve=curve_of(problem, torch.stack(ends), way),
        beads=len(points) - 2,
        level=level,
        connected=bool((losses <= level).all()),
    )


def _segment(one: Tensor, other: Tensor) -> Tensor:
    """Evenly spaced points (n, D) from one end to the other."""
    shares = torch.linspace(0, 1, _POINTS, device=one.device).unsqueeze(1)
    return (1 - shares) * one + shares * other


def _highest(problem: Problem, one: Tensor, other: Tensor) -> tuple[float, Tensor]:
    """The highest loss within a segment, and where."""
    inside = _segment(one, other)[1:-1]
    losses, _ = evaluate(problem, inside)
    return float(losses.max()), inside[int(losses.argmax())]


def _trained(problem: Problem, starts: Tensor, recipe: Recipe) -> Tensor:
    """Where training of all D weights leads from each row of starts (n, D)."""
    metered = MeteredProblem(problem, [0] * len(starts), [Ledger() for _ in starts])
    spaces = [AffineSubspace.full_space(start) for start in starts]
    rates = [recipe.learning_rate.at(problem.full_dimension)] * len(spaces)
    thetas = train(metered, spaces, recipe, rates, Span(0, recipe.steps))
    return torch.stack([space.map(theta) for space, theta in zip(spaces, thetas, strict=True)])
