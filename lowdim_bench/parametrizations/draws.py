"""Operators that can be made again from what a trial is given before any data: by their kind, a seed, and a draw's name.

Audit, certificates and methods all draw here, so that they cannot differ on what costs no side information.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from lowdim_bench.parametrizations.factored import FactorMap
from lowdim_bench.parametrizations.maps import Map
from lowdim_bench.parametrizations.operators import RANDOM_OPERATORS, Coordinates, LayeredHash, Operator
from lowdim_bench.problems import Block, Origin, neuron_counts

SYNAPTIC_FLOW_ROUNDS = 100
"""Of SynFlow; as many as in the authors' code."""


def draw_mask(name: str, k: int, origin: Origin) -> Coordinates:
    """The mask that a draw of `MASKS` gives, on the device of the initial weights. It has fewer than k coordinates where the
    draw knows no more."""
    return Coordinates(draw_order(name, k, origin), origin.full_dimension, origin.seed, draw=name)


def draw_order(name: str, k: int, origin: Origin) -> Tensor:
    """The coordinates of `draw_mask`, (k,) or fewer, in the order in which they are drawn: those of a smaller k come first."""
    return MASKS[name](k, origin).to(origin.initial.device)


def redraw(kind: str, draw: str, k: int, seed: int, origin: Origin) -> Operator:
    """The operator that a seed gives, on the device of the initial weights; `draw` names how a mask's coordinates are chosen.

    Raises ValueError where no such operator is drawn from a seed.
    """
    device, size = origin.initial.device, origin.full_dimension
    if kind == Coordinates.kind:
        if draw not in MASKS:
            raise ValueError(f"no mask is drawn as '{draw}'; known are {', '.join(MASKS)}")
        return draw_mask(draw, k, replace(origin, seed=seed))
    if draw:
        raise ValueError(f"an operator of kind '{kind}' is drawn in one way, not as '{draw}'")
    if kind == LayeredHash.kind:
        return LayeredHash.drawn(k, origin.blocks, seed, device)
    if kind not in RANDOM_OPERATORS:
        raise ValueError(f"no operator of kind '{kind}' is drawn from a seed")
    return RANDOM_OPERATORS[kind](k, size, seed, device)


def is_as_drawn(operator: Map, origin: Origin) -> bool:
    """Whether the seed, and the draw, that an operator names give all its tensors: a trained mask or basis may not pass for a
    drawn one."""
    if operator.seed is None:
        return False
    stored = operator.tensors()
    try:
        again = _again(operator, operator.seed, origin)
    except ValueError:
        return False
    if isinstance(operator, FactorMap) and isinstance(again, FactorMap) and not operator.has_shapes_of(again):
        return False
    drawn = again.tensors()
    return drawn.keys() == stored.keys() and all(torch.equal(drawn[name], stored[name]) for name in stored)


def _again(operator: Map, seed: int, origin: Origin) -> Map:
    if isinstance(operator, FactorMap):
        return operator.again(replace(origin, seed=seed))
    assert isinstance(operator, Operator)
    return redraw(operator.kind, operator.draw, operator.k, seed, origin)


# Masks: (k, origin) to k indices, or to all there are where these are fewer. All on the CPU, so that no device's last bits
# decide; ties go to the lower index.


def _uniform(k: int, origin: Origin) -> Tensor:
    generator = torch.Generator().manual_seed(origin.seed)
    return torch.randperm(origin.full_dimension, generator=generator)[:k]  # as `Coordinates.random`, in the order drawn


def _in_proportion(share: Callable[[Block], float]) -> Callable[[int, Origin], Tensor]:
    """Random coordinates, from each tensor a number in proportion to its share. A tensor that is used up leaves the rest to
    the others, in the same proportions."""

    def draw(k: int, origin: Origin) -> Tensor:
        generator = torch.Generator().manual_seed(origin.seed)
        turn = torch.empty(origin.full_dimension, dtype=torch.float64)
        for block in origin.blocks:
            rank = torch.randperm(block.stop - block.start, generator=generator)
            # A tensor's r-th coordinate is due when the common factor makes r + 1/2 coordinates of its share.
            turn[block.start : block.stop] = (rank + 0.5) / share(block)
        return turn.sort(stable=True).indices[:k]

    return draw


def _size(block: Block) -> float:
    return block.stop - block.start


def _sum_of_sides(block: Block) -> float:
    """What the Erdos-Renyi kernel keeps of a tensor in proportion to: density sum(shape) / prod(shape), times its size."""
    return float(sum(block.shape))


def _largest_initial(k: int, origin: Origin) -> Tensor:
    return origin.initial.cpu().abs().sort(descending=True, stable=True).indices[:k]


def _of_weights(draw: Callable[[int, Origin], Tensor]) -> Callable[[int, Origin], Tensor]:
    """All biases and normalization parameters, and what is left of k as a draw orders the weights."""

    def of_weights(k: int, origin: Origin) -> Tensor:
        weight = _weights(origin)
        order = draw(origin.full_dimension, origin)
        return torch.cat([(~weight).nonzero().squeeze(1), order[weight[order]]])[:k]

    return of_weights


def _weights(origin: Origin) -> Tensor:
    """(D,) bool: which coordinates are weights, and neither biases nor of a normalization."""
    return torch.cat([torch.full((block.stop - block.start,), block.role == "weight") for block in origin.blocks])


def _synaptic_flow(k: int, origin: Origin) -> Tensor:
    return _prune_by_flow(k, origin, torch.ones(origin.full_dimension, dtype=torch.bool))


def _synaptic_flow_of_weights(k: int, origin: Origin) -> Tensor:
    return _prune_by_flow(k, origin, _weights(origin))


def _prune_by_flow(k: int, origin: Origin, prunable: Tensor) -> Tensor:
    """SynFlow (Tanaka et al. 2020, algorithm 1): score, prune, score what is left; densities fall geometrically."""
    always, alive = (~prunable).nonzero().squeeze(1), prunable.nonzero().squeeze(1)
    size, last = len(alive), max(0, k - len(always))
    weights = origin.initial.clone()
    for done in range(1, SYNAPTIC_FLOW_ROUNDS + 1):
        density = (last / max(1, size)) ** (done / SYNAPTIC_FLOW_ROUNDS)
        count = last if done == SYNAPTIC_FLOW_ROUNDS else max(last, round(size * density))
        scores = origin.synaptic_flow(weights).cpu()[alive]
        alive = alive[scores.sort(descending=True, stable=True).indices[:count]].sort().values
        kept = torch.cat([always, alive])
        weights = torch.zeros_like(weights).index_copy_(0, kept.to(weights.device), weights[kept])
    return torch.cat([always, alive])[:k]


def _among(members: Callable[[Iterable[Block]], list[Block]]) -> Callable[[int, Origin], Tensor]:
    """Random coordinates of some tensors only."""

    def draw(k: int, origin: Origin) -> Tensor:
        places = [torch.arange(block.start, block.stop) for block in members(origin.blocks)]
        if not places:
            return torch.empty(0, dtype=torch.int64)
        generator = torch.Generator().manual_seed(origin.seed)
        among = torch.cat(places)
        return among[torch.randperm(len(among), generator=generator)[:k]]

    return draw


def biases(blocks: Iterable[Block]) -> list[Block]:
    """Everything that is added to activations: biases, and shifts of normalizations."""
    return [block for block in blocks if block.role == "bias"]


def normalizations(blocks: Iterable[Block]) -> list[Block]:
    """Scales and shifts of normalizations."""
    blocks = list(blocks)
    layers = {_layer(block) for block in blocks if block.role == "norm_scale"}
    return [block for block in blocks if _layer(block) in layers]


def last_layer(blocks: Iterable[Block]) -> list[Block]:
    """The tensors of the layer whose outputs are the logits."""
    blocks = list(blocks)
    return [block for block in blocks if _layer(block) == _layer(blocks[-1])]


def _layer(block: Block) -> str:
    return block.name.rpartition(".")[0]


def _first_neurons(k: int, origin: Origin) -> Tensor:
    """Parameters in the order in which they come in as all hidden layers are widened in proportion: one comes in with the last
    of the neurons that it belongs to. What belongs to no neuron is there from the start."""
    due, counts = [], neuron_counts(origin.blocks)
    for block in origin.blocks:
        share = torch.zeros(block.shape, dtype=torch.float64)
        for axis, layer in enumerate(block.neurons):
            if layer is not None:
                size = counts[layer]
                along = torch.arange(1, size + 1, dtype=torch.float64) / size
                along = along.repeat_interleave(block.shape[axis] // size)
                share = torch.maximum(share, along.view([-1 if one == axis else 1 for one in range(len(block.shape))]))
        due.append(share.flatten())
    return torch.cat(due).sort(stable=True).indices[:k]


MASKS: dict[str, Callable[[int, Origin], Tensor]] = {
    "uniform": _uniform,
    "uniform_per_tensor": _in_proportion(_size),
    "erdos_renyi_kernel": _in_proportion(_sum_of_sides),
    "magnitude_at_init": _largest_initial,
    "synaptic_flow": _synaptic_flow,
    "biases": _among(biases),
    "normalizations": _among(normalizations),
    "last_layer": _among(last_layer),
    "width": _first_neurons,
    "uniform_of_weights": _of_weights(_uniform),
    "uniform_per_tensor_of_weights": _of_weights(_in_proportion(_size)),
    "erdos_renyi_kernel_of_weights": _of_weights(_in_proportion(_sum_of_sides)),
    "magnitude_at_init_of_weights": _of_weights(_largest_initial),
    "synaptic_flow_of_weights": _synaptic_flow_of_weights,
}
"""Named draws of masks: (k, origin) to indices. None of them sees data."""
