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
    ADMITTED,
    Coordinates,
    FactorMap,
    FullSpace,
    Map,
    MovingMask,
    Operator,
    Parametrization,
    RedrawnBases,
    Standing,
)
from lowdim_bench.parametrizations.draws import is_as_drawn
from lowdim_bench.problems import Origin
from lowdim_bench.records import Audit, Spending

BITS_PER_NUMBER = 32
BITS_PER_FOREIGN_SEED = 64
_AFFINE_TOLERANCE = 1e-4
_SMOOTH_TOLERANCE = 1e-2
_SMALL_STEP = 1e-2


def measure(subspace: Parametrization, k: int, origin: Origin, preparation: Spending) -> Audit:
    """Measure what a method prepared for a trial of k dimensions, before it is trained.

    What can be regenerated from the trial's origin, of which no data is part, costs no side information. Raises
    `AuditFailure` where the parametrization has not exactly k numbers, its map is not finite and pure, neither affine nor
    smooth, or its rank exceeds k.
    """
    if type(subspace.operator) not in ADMITTED.get(type(subspace), ()):
        kinds = (
            f"{one.__name__} with one of {', '.join(map_.__name__ for map_ in maps)}" for one, maps in ADMITTED.items()
        )
        raise AuditFailure(
            f"the method prepared a {type(subspace).__name__} with a {type(subspace.operator).__name__}; admitted is "
            f"{' or '.join(kinds)}"
        )
    if patched := [name for name, value in vars(subspace.operator).items() if callable(value)]:
        raise AuditFailure(f"the method replaced {', '.join(patched)} of its {type(subspace.operator).__name__}")
    if subspace.k != k or subspace.start.numel() != k:
        raise AuditFailure(f"the trial allows k = {k} numbers, but the method prepared {subspace.k}")
    if subspace.offset.shape != origin.initial.shape:
        raise AuditFailure(f"the map ends in {len(subspace.offset)} parameters; the network has {len(origin.initial)}")
    if not all(bool(tensor.isfinite().all()) for tensor in (subspace.offset, subspace.start, *_floats(subspace))):
        raise AuditFailure("the prepared subspace holds values that are not finite (NaN or infinity)")
    affine = isinstance(subspace.operator, Operator)
    at_probes = _probe(subspace)
    if affine:
        _check_affine(*at_probes)
    rank, evidence = (
        _linear_rank(subspace.operator) if isinstance(subspace.operator, Operator) else _smooth_rank(subspace)
    )
    if rank > k:
        raise AuditFailure(f"the map has rank {rank}, more than the trial's k = {k}")
    bits = (
        _offset_bits(subspace, origin.initial)
        + _operator_bits(subspace.operator, origin)
        + _start_bits(subspace, origin)
    )
    seen = preparation.gradient_evaluations or preparation.evaluations or preparation.examples
    seen = seen or (isinstance(subspace.operator, MovingMask) and subspace.operator.rule.growth == "gradient")
    return Audit(
        measured_k=rank,
        rank_evidence=evidence,
        affine=affine,
        side_information_bits=bits,
        # What the trial's seed does not give was made from something, a seed picked among many too: no cold start.
        track="open" if not affine else "prepared" if seen or bits > 0 else "cold",
    )


def measure_trained(standing: Standing, k: int, origin: Origin, preparation: Spending, before: Audit) -> Audit:
    """The audit of where a trial of k dimensions stands after training: `before` unless its map moved; then what it opened
    is measured and priced.

    Raises `AuditFailure` where training opened more than k weights, or moved others than those.
    """
    movement, opened = standing.movement, standing.parametrization.operator
    if movement is None:
        return before
    assert isinstance(opened, Coordinates)
    if opened.k > k:
        raise AuditFailure(f"the trial allows k = {k} numbers, but training opened {opened.k} weights")
    moved = movement.touched.clone()
    moved[opened.indices] = False
    if bool(moved.any()):
        raise AuditFailure(f"{int(moved.sum())} weights moved in training that it had not opened")
    measured = measure(standing.parametrization, opened.k, origin, preparation)
    return measured.model_copy(update={"active_k": movement.active})


def check_unmoved(subspace: Parametrization, fingerprint: str) -> None:
    """Raises `AuditFailure` where anything but theta changed since the fingerprint was taken."""
    if subspace.fingerprint() != fingerprint:
        raise AuditFailure("the map itself changed during training; only theta may")


def _floats(subspace: Parametrization) -> list[Tensor]:
    return [tensor for tensor in subspace.tensors().values() if tensor.is_floating_point()]


def _normal(subspace: Parametrization, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(subspace.k, generator=generator).to(subspace.offset.device) for _ in range(count)]


def _probe(subspace: Parametrization) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The map at zero, at two random points, and at a combination of these. Raises `AuditFailure` where it is not pure."""
    one, two = _normal(subspace, 2)
    thetas = (torch.zeros_like(one), one, two, one, 0.5 * one - 2.0 * two)
    try:
        base, at_one, at_two, again, combined = (subspace.map(theta) for theta in thetas)
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        raise AuditFailure(f"the map cannot be evaluated: {error}") from None
    if at_one.shape != subspace.offset.shape:
        raise AuditFailure(f"the map ends in shape {tuple(at_one.shape)}, not {tuple(subspace.offset.shape)}")
    if not torch.equal(at_one, again):
        raise AuditFailure("the map is not pure: the same theta gave two different weight vectors")
    return base, at_one, at_two, combined


def _check_affine(base: Tensor, at_one: Tensor, at_two: Tensor, combined: Tensor) -> None:
    """An affine map of k numbers cannot have more than k degrees of freedom."""
    expected = base + 0.5 * (at_one - base) - 2.0 * (at_two - base)
    scale = float((at_one - base).norm() + (at_two - base).norm() + base.norm()) + 1e-30
    if float((combined - expected).norm()) > _AFFINE_TOLERANCE * scale:
        raise AuditFailure("the map is not affine in theta, so its degrees of freedom are not bounded by k")


def _linear_rank(operator: Operator) -> tuple[int, Literal["exact", "sampled"]]:
    rank = operator.rank()
    if rank is not None:
        return rank, "exact"
    if not operator.sampled_columns_are_independent():
        raise AuditFailure(
            "columns of the basis depend on each other, so it spans fewer than k dimensions; choose a smaller k"
        )
    return operator.k, "sampled"


def _smooth_rank(subspace: Parametrization) -> tuple[int, Literal["exact", "sampled"]]:
    """The highest rank of the Jacobian at two random points.

    A map that moves with its own Jacobian, and as little as that says where theta moves little, does not decode more numbers
    from the digits of its k. Raises `AuditFailure` where it does not.
    """
    operator = subspace.operator
    assert isinstance(operator, FactorMap)
    *points, direction = _normal(subspace, 3)
    found: list[tuple[int, bool]] = []
    for point in (subspace.start + point for point in points):
        signs, rows = operator.sketched_jacobian(point)
        ahead, behind = (subspace.map(point + step * direction).double() for step in (_SMALL_STEP, -_SMALL_STEP))
        seen, told = signs @ ((ahead - behind) / (2 * _SMALL_STEP)), rows @ direction.double()
        if not float((seen - told).norm()) <= _SMOOTH_TOLERANCE * float(told.norm()) + 1e-6:
            raise AuditFailure(
                "the map is not smooth: a small step moves it otherwise than its derivative says, so its degrees of freedom "
                "are not bounded by k"
            )
        found.append(operator.rank_of_sketch(rows))
        if found[-1][0] == operator.k:
            break
    rank, certain = max(found)
    return rank, "exact" if certain else "sampled"


def _offset_bits(subspace: Parametrization, initial: Tensor) -> float:
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


def _start_bits(subspace: Parametrization, origin: Origin) -> float:
    """Bits of where theta starts, beyond zeros and weights that the origin gives: an answer may hide there too."""
    start, operator = subspace.start, subspace.operator
    if isinstance(operator, FullSpace | RedrawnBases):
        return 0.0  # trained over; k = D says it all
    bits = _bits_beyond(start, operator.start_at(origin.initial))
    if not bits:
        return bits
    return min(bits, _bits_beyond(start, operator.start_at(origin.reinitialized().to(start.device))))


def _bits_beyond(start: Tensor, told: Tensor | None) -> float:
    """Bits of a start beyond zeros and the one that is told."""
    foreign = start != 0
    chosen = 0.0
    if told is not None:
        foreign &= start != told
        # All at the weights that are told, or all at zero, says nothing; which of them are at zero is a mask of its own.
        chosen = subset_bits(int((told != 0).sum()), int(((start == 0) & (told != 0)).sum()))
    numbers = int(foreign.sum())
    return BITS_PER_NUMBER * numbers + subset_bits(len(start), numbers) + chosen


def _operator_bits(operator: Map, origin: Origin) -> float:
    if isinstance(operator, FullSpace | RedrawnBases):
        return 0.0
    if isinstance(operator, MovingMask):  # where it begins, and how its room grows; what it opens is priced when it has
        return sum(_operator_bits(operator.drawn(count), origin) for count in {operator.active, operator.k})
    if is_as_drawn(operator, origin):
        return 0.0 if operator.seed == origin.seed else float(BITS_PER_FOREIGN_SEED)
    if isinstance(operator, Coordinates):
        return subset_bits(operator.full_dimension, operator.k)
    return float(sum(8 * tensor.nbytes for tensor in operator.tensors().values()))


def subset_bits(of: int, chosen: int) -> float:
    """log2 of the number of ways to choose `chosen` of `of` things: the bits that name a mask."""
    if chosen in (0, of):
        return 0.0
    return (math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)) / math.log(2)
