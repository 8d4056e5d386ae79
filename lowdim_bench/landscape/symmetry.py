"""What permuting, splitting and merging hidden neurons does to a loss.

For networks whose blocks say along which axes the neurons of each hidden layer lie: fully connected ones, plain convolutional
ones, whose neurons are channels, and those of quadratic units. A neuron's outgoing weights lie along the first axis of a dense
block and along the second of a kernel; everything else is incoming, and so are the scale and shift of its normalization. All
vectors are flat, (D,). Whatever should leave the loss alone is checked to do so: `SymmetryError` says that it did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from lowdim_bench.errors import LowdimError, UserError
from lowdim_bench.landscape.curvature import EXACT_DIMENSION, Curvature
from lowdim_bench.problems import Block, Problem, neuron_counts

_LOSS_TOLERANCE = 1e-5
"""By how much rounding may change a loss, as a share of one plus itself."""
_SWEEPS = 100


class SymmetryError(LowdimError):
    """What should leave the loss alone changed it: the blocks do not describe the network."""


@dataclass(frozen=True)
class Alignment:
    """One network's hidden neurons in the order in which they are most like another's."""

    moved: int
    """Neurons that are now elsewhere."""
    neurons: int
    similarity_before: float
    similarity: float
    """The inner product of the two weight vectors, before and after."""
    loss_change: float
    """|L(permuted) - L|: rounding."""


@dataclass(frozen=True)
class Embedding:
    """A network beside the wider one in which one of its neurons is split in two."""

    loss: float
    wide_loss: float
    gradient_norm: float
    wide_gradient_norm: float
    """As small as the narrow one up to a factor of sqrt(2) for a share in [0, 1], so that critical points stay critical."""
    wide_smallest_eigenvalue: float
    """Of the wider network's Hessian; below zero the point is a saddle of it."""


@dataclass(frozen=True)
class Merged:
    """How many different neurons there are."""

    neurons: int
    distinct: int
    """After neurons of the same incoming weights are made one, and those without outgoing weights are left out."""
    loss_change: float
    """|L(merged) - L|; where the tolerance is zero, rounding."""


def hidden_layers(blocks: Sequence[Block]) -> dict[int, int]:
    """The number of neurons of each hidden layer. Raises `UserError` where the blocks do not say where neurons lie."""
    try:
        return neuron_counts(blocks)
    except ValueError:
        raise UserError(
            "Neurons can be permuted, split and merged where a network says along which axes they lie: mlp, convnet and "
            "quadratic_network do. Choose a task with one of these."
        ) from None


def align(problem: Problem, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Alignment]:
    """Permute the neurons of `moving` to be like those of `fixed`, by weight matching (Ainsworth et al. 2023, arXiv
    2209.04836, algorithm 1): layer by layer, over again, the best assignment given all others, until none changes.

    Returns the permuted weights (D,). Raises `UserError` where neurons are not known, and `SymmetryError` where the permuted
    network has another loss.
    """
    layers, blocks = hidden_layers(problem.blocks), _by_neuron(problem.blocks)
    target, parts = _parts(blocks, fixed), _parts(blocks, moving)
    orders = {layer: np.arange(size) for layer, size in layers.items()}
    for _ in range(_SWEEPS):
        settled = True
        for layer in layers:
            alike = _likeness(blocks, target, parts, layer)
            order = linear_sum_assignment(alike, maximize=True)[1]
            gain = alike[np.arange(len(order)), order].sum() - np.trace(alike)
            if gain <= 1e-9 * np.abs(alike).max() * len(order):  # a tie would go round for ever
                continue
            settled = False
            orders[layer] = orders[layer][order]
            parts = _permuted(blocks, parts, layer, order)
        if settled:
            break
    aligned = _joined(parts, moving)
    return aligned, Alignment(
        moved=sum(int((order != np.arange(len(order))).sum()) for order in orders.values()),
        neurons=sum(layers.values()),
        similarity_before=float(fixed.double() @ moving.double()),
        similarity=float(fixed.double() @ aligned.double()),
        loss_change=_same_loss(problem, moving, problem, aligned),
    )


def permute(problem: Problem, weights: Tensor, layer: int, order: np.ndarray) -> Tensor:
    """The same function with the neurons of a hidden layer in another order: new neuron i is old neuron order[i]."""
    hidden_layers(problem.blocks)
    blocks = _by_neuron(problem.blocks)
    return _joined(_permuted(blocks, _parts(blocks, weights), layer, order), weights)


def split_neuron(
    narrow: Problem, wide: Problem, weights: Tensor, layer: int, neuron: int, share: float = 0.5
) -> Tensor:
    """The weights (D',) of a network with one neuron more in `layer`: `neuron`'s incoming weights twice, and of its outgoing
    ones `share` and 1 - share (Zhang et al. 2021, arXiv 2105.14573).

    Raises `UserError` where neurons are not known, ValueError where `wide` does not have just one neuron more in `layer`, and
    `SymmetryError` where the wide network has another loss.
    """
    sizes, wider = hidden_layers(narrow.blocks), hidden_layers(wide.blocks)
    if wider != sizes | {layer: sizes[layer] + 1}:
        raise ValueError(
            f"the wide network has {wider} neurons by layer; one more in layer {layer} of {sizes} is asked"
        )
    made, blocks = [], _by_neuron(narrow.blocks)
    for block, part in zip(blocks, _parts(blocks, weights), strict=True):
        grown = part
        for axis in _axes(block, layer):
            here, again = np.take(grown, [neuron], axis), np.take(grown, [neuron], axis)
            if _outgoing(block, axis):
                here, again = share * here, (1 - share) * again
            before, after = np.split(grown, [neuron], axis)
            grown = np.concatenate([before, here, after.take(range(1, after.shape[axis]), axis), again], axis)
        made.append(grown)
    split = _joined(made, weights)
    _same_loss(narrow, weights, wide, split)
    return split


def embed(narrow: Problem, wide: Problem, weights: Tensor, layer: int = 0, share: float = 0.5) -> Embedding:
    """Split the neuron of `layer` with the largest product of incoming and outgoing norm, and look at the point of the wider
    network. Raises as `split_neuron` does."""
    hidden_layers(narrow.blocks)
    blocks = _by_neuron(narrow.blocks)
    incoming, outgoing = _incoming(blocks, weights, layer), _outgoing_weights(blocks, weights, layer)
    neuron = int(np.argmax(np.linalg.norm(incoming, axis=1) * np.linalg.norm(outgoing, axis=1)))
    split = split_neuron(narrow, wide, weights, layer, neuron, share)
    return Embedding(
        loss=_loss(narrow, weights),
        wide_loss=_loss(wide, split),
        gradient_norm=_gradient_norm(narrow, weights),
        wide_gradient_norm=_gradient_norm(wide, split),
        wide_smallest_eigenvalue=smallest_eigenvalue(wide, split),
    )


def merge_duplicates(problem: Problem, weights: Tensor, tolerance: float = 0.0) -> tuple[Tensor, Merged]:
    """Give to the first of each group of duplicates the outgoing weights of all, and none to the others (Simsek et al. 2021,
    arXiv 2105.12221).

    Duplicates are neurons whose incoming weights lie within `tolerance` times the norm of the first one's. Returns the merged
    weights (D,), of the same network. Raises `UserError` where neurons are not known, and `SymmetryError` where the tolerance
    is zero and the loss another.
    """
    layers, blocks, merged, distinct = hidden_layers(problem.blocks), _by_neuron(problem.blocks), weights.clone(), 0
    for layer in layers:
        incoming = _incoming(blocks, merged, layer)
        owner = _owners(incoming, tolerance)
        parts = _parts(blocks, merged)
        for block, part in zip(blocks, parts, strict=True):
            for axis in _axes(block, layer):
                if _outgoing(block, axis):
                    collected = np.zeros_like(part)
                    np.add.at(np.moveaxis(collected, axis, 0), owner, np.moveaxis(part, axis, 0))
                    part[:] = collected
        merged = _joined(parts, weights)
        distinct += int((np.linalg.norm(_outgoing_weights(blocks, merged, layer), axis=1) > 0).sum())
    if tolerance == 0:
        change = _same_loss(problem, weights, problem, merged)
    else:
        change = abs(_loss(problem, weights) - _loss(problem, merged))
    return merged, Merged(sum(layers.values()), distinct, change)


def smallest_eigenvalue(problem: Problem, weights: Tensor) -> float:
    """Of the Hessian at weights (D,): of the whole matrix where D allows, else by SciPy's Lanczos iteration, to within 1e-4 of
    the largest one."""
    curvature = Curvature(problem, weights)
    if curvature.dimension <= EXACT_DIMENSION:
        return float(np.linalg.eigvalsh(curvature.matrix())[0])
    top = float(curvature.largest(1)[0])
    start = np.random.default_rng(0).normal(size=curvature.dimension)
    # Many eigenvalues crowd around zero, and products are float32: to ask for more would iterate on rounding.
    found = eigsh(_Flipped(curvature, top), k=1, which="LA", v0=start, tol=1e-4, return_eigenvectors=False)  # type: ignore[arg-type]
    return top - float(found[0])


class _Flipped(LinearOperator):
    """`top` times the identity less the Hessian: its largest eigenvalue is the Hessian's smallest."""

    def __init__(self, curvature: Curvature, top: float) -> None:
        super().__init__(np.float64, (curvature.dimension, curvature.dimension))
        self._curvature, self._top = curvature, top

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._top * x.ravel() - self._curvature.products(x.reshape(1, -1))[0]


def _owners(incoming: np.ndarray, tolerance: float) -> np.ndarray:
    """For each neuron, the first one that it is a duplicate of; itself where there is none."""
    owner = np.arange(len(incoming))
    for neuron in range(len(incoming)):
        if owner[neuron] != neuron:
            continue
        far = np.linalg.norm(incoming - incoming[neuron], axis=1)
        same = (far <= tolerance * np.linalg.norm(incoming[neuron])) & (owner == np.arange(len(owner)))
        same[:neuron] = False
        owner[same] = neuron
    return owner


def _likeness(
    blocks: Sequence[Block], fixed: Sequence[np.ndarray], moving: Sequence[np.ndarray], layer: int
) -> np.ndarray:
    """(n, n): inner products of everything that belongs to a neuron of one network and to a neuron of the other."""
    alike = np.zeros(())
    for block, one, other in zip(blocks, fixed, moving, strict=True):
        for axis in _axes(block, layer):
            rows, columns = (np.moveaxis(part, axis, 0).reshape(part.shape[axis], -1) for part in (one, other))
            alike = alike + rows @ columns.T
    return alike


def _permuted(blocks: Sequence[Block], parts: Sequence[np.ndarray], layer: int, order: np.ndarray) -> list[np.ndarray]:
    made = []
    for block, part in zip(blocks, parts, strict=True):
        moved = part
        for axis in _axes(block, layer):
            moved = moved.take(order, axis)
        made.append(moved)
    return made


def _axes(block: Block, layer: int) -> list[int]:
    return [axis for axis, one in enumerate(block.neurons) if one == layer]


def _by_neuron(blocks: Sequence[Block]) -> list[Block]:
    """The same blocks with an axis for neurons alone: what each of them has of a longer one gets an axis of its own."""
    counts, made = neuron_counts(blocks), []
    for block in blocks:
        shape: list[int] = []
        neurons: list[int | None] = []
        for size, layer in zip(block.shape, block.neurons, strict=True):
            count = size if layer is None else counts[layer]
            shape += [count] if count == size else [count, size // count]
            neurons += [layer] if count == size else [layer, None]
        made.append(replace(block, shape=tuple(shape), neurons=tuple(neurons)))
    return made


def _outgoing(block: Block, axis: int) -> bool:
    """Whether outgoing weights of neurons lie along an axis: the inputs of a dense layer or, of a kernel, the second axis."""
    return len(block.shape) > 1 and axis == (len(block.shape) == 4)


def _incoming(blocks: Sequence[Block], weights: Tensor, layer: int) -> np.ndarray:
    """(n, inputs): incoming weights and biases of every neuron of a layer."""
    return _gathered(blocks, weights, layer, outgoing=False)


def _outgoing_weights(blocks: Sequence[Block], weights: Tensor, layer: int) -> np.ndarray:
    """(n, outputs)."""
    return _gathered(blocks, weights, layer, outgoing=True)


def _gathered(blocks: Sequence[Block], weights: Tensor, layer: int, *, outgoing: bool) -> np.ndarray:
    found = [
        np.moveaxis(part, axis, 0).reshape(part.shape[axis], -1)
        for block, part in zip(blocks, _parts(blocks, weights), strict=True)
        for axis in _axes(block, layer)
        if _outgoing(block, axis) == outgoing
    ]
    return np.concatenate(found, axis=1)


def _parts(blocks: Sequence[Block], weights: Tensor) -> list[np.ndarray]:
    """A copy of each block, float64."""
    flat = weights.detach().double().cpu().numpy()
    return [flat[block.start : block.stop].reshape(block.shape).copy() for block in blocks]


def _joined(parts: Sequence[np.ndarray], like: Tensor) -> Tensor:
    return torch.from_numpy(np.concatenate([part.ravel() for part in parts])).to(like)


def _loss(problem: Problem, weights: Tensor) -> float:
    return float(problem.train_metrics(weights.unsqueeze(0)).loss[0])


def _same_loss(before: Problem, weights: Tensor, after: Problem, changed: Tensor) -> float:
    """How far apart two losses are that should be the same. Raises `SymmetryError` where that is more than rounding."""
    one, other = _loss(before, weights), _loss(after, changed)
    change = abs(one - other)
    if not change <= _LOSS_TOLERANCE * (1 + abs(one)):
        raise SymmetryError(
            f"Moving neurons changed the loss from {one:.9g} to {other:.9g}, where it should stay the same: the blocks of "
            "this problem do not say where its neurons lie. Correct `Block.neurons`."
        )
    return change


def _gradient_norm(problem: Problem, weights: Tensor) -> float:
    return float(problem.loss_and_gradient(weights.unsqueeze(0), None)[1].double().norm())
