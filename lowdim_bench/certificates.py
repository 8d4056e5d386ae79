"""Certificates: what shows, without the method that made it, that a trial reached its target.

A certificate is one safetensors file: theta and whatever cannot be regenerated as plain tensors, everything else as JSON in
its metadata. It proves that a point of the claimed subspace has the claimed loss, not how that point was found.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lowdim_bench.environment import Environment
from lowdim_bench.errors import CertificateError
from lowdim_bench.parametrizations import (
    FACTOR_MAPS,
    RANDOM_OPERATORS,
    AffineSubspace,
    Coordinates,
    DenseBasis,
    FactoredWeights,
    FactorMap,
    FullSpace,
    LayeredHash,
    Map,
    Operator,
    Parametrization,
    RedrawnBases,
    SignedHash,
)
from lowdim_bench.parametrizations.draws import is_as_drawn, redraw
from lowdim_bench.problems import Origin, PartMetrics, Problem
from lowdim_bench.records import Audit, Count, Outcome, Spending, Trial
from lowdim_bench.specs import Spec, canonical_json
from lowdim_bench.specs.base import explain

LARGEST = 64 * 2**20
"""Bytes of the largest certificate that is kept. Only a stored basis of many directions is larger; its trial then says so."""
_ENTRY = "certificate"
_HEADER = 4096
"""More bytes than the names and shapes of all tensors take."""
_MOST_PARTS = 1024
_Seed = Annotated[int, Field(ge=0, lt=2**63)]
_Size = Annotated[int, Field(ge=1, lt=2**40)]


class OperatorRecipe(Spec):
    """How to make the map again."""

    kind: str
    k: _Size
    full_dimension: _Size
    seed: _Seed | None = None
    """The seed that it is drawn from; None where it needs none, or where its tensors are in the file."""
    draw: str = ""
    """How a mask is drawn from what its trial was given; see `parametrizations.draws`."""
    options: dict[str, int | str] = {}
    """Of a map that is not linear: what its factors are, beside k and where it comes from."""


class VectorRecipe(Spec):
    """How to make a vector again: zeros, or the replicate's initial weights, but for some places; or stored whole."""

    base: Literal["zeros", "initial", "stored"]
    differences: Count = 0
    """At how many places it differs from its base; these and their values are in the file."""


class Claim(Spec):
    """What a certificate says. Digests name the task, the method and, of a submission, its code."""

    format: Literal[1] = 1
    task_digest: str
    method_digest: str
    code_digest: str | None
    trial: Trial
    seed: _Seed
    """The trial's own seed, which regenerates what carries no side information."""
    target: str
    step: Annotated[int, Field(ge=1)]
    learning_rate: float
    operator: OperatorRecipe
    offset: VectorRecipe
    start: VectorRecipe
    """Where theta started; an initial one is that of the coordinates which the operator moves."""
    train_loss: float
    train_accuracy: float | None
    """Loss and accuracy on the full training set at offset + A theta, in float64, as the confirming evaluation found them."""
    parts: Annotated[tuple[PartMetrics, ...], Field(max_length=_MOST_PARTS)] = ()
    """The same on each part of the training set (`Problem.part_sizes`), whose mean they are. None in older certificates."""
    outcomes: tuple[Outcome, ...]
    audit: Audit
    preparation: Spending
    environment: Environment


@dataclass(frozen=True)
class Certificate:
    """A claim with its tensors: `theta` (k,) float32, and those that the recipes ask for."""

    claim: Claim
    tensors: Mapping[str, Tensor]

    @property
    def theta(self) -> Tensor:
        """(k,) float32, on the CPU."""
        return self.tensors["theta"]

    def to_bytes(self) -> bytes:
        """The file: equal certificates give equal bytes. Raises `CertificateError` where it would be larger than `LARGEST`."""
        text = canonical_json(self.claim.model_dump(mode="json"))
        size = sum(tensor.nbytes for tensor in self.tensors.values()) + len(text) + _HEADER
        if size > LARGEST:
            raise CertificateError(f"it would have {size:,} bytes; at most {LARGEST:,} are kept")
        return save({name: tensor.contiguous() for name, tensor in self.tensors.items()}, {_ENTRY: text})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a file from anywhere. Raises `CertificateError` where it is not exactly a certificate."""
        if len(content) > LARGEST:
            raise CertificateError(f"it has {len(content)} bytes; a certificate has at most {LARGEST}")
        try:
            tensors = load(content)
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
            raise CertificateError(f"it is no safetensors file: {error}") from None
        claim = _read_claim(content)
        _check_tensors(claim, tensors)
        return cls(claim, tensors)

    def subspace(self, problem: Problem) -> Parametrization:
        """The parametrization of the claim, made again. Raises `CertificateError` where it does not fit the problem."""
        recipe = self.claim.operator
        if recipe.full_dimension != problem.full_dimension:
            raise CertificateError(
                f"its map ends in {recipe.full_dimension} parameters; the network has {problem.full_dimension}"
            )
        origin = problem.origin(self.claim.trial.replicate, self.claim.seed)
        try:
            operator = _operator(recipe, _of("operator", self.tensors), origin)
        except (ValueError, LookupError, RuntimeError) as error:
            raise CertificateError(f"its operator cannot be made: {error}") from None
        initial = origin.initial
        offset = _vector(self.claim.offset, _of("offset", self.tensors), {"initial": initial}, len(initial))
        begins = operator.start_at(initial)
        bases = {} if begins is None else {"initial": begins}
        start = _vector(self.claim.start, _of("start", self.tensors), bases, recipe.k)
        offset, start = offset.to(problem.device), start.to(problem.device)
        if isinstance(operator, FactorMap):
            return FactoredWeights(offset, operator, start)
        assert isinstance(operator, Operator)
        return AffineSubspace(offset, operator, start)


def name_of(content: bytes) -> str:
    """The SHA-256 by which a trial names its certificate."""
    return hashlib.sha256(content).hexdigest()


def recipes(
    subspace: Parametrization, origin: Origin
) -> tuple[OperatorRecipe, VectorRecipe, VectorRecipe, dict[str, Tensor]]:
    """The recipes of a subspace's operator, offset and start, and the tensors that they need, on the CPU.

    A seed is believed only after the operator was drawn from it again.
    Raises `CertificateError` where the operator can be made from neither a seed nor its tensors.
    """
    operator, stored = _operator_recipe(subspace.operator, origin)
    begins = subspace.operator.start_at(origin.initial)
    offset, of_offset = _vector_recipe(subspace.offset, {"initial": origin.initial})
    start, of_start = _vector_recipe(subspace.start, {} if begins is None else {"initial": begins})
    tensors = {f"operator.{name}": tensor for name, tensor in stored.items()}
    tensors |= {f"offset.{name}": tensor for name, tensor in of_offset.items()}
    tensors |= {f"start.{name}": tensor for name, tensor in of_start.items()}
    return operator, offset, start, {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def _read_claim(content: bytes) -> Claim:
    try:
        (length,) = struct.unpack("<Q", content[:8])
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__")
        if not isinstance(metadata, dict) or set(metadata) != {_ENTRY}:
            raise CertificateError(f"its metadata is not one entry '{_ENTRY}'")
        return Claim.model_validate_json(metadata[_ENTRY])
    except ValidationError as error:
        raise CertificateError(f"what it claims is not valid:\n{explain(error)}") from None
    except (struct.error, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CertificateError(f"its header cannot be read: {error}") from None


def _check_tensors(claim: Claim, tensors: Mapping[str, Tensor]) -> None:
    """That the file holds the tensors which its recipes ask for, of their shapes, and no others."""
    k = claim.operator.k
    moved = claim.audit.active_k is not None  # a mask that moved may have opened fewer weights than it was allowed
    if claim.trial.k < k or (claim.trial.k > k and not moved):
        raise CertificateError(f"its map takes {k} numbers, its trial has k = {claim.trial.k}")
    wanted = _wanted_tensors(claim)
    if tensors.keys() != wanted.keys():
        raise CertificateError(f"it holds {_names(tensors)}; what it claims needs {_names(wanted)}")
    for name, (dtype, shape) in wanted.items():
        tensor = tensors[name]
        if tensor.dtype != dtype or (shape is not None and tuple(tensor.shape) != shape):
            raise CertificateError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not {dtype} {shape or ''}")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CertificateError(f"{name} holds values that are not finite")
    for name, length in (("offset.places", claim.operator.full_dimension), ("start.places", k)):
        if name in tensors and not 0 <= int(tensors[name].min()) <= int(tensors[name].max()) < length:
            raise CertificateError(f"{name} must lie in 0..{length - 1}")


def _wanted_tensors(claim: Claim) -> dict[str, tuple[torch.dtype, tuple[int, ...] | None]]:
    """Type and shape of every tensor by name; None for a shape that is checked where it is used."""
    k, size = claim.operator.k, claim.operator.full_dimension
    wanted: dict[str, tuple[torch.dtype, tuple[int, ...] | None]] = {"theta": (torch.float32, (k,))}
    wanted |= {f"operator.{name}": what for name, what in _stored_tensors(claim.operator).items()}
    for part, recipe, length in (("offset", claim.offset, size), ("start", claim.start, k)):
        if recipe.base == "stored":
            wanted[f"{part}.values"] = torch.float32, (length,)
        elif recipe.differences:
            wanted[f"{part}.places"] = torch.int64, (recipe.differences,)
            wanted[f"{part}.values"] = torch.float32, (recipe.differences,)
    return wanted


def _stored_tensors(recipe: OperatorRecipe) -> dict[str, tuple[torch.dtype, tuple[int, ...] | None]]:
    """Type and shape of the tensors from which an operator without a seed is made. Raises `CertificateError` for others."""
    k, size = recipe.k, recipe.full_dimension
    if recipe.kind == "full_space" or recipe.seed is not None:
        return {}
    if recipe.kind == "coordinates":
        return {"indices": (torch.int64, (k,))}
    if recipe.kind == "dense":
        return {"columns": (torch.float32, (k, size))}
    if recipe.kind in {"signed_hash", "sparse_signs", LayeredHash.kind}:
        return {"code": (torch.int32, None)}
    raise CertificateError(f"an operator of kind '{recipe.kind}' can be made from its seed alone, and there is none")


def _operator_recipe(operator: Map, origin: Origin) -> tuple[OperatorRecipe, dict[str, Tensor]]:
    kind, k, size = operator.kind, operator.k, operator.full_dimension
    if isinstance(operator, FullSpace | RedrawnBases):  # what a step sees of a gradient is no part of the point
        return OperatorRecipe(kind=FullSpace.kind, k=k, full_dimension=size), {}
    tensors = operator.tensors()
    if is_as_drawn(operator, origin):
        recipe = OperatorRecipe(kind=kind, k=k, full_dimension=size, seed=operator.seed)
        if isinstance(operator, FactorMap):
            return recipe.model_copy(update={"options": operator.options}), {}
        assert isinstance(operator, Operator)
        return recipe.model_copy(update={"draw": operator.draw}), {}
    # A drawn basis that was altered is one that is stored.
    recipe = OperatorRecipe(kind="dense" if isinstance(operator, DenseBasis) else kind, k=k, full_dimension=size)
    _stored_tensors(recipe)
    return recipe, tensors


def _operator(recipe: OperatorRecipe, stored: Mapping[str, Tensor], origin: Origin) -> Map:
    """Raises ValueError where it cannot be made."""
    k, size, device = recipe.k, recipe.full_dimension, origin.initial.device
    if k > size:
        raise ValueError(f"k = {k} is more than D = {size}")
    if recipe.kind == "full_space":
        if k != size:
            raise ValueError(f"the full space has k = D = {size}, not {k}")
        return FullSpace(size)
    if recipe.seed is not None and recipe.kind in FACTOR_MAPS:
        return FACTOR_MAPS[recipe.kind](k, replace(origin, seed=recipe.seed), **recipe.options)
    if recipe.seed is not None:
        # Certificates that are older than named draws name none: their masks are uniform.
        draw = recipe.draw or ("uniform" if recipe.kind == Coordinates.kind else "")
        return redraw(recipe.kind, draw, k, recipe.seed, origin)
    if recipe.kind == "coordinates":
        return Coordinates(stored["indices"].to(device), size)
    if recipe.kind == "dense":
        return DenseBasis(stored["columns"].to(device))
    if recipe.kind == LayeredHash.kind:
        return LayeredHash(stored["code"].to(device), k)
    drawn = RANDOM_OPERATORS[recipe.kind](k, size, 0, device)
    assert isinstance(drawn, SignedHash)
    code = stored["code"].to(device)
    if code.shape != drawn.code.shape or not bool(((code >= 0) & (code < 2 * k)).all()):
        raise ValueError(f"its codes have shape {tuple(code.shape)} or lie beyond its {k} buckets")
    drawn.code, drawn.seed = code, None
    return drawn


def _vector_recipe(vector: Tensor, bases: Mapping[str, Tensor]) -> tuple[VectorRecipe, dict[str, Tensor]]:
    """As few numbers as tell a vector beside zeros or another base, to the bit: signs of zeros too."""
    bits = vector.contiguous().view(torch.int32)
    differing = {
        name: (bits != base.contiguous().view(torch.int32)).nonzero().squeeze(1)
        for name, base in {"zeros": torch.zeros_like(vector), **bases}.items()
    }
    name = min(differing, key=lambda one: len(differing[one]))
    places = differing[name]
    if 3 * len(places) >= len(vector) and len(places):  # a place and its value take three times a value
        return VectorRecipe(base="stored"), {"values": vector}
    stored = {"places": places, "values": vector[places]} if len(places) else {}
    return VectorRecipe(base="initial" if name == "initial" else "zeros", differences=len(places)), stored


def _vector(recipe: VectorRecipe, stored: Mapping[str, Tensor], bases: Mapping[str, Tensor], size: int) -> Tensor:
    if recipe.base == "stored":
        return stored["values"]
    if recipe.base == "initial" and recipe.base not in bases:
        raise CertificateError("theta cannot start at initial weights in a map that moves no coordinates of its own")
    vector = bases["initial"].clone() if recipe.base == "initial" else torch.zeros(size)
    if recipe.differences:
        vector[stored["places"].to(vector.device)] = stored["values"].to(vector.device)
    return vector


def _of(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}


def _names(tensors: Mapping[str, object]) -> str:
    return ", ".join(sorted(tensors)) or "nothing"
