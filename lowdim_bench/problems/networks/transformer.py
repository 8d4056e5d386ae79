"""A decoder-only transformer as a function of flat parameter vectors, for a whole pack of them at once.

Shapes: P parameter vectors in the pack, B windows of T <= context characters, C characters in the alphabet, `width` W.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from lowdim_bench.problems.networks.base import Layout, lecun_normal
from lowdim_bench.specs.problem import TransformerNetwork

_WIDENING = 4
"""Units of a layer's own network for each of its inputs."""


@final
class Transformer:
    """Layers of causal attention and GELU networks, each behind a layer normalization (see `TransformerNetwork`)."""

    def __init__(self, spec: TransformerNetwork, alphabet: int) -> None:
        self._spec, self._alphabet = spec, alphabet
        width, layout = spec.width, Layout()
        layout.add("embedding.character", "weight", (alphabet, width), width)
        layout.add("embedding.position", "weight", (spec.context, width), width)
        for layer in range(spec.layers):
            name = f"layer{layer}"
            layout.norm(f"{name}.attention_norm", width)
            layout.dense(f"{name}.query_key_value", width, 3 * width)
            layout.dense(f"{name}.attention_out", width, width)
            layout.norm(f"{name}.network_norm", width)
            layout.dense(f"{name}.network_in", width, _WIDENING * width)
            layout.dense(f"{name}.network_out", _WIDENING * width, width)
        layout.norm("last_norm", width)
        layout.dense("head", width, alphabet)
        self.blocks = tuple(layout.blocks)

    def initial(self, generator: torch.Generator) -> Tensor:
        """Initial parameters (D,): LeCun-normal weights, embeddings of norm about 1, zero biases, unit norm scales."""
        return lecun_normal(self.blocks, generator)

    def forward(self, parts: Sequence[Tensor], characters: Tensor) -> Tensor:
        """Logits (P, B, T, C) of the characters after each of characters (P or 1, B, T), int64; `parts` holds a (P, *shape)
        tensor for each block, in order."""
        pack, remaining = len(parts[0]), iter(parts)
        characters = characters.expand(pack, -1, -1)
        # One table for the whole pack: the rows of trial p are those from p * C on.
        offsets = torch.arange(pack, device=characters.device).view(-1, 1, 1) * self._alphabet
        values = functional.embedding(characters + offsets, next(remaining).flatten(0, 1))
        values = values + next(remaining)[:, : characters.shape[2]].unsqueeze(1)
        for _ in range(self._spec.layers):
            normal = _normalized(values, remaining)
            values = values + _dense(self._attend(_dense(normal, remaining)), remaining)
            normal = _normalized(values, remaining)
            values = values + _dense(functional.gelu(_dense(normal, remaining)), remaining)
        return _dense(_normalized(values, remaining), remaining)

    def _attend(self, values: Tensor) -> Tensor:
        """(P, B, T, W) of queries, keys and values (P, B, T, 3 W)."""
        pack, batch, length, _ = values.shape
        split = values.view(pack * batch, length, 3, self._spec.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(split[0], split[1], split[2], is_causal=True)
        return attended.transpose(1, 2).reshape(pack, batch, length, -1)

    @property
    def multiplications(self) -> int:
        """Of the logits of one window: products of matrices, and attention over all pairs of positions."""
        spec = self._spec
        tables = self.blocks[0].stop + spec.context * spec.width
        dense = sum(block.stop - block.start for block in self.blocks if block.role == "weight") - tables
        return spec.context * (dense + 2 * spec.layers * spec.context * spec.width)


def _normalized(values: Tensor, remaining: Iterator[Tensor]) -> Tensor:
    scale, shift = next(remaining), next(remaining)
    return functional.layer_norm(values, values.shape[-1:]) * scale[:, None, None] + shift[:, None, None]


def _dense(values: Tensor, remaining: Iterator[Tensor]) -> Tensor:
    """One batched product for the whole pack."""
    weights, bias = next(remaining), next(remaining)
    return torch.baddbmm(bias.unsqueeze(1), values.flatten(1, 2), weights).unflatten(1, values.shape[1:3])
