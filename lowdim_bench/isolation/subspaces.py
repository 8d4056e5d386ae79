"""Affine subspaces as plain data: a recipe of the operator and tensors. A seeded operator travels as its seed alone.

So what the other end claims of a seed needs no belief: the harness draws the operator itself. Where the draw rests on more than
a seed, what was drawn travels with the claim, which the audit holds against a draw of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from lowdim_bench.errors import MethodFailure
from lowdim_bench.parametrizations import (
    RANDOM_OPERATORS,
    AffineSubspace,
    Coordinates,
    DenseBasis,
    Fastfood,
    FullSpace,
    LayeredHash,
    Operator,
    Parametrization,
    SharedGaussian,
    SignedHash,
    SubsampledHadamard,
)
from lowdim_bench.specs import Spec

_STORED_MATRIX = frozenset({"gaussian", "orthonormal", "shared_gaussian"})
"""Drawn, but kept as k D numbers."""


class OperatorRecipe(Spec):
    """How an operator is made: drawn from a seed, or, without one, from the tensor `operator` beside it."""

    kind: Literal[
        "full_space", "coordinates", "dense",
        "gaussian", "orthonormal", "shared_gaussian", "signed_hash", "sparse_signs", "hadamard", "fastfood",
        "layered_hash",
    ]  # fmt: skip
    k: Annotated[int, Field(ge=1, lt=2**63)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    draw: Annotated[str, Field(max_length=40)] = ""
    """What a mask claims to be drawn as, beside its seed. It is in the tensor `operator` all the same."""


def encode(subspace: Parametrization) -> tuple[OperatorRecipe, dict[str, Tensor]]:
    """The recipe and the tensors of a subspace. Raises `MethodFailure` for an operator that is not the project's own."""
    operator = _may_leave(subspace).operator
    tensors = {"offset": subspace.offset, "start": subspace.start}
    match operator:
        case FullSpace():
            return OperatorRecipe(kind="full_space", k=operator.k), tensors
        case Coordinates():
            if operator.seed is not None and operator.draw == "uniform":
                if _drawn(operator, "coordinates"):
                    return OperatorRecipe(kind="coordinates", k=operator.k, seed=operator.seed), tensors
                return OperatorRecipe(kind="coordinates", k=operator.k), tensors | {"operator": operator.indices}
            recipe = OperatorRecipe(kind="coordinates", k=operator.k, seed=operator.seed, draw=operator.draw)
            return recipe, tensors | {"operator": operator.indices}
        case LayeredHash():
            recipe = OperatorRecipe(kind="layered_hash", k=operator.k, seed=operator.seed)
            return recipe, tensors | {"operator": operator.code}
        case DenseBasis():
            if operator.seed is not None and _drawn(operator, operator.kind):
                recipe = {"kind": operator.kind, "k": operator.k, "seed": operator.seed}
                return OperatorRecipe.model_validate(recipe), tensors
            return OperatorRecipe(kind="dense", k=operator.k), tensors | {"operator": operator.columns}
        case SharedGaussian() | SignedHash() | SubsampledHadamard() | Fastfood() if _drawn(operator, operator.kind):
            recipe = {"kind": operator.kind, "k": operator.k, "seed": operator.seed}
            return OperatorRecipe.model_validate(recipe), tensors
    raise MethodFailure(
        f"it made a {type(operator).__name__} that cannot leave its process: only the project's own operators can, as they "
        "are drawn from their seeds; any other map travels as a DenseBasis"
    )


def _may_leave(subspace: Parametrization) -> AffineSubspace:
    if type(subspace) is not AffineSubspace:
        raise MethodFailure(f"it made a {type(subspace).__name__}; only an AffineSubspace can leave its process")
    if subspace.rows is not None:
        raise MethodFailure("it chose rows of a least-squares problem; only the project's own methods can")
    return subspace


def _drawn(operator: Operator, kind: str) -> bool:
    """Whether an operator is what its seed gives: any other one has to travel as its numbers."""
    draw = Coordinates.random if kind == "coordinates" else RANDOM_OPERATORS.get(kind)
    if draw is None or operator.seed is None:
        return False
    stored = operator.tensors()
    drawn = draw(operator.k, operator.full_dimension, operator.seed, torch.device("cpu")).tensors()
    return drawn.keys() == stored.keys() and all(torch.equal(drawn[name], stored[name]) for name in stored)


def decode(
    recipe: OperatorRecipe, tensors: Mapping[str, Tensor], full_dimension: int, device: torch.device, most_bytes: int
) -> AffineSubspace:
    """The subspace that an untrusted process described, for a network of `full_dimension` parameters, on a device.

    No basis of more than `most_bytes` is drawn. Raises `MethodFailure` for whatever does not fit.
    """
    if recipe.k > full_dimension:
        raise MethodFailure(f"it made a subspace of {recipe.k} dimensions; the network has {full_dimension} parameters")
    wanted = {"offset", "start"} | (set() if _is_drawn(recipe) else {"operator"})
    if tensors.keys() != wanted:
        raise MethodFailure(f"its subspace came with the tensors {sorted(tensors)}, not {sorted(wanted)}")
    offset = tensor(tensors, "offset", torch.float32, (full_dimension,))
    start = tensor(tensors, "start", torch.float32, (recipe.k,))
    for name, values in (("offset", offset), ("start", start)):
        _check_finite(name, values)
    operator = _operator(recipe, tensors, full_dimension, device, most_bytes)
    return AffineSubspace(offset.to(device), operator, start.to(device))


def _is_drawn(recipe: OperatorRecipe) -> bool:
    if recipe.kind == "layered_hash":
        return False
    return recipe.kind == "full_space" or (recipe.seed is not None and not recipe.draw)


def _operator(
    recipe: OperatorRecipe, tensors: Mapping[str, Tensor], full_dimension: int, device: torch.device, most_bytes: int
) -> Operator:
    kind, k, seed = recipe.kind, recipe.k, recipe.seed
    if recipe.draw and kind != "coordinates":
        raise MethodFailure(f"it named the draw '{recipe.draw}' of a {kind} operator; only masks are drawn by name")
    if kind == "full_space":
        if k != full_dimension:
            raise MethodFailure(
                f"it made the full space with {k} dimensions; the network has {full_dimension} parameters"
            )
        return FullSpace(full_dimension)
    if seed is None or not _is_drawn(recipe):
        return _stored(recipe, tensors, full_dimension, device)
    if kind == "dense":
        raise MethodFailure("it named a seed for a stored basis; name the kind that the seed draws")
    if kind in _STORED_MATRIX and 4 * k * full_dimension > most_bytes:
        raise MethodFailure(
            f"a {kind} basis of {k} columns has {4 * k * full_dimension} bytes; at most {most_bytes} fit"
        )
    draw = Coordinates.random if kind == "coordinates" else RANDOM_OPERATORS[kind]
    return draw(k, full_dimension, seed, device)


def _stored(
    recipe: OperatorRecipe, tensors: Mapping[str, Tensor], full_dimension: int, device: torch.device
) -> Operator:
    """The operator whose numbers came along, whatever it claims to be drawn from."""
    k, seed = recipe.k, recipe.seed
    try:
        match recipe.kind:
            case "dense":
                columns = tensor(tensors, "operator", torch.float32, (k, full_dimension))
                _check_finite("basis", columns)
                return DenseBasis(columns.to(device))
            case "coordinates":
                indices = tensor(tensors, "operator", torch.int64, (k,))
                return Coordinates(indices.to(device), full_dimension, seed, recipe.draw)
            case "layered_hash":
                code = tensor(tensors, "operator", torch.int32, (1, full_dimension))
                return LayeredHash(code.to(device), k, seed)
    except ValueError as error:
        what = "mask" if recipe.kind == "coordinates" else "weight sharing"
        raise MethodFailure(f"its {what} is not valid: {error}") from None
    raise MethodFailure(f"it made a {recipe.kind} operator without a seed")


def tensor(tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype, shape: tuple[int | None, ...]) -> Tensor:
    """A tensor that came from an untrusted process, if it is of this type and shape. Raises `MethodFailure`."""
    found = tensors.get(name)
    if found is None:
        raise MethodFailure(f"its message holds no tensor '{name}'")
    fits = found.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, found.shape, strict=True)
    )
    if found.dtype != dtype or not fits:
        raise MethodFailure(
            f"its tensor '{name}' is {found.dtype} of shape {tuple(found.shape)}, not {dtype} of {shape}"
        )
    return found


def _check_finite(name: str, values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise MethodFailure(f"the {name} of its subspace holds values that are not finite (NaN or infinity)")
