"""Degrees of freedom, measured: nothing here trusts what a method says of its own subspace.

A seed it names is believed only after the operator has been drawn from it again, and only the project's own operators are
admitted, whose code is known. What is measured is an honest method's subspace, or a mistaken one's: code of the same process
that sets out to deceive is not held off here.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from lowdim_bench.errors import AuditFailure
from lowdim_bench.parametrizations import (
    RANDOM_OPERATORS,
    AffineSubspace,
    Coordinates,
    DenseBasis,
    FullSpace,
    Operator,
    SharedGaussian,
    SignedHash,
    SubsampledHadamard,
)
from lowdim_bench.records import Audit, Spending

OPERATORS: tuple[type[Operator], ...] = (
    FullSpace, Coordinates, DenseBasis, SharedGaussian, SignedHash, SubsampledHadamard,
)  # fmt: skip
BITS_PER_NUMBER = 32
BITS_PER_FOREIGN_SEED = 64
_AFFINE_TOLERANCE = 1e-4


def measure(subspace: AffineSubspace, k: int, initial: Tensor, seed: int, preparation: Spending) -> Audit:
    """Measure what a method prepared for a trial of k dimensions, before it is trained.

    `initial` (D,) are the replicate's initial weights and `seed` the trial's: what can be regenerated from these two costs
    no side information. Raises `AuditFailure` where the subspace has not exactly k numbers, its map is not finite, pure and
    affine, or its rank exceeds k.
    """
    if type(subspace) is not AffineSubspace or type(subspace.operator) not in OPERATORS:
        raise AuditFailure(
            f"the method prepared a {type(subspace).__name__} with a {type(subspace.operator).__name__}; admitted is an "
            f"AffineSubspace with one of {', '.join(kind.__name__ for kind in OPERATORS)}"
        )
    if patched := [name for name, value in vars(subspace.operator).items() if callable(value)]:
        raise AuditFailure(f"the method replaced {', '.join(patched)} of its {type(subspace.operator).__name__}")
    if subspace.k != k or subspace.start.numel() != k:
        raise AuditFailure(f"the trial allows k = {k} numbers, but the method prepared {subspace.k}")
    if subspace.offset.shape != initial.shape:
        raise AuditFailure(f"the map ends in {len(subspace.offset)} parameters; the network has {len(initial)}")
    if not all(bool(tensor.isfinite().all()) for tensor in (subspace.offset, subspace.start, *_floats(subspace))):
        raise AuditFailure("the prepared subspace holds values that are not finite (NaN or infinity)")
    _check_pure_and_affine(subspace)
    rank, evidence = _rank(subspace)
    if rank > k:
        raise AuditFailure(f"the map has rank {rank}, more than the trial's k = {k}")
    bits = _offset_bits(subspace, initial) + _operator_bits(subspace, seed) + _start_bits(subspace, initial)
    seen = preparation.gradient_evaluations or preparation.evaluations or preparation.examples
    return Audit(
        measured_k=rank,
        rank_evidence=evidence,
        affine=True,
        side_information_bits=bits,
        # What the trial's seed does not give was made from something, a seed picked among many too: no cold start.
        track="prepared" if seen or bits > 0 else "cold",
    )


def check_unmoved(subspace: AffineSubspace, fingerprint: str) -> None:
    """Raises `AuditFailure` where anything but theta changed since the fingerprint was taken."""
    if subspace.fingerprint() != fingerprint:
        raise AuditFailure("the map itself changed during training; only theta may")


def _floats(subspace: AffineSubspace) -> list[Tensor]:
    return [tensor for tensor in subspace.tensors().values() if tensor.is_floating_point()]


def _check_pure_and_affine(subspace: AffineSubspace) -> None:
    """Probes the map from outside: an affine map of k numbers cannot have more than k degrees of freedom."""
    generator = torch.Generator().manual_seed(0)
    device = subspace.offset.device
    one, two = (torch.randn(subspace.k, generator=generator).to(device) for _ in range(2))
    thetas = (torch.zeros_like(one), one, two, one, 0.5 * one - 2.0 * two)
    try:
        base, at_one, at_two, again, combined = (subspace.map(theta) for theta in thetas)
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        raise AuditFailure(f"the map cannot be evaluated: {error}") from None
    if at_one.shape != subspace.offset.shape:
        raise AuditFailure(f"the map ends in shape {tuple(at_one.shape)}, not {tuple(subspace.offset.shape)}")
    if not torch.equal(at_one, again):
        raise AuditFailure("the map is not pure: the same theta gave two different weight vectors")
    expected = base + 0.5 * (at_one - base) - 2.0 * (at_two - base)
    scale = float((at_one - base).norm() + (at_two - base).norm() + base.norm()) + 1e-30
    if float((combined - expected).norm()) > _AFFINE_TOLERANCE * scale:
        raise AuditFailure("the map is not affine in theta, so its degrees of freedom are not bounded by k")


def _rank(subspace: AffineSubspace) -> tuple[int, Literal["exact", "sampled"]]:
    operator = subspace.operator
    rank = operator.rank()
    if rank is not None:
        return rank, "exact"
    if not operator.sampled_columns_are_independent():
        raise AuditFailure(
            "columns of the basis depend on each other, so it spans fewer than k dimensions; choose a smaller k"
        )
    return operator.k, "sampled"


def _offset_bits(subspace: AffineSubspace, initial: Tensor) -> float:
    """Bits of the offset beyond initial weights, zeros and the mask that the operator already tells."""
    offset = subspace.offset
    foreign = (offset != initial) & (offset != 0)
    zeroed = (offset == 0) & (initial != 0)
    numbers = int(foreign.sum())
    bits = BITS_PER_NUMBER * numbers + subset_bits(len(offset), numbers)
    if isinstance(subspace.operator, Coordinates):
        # Zeros exactly on or exactly off the mask say nothing that the mask has not said.
        mask = torch.zeros_like(zeroed)
        mask[subspace.operator.indices] = True
        told = initial != 0
        if torch.equal(zeroed & told, mask & told) or torch.equal(zeroed & told, ~mask & told):
            return bits
    return bits + subset_bits(int((initial != 0).sum()), int(zeroed.sum()))


def _start_bits(subspace: AffineSubspace, initial: Tensor) -> float:
    """Bits of where theta starts, beyond zeros and the initial weights of a mask: an answer may hide there too."""
    start, operator = subspace.start, subspace.operator
    if isinstance(operator, FullSpace):
        return 0.0  # trained over; k = D says it all
    foreign = start != 0
    chosen = 0.0
    if isinstance(operator, Coordinates):
        told = initial[operator.indices]
        foreign &= start != told
        # All at their initial weights, or all at zero, says nothing; which of them are at zero is a mask of its own.
        chosen = subset_bits(int((told != 0).sum()), int(((start == 0) & (told != 0)).sum()))
    numbers = int(foreign.sum())
    return BITS_PER_NUMBER * numbers + subset_bits(operator.k, numbers) + chosen


def _operator_bits(subspace: AffineSubspace, seed: int) -> float:
    operator = subspace.operator
    if isinstance(operator, FullSpace):
        return 0.0
    if operator.seed is not None and _comes_from_its_seed(operator, operator.seed):
        return 0.0 if operator.seed == seed else float(BITS_PER_FOREIGN_SEED)
    if isinstance(operator, Coordinates):
        return subset_bits(operator.full_dimension, operator.k)
    return float(sum(8 * tensor.nbytes for tensor in operator.tensors().values()))


def _comes_from_its_seed(operator: Operator, seed: int) -> bool:
    """Whether the seed that an operator names gives all its tensors: a trained mask or basis may not pass for a drawn one."""
    stored = operator.tensors()
    draw = Coordinates.random if isinstance(operator, Coordinates) else RANDOM_OPERATORS.get(operator.kind)
    if draw is None:
        return False
    device = next(iter(stored.values())).device
    drawn = draw(operator.k, operator.full_dimension, seed, device).tensors()
    return drawn.keys() == stored.keys() and all(torch.equal(drawn[name], stored[name]) for name in stored)


def subset_bits(of: int, chosen: int) -> float:
    """log2 of the number of ways to choose `chosen` of `of` things: the bits that name a mask."""
    if chosen in (0, of):
        return 0.0
    return (math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)) / math.log(2)
