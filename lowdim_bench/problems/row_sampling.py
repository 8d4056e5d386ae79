"""Which rows of a least-squares problem are solved: all of them, or a sample drawn by leverage or uniformly.

The rows are those of a Khatri-Rao product of factor matrices: one for each combination of a row of every factor. They are never
formed but for those that are drawn. Larsen & Kolda 2022 (arXiv 2006.16438), algorithms 4.1 and 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lowdim_bench.seeds import derive

_SMALLEST_REST = 1e-9
"""Of the probability: less than this outside the rows that are included anyway is mostly rounding, and not sampled."""
_MOST_REJECTED = 10
"""Draws for each row that is wanted, at most: where nearly all draws are of rows included anyway, fewer rows must do."""


@dataclass(frozen=True)
class RowSampling:
    """How a step chooses the rows of its least-squares problem."""

    samples: int | None = None
    """How many rows are drawn, with replacement; None solves all rows."""
    by: Literal["leverage", "uniform"] = "leverage"
    combine: bool = True
    """Whether a row that is drawn several times is solved once, with the weight of all of its draws."""
    deterministic: bool = False
    """Whether rows with a probability above 1 / samples are all included, and only the others drawn."""
    seed: int = 0

    def generator(self, step: int) -> torch.Generator:
        """Draws the rows of a step, which depend on nothing else."""
        return torch.Generator().manual_seed(derive("rows of a step", self.seed, step))


@dataclass(frozen=True)
class Rows:
    """Some rows: `places` (n, factors) says which row of each factor, `weights` (n,) what its squared residual counts."""

    places: Tensor
    weights: Tensor


def draw_rows(factors: Sequence[Tensor], sampling: RowSampling, generator: torch.Generator) -> Rows:
    """Weighted rows of the Khatri-Rao product of factors (n_m, r): squared residuals over them, so weighted, have the sum over
    all rows as their expected value."""
    assert sampling.samples is not None
    chances = [_chances(factor, sampling.by) for factor in factors]
    if sampling.deterministic:
        return _hybrid(chances, sampling.samples, sampling, generator)
    return _weighted(_drawn(chances, sampling.samples, generator), chances, sampling)


def leverage_scores(factor: Tensor) -> Tensor:
    """Leverage of each row of a matrix (n, r), float64: how much of its coordinate axis lies in the span of the columns."""
    left, values, _ = torch.linalg.svd(factor.double(), full_matrices=False)
    kept = values > values.max() * max(factor.shape) * torch.finfo(torch.float32).eps
    return left[:, kept].square().sum(dim=1)


def likely_rows(chances: Sequence[Tensor], above: float) -> tuple[Tensor, Tensor]:
    """All rows (n, factors) with a probability (n,) above a threshold; the product of all factors' rows is never formed.

    A row's beginning is given up where the likeliest rows of the remaining factors cannot lift it above the threshold.
    """
    best = [math.prod(float(chance.max()) for chance in chances[mode + 1 :]) for mode in range(len(chances))]
    places, joint = torch.zeros(1, 0, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
    for chance, rest in zip(chances, best, strict=True):
        product = joint.unsqueeze(1) * chance
        beginning, row = (product * rest > above).nonzero(as_tuple=True)
        places, joint = torch.cat([places[beginning], row.unsqueeze(1)], dim=1), product[beginning, row]
    return places, joint


def _chances(factor: Tensor, by: str) -> Tensor:
    """Probability (n,) of each row of one factor. The leverage of a row of the product is at most the product of leverages."""
    scores = torch.ones(len(factor), dtype=torch.float64) if by == "uniform" else leverage_scores(factor.cpu())
    return scores / scores.sum()


def _hybrid(chances: Sequence[Tensor], samples: int, sampling: RowSampling, generator: torch.Generator) -> Rows:
    """All likely rows, and from a single draw, as in the authors' code, those of the others that came up."""
    likely, chance = likely_rows(chances, 1 / samples)
    rest, wanted = 1 - float(chance.sum()), samples - len(likely)
    included = Rows(likely, torch.ones(len(likely), dtype=torch.float64))
    if wanted <= 0 or rest < _SMALLEST_REST:
        return included
    draws = min(math.ceil(1.5 * wanted / rest) + 16, _MOST_REJECTED * wanted)
    names = _drawn(chances, draws, generator)
    names = names[~torch.isin(names, row_numbers(likely, [len(one) for one in chances]))][:wanted]
    # Where all draws were rejected the others count nothing; what they count when some were not makes up for that.
    others = _weighted(names, chances, sampling, rest / (1 - (1 - rest) ** draws))
    return Rows(torch.cat([included.places, others.places]), torch.cat([included.weights, others.weights]))


def _drawn(chances: Sequence[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """The numbers (count,) of rows drawn with replacement."""
    some = torch.stack(
        [torch.multinomial(chance, count, replacement=True, generator=generator) for chance in chances], dim=1
    )
    return row_numbers(some, [len(chance) for chance in chances])


def _weighted(names: Tensor, chances: Sequence[Tensor], sampling: RowSampling, mass: float = 1.0) -> Rows:
    """Rows (n,) drawn in proportion to the product of their factors' chances, out of rows of which these add up to `mass`."""
    count, repeats = len(names), None
    if sampling.combine:
        names, repeats = names.unique(return_counts=True)
    places = torch.stack(torch.unravel_index(names, [len(chance) for chance in chances]), dim=1)
    joint = torch.ones(len(places), dtype=torch.float64)
    for mode, chance in enumerate(chances):
        joint = joint * chance[places[:, mode]]
    weights = mass / (count * joint)
    return Rows(places, weights if repeats is None else weights * repeats)


def row_numbers(places: Tensor, sizes: Sequence[int]) -> Tensor:
    """The numbers (n,) of rows (n, factors) in the Khatri-Rao product, whose last factor's rows go fastest."""
    numbers = torch.zeros_like(places[:, 0])
    for mode, size in enumerate(sizes):
        numbers = numbers * size + places[:, mode]
    return numbers
