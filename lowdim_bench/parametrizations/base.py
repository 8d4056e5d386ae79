"""Parametrizations w(theta) = offset + M(theta), alone and in packs. Which maps M there are is a closed set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from lowdim_bench.parametrizations.maps import Map, PackedMap, PackedMovingMap, pack, stack
from lowdim_bench.parametrizations.standing import Footprint, Movement, Standing

if TYPE_CHECKING:  # problems load the compiler of their kernels
    from lowdim_bench.problems import RowSampling


@dataclass(frozen=True)
class Parametrization:
    """All D parameters as a function of k numbers. Raises ValueError where shapes do not fit."""

    offset: Tensor
    """(D,) float32: what is added to whatever the map gives."""
    operator: Map
    start: Tensor = field(default_factory=lambda: torch.empty(0))
    """(k,) float32: where theta starts; zeros unless given."""
    rows: RowSampling | None = None
    """Which rows a training by least squares solves at each step; None stands for all."""

    def __post_init__(self) -> None:
        if not self.start.numel():
            object.__setattr__(self, "start", torch.zeros(self.operator.k, device=self.offset.device))
        if self.offset.shape != (self.operator.full_dimension,):
            raise ValueError(f"offset has shape {tuple(self.offset.shape)}, not ({self.operator.full_dimension},)")
        if self.start.shape != (self.operator.k,):
            raise ValueError(f"start has shape {tuple(self.start.shape)}, not ({self.operator.k},)")
        if self.offset.dtype != torch.float32 or self.start.dtype != torch.float32:
            raise ValueError("offset and start must be float32")

    @property
    def k(self) -> int:
        """How many real numbers training may change."""
        return self.operator.k

    def map(self, theta: Tensor) -> Tensor:
        """w(theta): (k,) to (D,)."""
        return Pack.of([self]).map(theta.unsqueeze(0))[0]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that decides the map, by name."""
        return {"offset": self.offset, **self.operator.tensors()}

    def fingerprint(self) -> str:
        """SHA-256 of every tensor that decides the map: equal before and after training, or something moved."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.tensors().items()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Pack:
    """P parametrizations with maps of one kind, mapped at once. Their k may differ; K is the largest."""

    dimensions: tuple[int, ...]
    """The k of every row."""
    offset: Tensor | None
    """(P, D), or None where all offsets are zero."""
    operator: PackedMap
    rows: tuple[RowSampling | None, ...]
    """Of every row, which rows its least-squares problems have."""
    footprint: Footprint | None = None
    """Kept of maps that move."""

    @classmethod
    def of(cls, parametrizations: Sequence[Parametrization]) -> Self:
        """The parametrizations as one pack. Raises ValueError where their maps are of several kinds."""
        offsets = [one.offset for one in parametrizations]
        moves = parametrizations[0].operator.moves
        return cls(
            dimensions=tuple(one.k for one in parametrizations),
            offset=stack(offsets) if any(bool(offset.any()) for offset in offsets) else None,
            operator=pack([one.operator for one in parametrizations]),
            rows=tuple(one.rows for one in parametrizations),
            footprint=Footprint(torch.stack(offsets)) if moves else None,
        )

    def map(self, theta: Tensor, out: Tensor | None = None) -> Tensor:
        """w(theta): (P, K) to (P, D). `out` (P, D) lends memory; the result lies there, elsewhere, or is theta itself."""
        return self.operator.forward(theta, self.offset, out)

    def pull_back(self, theta: Tensor, gradient: Tensor) -> Tensor:
        """The gradient with respect to theta, (P, K), from the one with respect to the weights w(theta), (P, D)."""
        return self.operator.pull_back(theta, gradient)

    def begin(self, step: int) -> None:
        """Get ready for a step of a training, by its number in the recipe."""
        self.operator.begin(step)

    def look(self, weights: Tensor) -> None:
        """Is shown the weights (P, D) of each step of a training."""
        if self.footprint is not None:
            self.footprint.look(weights)

    def stands(self, began: Sequence[Parametrization], theta: Tensor) -> list[Standing]:
        """Where the trainings stand that began as these parametrizations; theta is (P, K)."""
        if self.footprint is None:
            return [Standing(one, theta[row, : one.k]) for row, one in enumerate(began)]
        moved = self.operator.forward(theta)
        self.look(self.map(theta))
        return [self._stands(row, one, moved[row]) for row, one in enumerate(began)]

    def _stands(self, row: int, began: Parametrization, moved: Tensor) -> Standing:
        assert self.footprint is not None
        assert isinstance(self.operator, PackedMovingMap)
        coordinates, looks = self.operator.stands(row)
        # It starts at its base: what training began at was priced when it was prepared, and is no part of where it ended.
        fixed = replace(began, operator=coordinates, start=moved.new_zeros(coordinates.k))
        movement = Movement(int(self.footprint.most[row]), self.footprint.touched[row].clone(), looks)
        return Standing(fixed, moved[coordinates.indices], movement)

    def keep(self, rows: Tensor) -> Pack:
        """The pack of some rows: `rows` holds their indices, on the CPU."""
        return Pack(
            dimensions=tuple(self.dimensions[int(row)] for row in rows),
            offset=None if self.offset is None else self.offset[rows.to(self.offset.device)],
            operator=self.operator.keep(rows),
            rows=tuple(self.rows[int(row)] for row in rows),
            footprint=None if self.footprint is None else self.footprint.keep(rows),
        )


def stack_starts(parametrizations: Sequence[Parametrization]) -> Tensor:
    """Where the trainings of a pack start: (P, K), zero beyond each trial's own k."""
    theta = parametrizations[0].start.new_zeros(len(parametrizations), max(one.k for one in parametrizations))
    for row, one in enumerate(parametrizations):
        theta[row, : one.k] = one.start
    return theta
