"""A lean JAX loop: one `jit` a step, which fuses projection, forward and backward pass and optimizer. One trial at a time.

Needs the optional extra: `pip install -c constraints.txt '.[benchmarks]'`. The step's state is donated, so that it is updated
in place. Images are channels-last, which XLA's convolutions on a CPU are fastest with.
"""

from __future__ import annotations

import os

# Read when JAX starts its CPU client: one thread, as for every other loop.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax import lax
from torch import Tensor

from benchmarks.contest import Contest, Training
from lowdim_bench.specs.problem import MlpNetwork
from lowdim_bench.specs.task import Adam, Optimizer, Sgd

_EVALUATION_EXAMPLES = 256


class LeanJax:
    """`Loop` in JAX."""

    name = "lean JAX"

    def __init__(self, contest: Contest) -> None:
        self.contest = contest
        self.shapes, self.order = _layout(contest)
        images = contest.problem.inputs
        inputs = images.flatten(1) if isinstance(contest.network, MlpNetwork) else images.permute(0, 2, 3, 1)
        self.inputs = jnp.asarray(inputs.contiguous().numpy())
        self.labels = jnp.asarray(contest.problem.labels.int().numpy())
        starts = range(0, len(self.labels), _EVALUATION_EXAMPLES)
        places = [slice(start, start + _EVALUATION_EXAMPLES) for start in starts]
        self.chunks = [(self.inputs[place], self.labels[place]) for place in places]
        self.step = jax.jit(
            partial(_step, tuple(self.shapes), contest.task.training.optimizer), donate_argnames=("theta", "state")
        )
        self.total_loss = jax.jit(partial(_total_loss, tuple(self.shapes)))

    def begin(self, k: int, replicate: int, basis: Tensor | None = None) -> Training:
        if basis is None:
            basis = self.contest.gaussian_basis(k, replicate)
        return _JaxTraining(self, k, replicate, basis)


class _JaxTraining:
    def __init__(self, loop: LeanJax, k: int, replicate: int, basis: Tensor) -> None:
        contest = loop.contest
        self._loop = loop
        self._basis = jnp.asarray(basis.numpy())
        self._origin = jnp.asarray(contest.problem.initial(replicate)[loop.order].numpy())
        self._batches = contest.batches(replicate)
        self._rate = contest.learning_rate(k)
        self._theta = jnp.zeros(k)
        # The count of steps and one vector for each moment of the optimizer.
        self._state = (jnp.zeros(()), jnp.zeros(k), jnp.zeros(k))
        self._done = 0

    def advance(self, steps: int) -> None:
        loop = self._loop
        for step in range(self._done, self._done + steps):
            batch = self._batches.examples(step)
            assert batch is not None
            self._theta, self._state = loop.step(
                theta=self._theta,
                state=self._state,
                basis=self._basis,
                origin=self._origin,
                inputs=loop.inputs,
                labels=loop.labels,
                examples=batch[0].numpy(),
                rate=self._rate,
            )
        jax.block_until_ready(self._theta)
        self._done += steps

    def loss(self) -> float:
        loop = self._loop
        weights = self._origin + self._theta @ self._basis
        total = sum(float(loop.total_loss(weights, inputs, labels)) for inputs, labels in loop.chunks)
        return total / len(loop.labels)


def _layout(contest: Contest) -> tuple[list[tuple[int, ...]], Tensor]:
    """Shapes of the parameters, and the order that brings the engine's to them: kernels height, width, inputs, outputs;
    the dense layer after the convolutions takes its inputs by height, width, channel."""
    shapes, parts = [], []
    convolutional = not isinstance(contest.network, MlpNetwork)
    blocks = contest.problem.blocks
    channels = blocks[-3].shape[0] if convolutional else 0
    for block in blocks:
        places = torch.arange(block.start, block.stop).view(block.shape)
        if len(block.shape) == 4:
            places = places.permute(2, 3, 1, 0)
        elif convolutional and len(block.shape) == 2:
            places = places.unflatten(0, (channels, -1)).transpose(0, 1).flatten(0, 1)
        shapes.append(tuple(places.shape))
        parts.append(places.flatten())
    return shapes, torch.cat(parts)


def _logits(shapes: Sequence[tuple[int, ...]], weights: Any, inputs: Any) -> Any:
    parts, start = [], 0
    for shape in shapes:
        size = int(torch.Size(shape).numel())
        parts.append(weights[start : start + size].reshape(shape))
        start += size
    values = inputs
    for index in range(0, len(parts), 2):
        kernel, bias = parts[index], parts[index + 1]
        if kernel.ndim == 4:
            values = lax.conv_general_dilated(
                values, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            values = jax.nn.relu(values + bias)
            values = lax.reduce_window(values, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
        else:
            values = values.reshape(values.shape[0], -1) @ kernel + bias
            if index + 2 < len(parts):
                values = jax.nn.relu(values)
    return values


def _total_loss(shapes: Sequence[tuple[int, ...]], weights: Any, inputs: Any, labels: Any) -> Any:
    """Cross-entropy summed over the examples."""
    logits = _logits(shapes, weights, inputs)
    picked = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jnp.sum(jax.nn.logsumexp(logits, axis=1) - picked)


def _step(  # noqa: PLR0913, PLR0917 - the arrays that a step reads, as the jitted function takes them
    shapes: Sequence[tuple[int, ...]],
    optimizer: Optimizer,
    theta: Any,
    state: Any,
    basis: Any,
    origin: Any,
    inputs: Any,
    labels: Any,
    examples: Any,
    rate: Any,
) -> tuple[Any, Any]:
    """theta (k,) and the optimizer's state after one step."""

    def loss(theta: Any) -> Any:
        total = _total_loss(shapes, origin + theta @ basis, inputs[examples], labels[examples])
        return total / len(examples)

    gradient = jax.grad(loss)(theta)
    count, first, second = state
    count += 1
    if isinstance(optimizer, Adam):
        first = optimizer.beta1 * first + (1 - optimizer.beta1) * gradient
        second = optimizer.beta2 * second + (1 - optimizer.beta2) * gradient**2
        root = jnp.sqrt(second / (1 - optimizer.beta2**count)) + optimizer.epsilon
        move = first / (1 - optimizer.beta1**count) / root
    else:
        assert isinstance(optimizer, Sgd)  # tasks of networks have no other
        first = optimizer.momentum * first + gradient
        move = gradient + optimizer.momentum * first if optimizer.nesterov else first
    return theta - rate * move, (count, first, second)
