"""Networks as functions of flat parameter vectors, for a whole pack of parameter vectors at once.

Shapes: P parameter vectors in the pack, D parameters each, B examples each, C classes. Inputs are (P or 1, B, features) or
(P or 1, B, channels, height, width); a leading 1 means that all of the pack see the same examples.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

EVALUATION_EXAMPLES = 256
"""Examples in one chunk of an evaluation: enough to amortize a call, few enough that activations stay near the caches."""


Role = Literal["weight", "bias", "norm_scale", "gain"]
"""What a tensor is: multiplied with activations; added to them; the scale of a normalization; a factor on activations."""


@dataclass(frozen=True)
class Block:
    """One tensor of a network and where it lies in the flat parameter vector."""

    name: str
    role: Role
    shape: tuple[int, ...]
    start: int
    fan_in: int
    neurons: tuple[int | None, ...] = ()
    """For each axis, which hidden layer's neurons lie along it, or None for no neurons. Empty where nobody has said.

    Where an axis is longer than its layer has neurons, each has an equal share of it, one after the other: the pixels of a
    channel as a dense layer sees them.
    """

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape)


class Layout:
    """Collects blocks one after the other."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def add(
        self,
        name: str,
        role: Role,
        shape: tuple[int, ...],
        fan_in: int,
        neurons: tuple[int | None, ...] = (),
    ) -> None:
        start = self.blocks[-1].stop if self.blocks else 0
        self.blocks.append(Block(name, role, shape, start, fan_in, neurons))

    def dense(self, name: str, inputs: int, outputs: int, neurons: tuple[int | None, ...] = ()) -> None:
        """A layer's weights and biases; `neurons` says which hidden layers are its inputs and outputs."""
        self.add(f"{name}.weight", "weight", (inputs, outputs), inputs, neurons)
        self.add(f"{name}.bias", "bias", (outputs,), inputs, neurons[1:])

    def conv(
        self, name: str, inputs: int, outputs: int, size: int, *, bias: bool, neurons: tuple[int | None, ...] = ()
    ) -> None:
        """A square kernel and its biases; `neurons` says which hidden layers are its outputs and inputs."""
        fan_in = inputs * size * size
        self.add(
            f"{name}.weight", "weight", (outputs, inputs, size, size), fan_in, (*neurons, None, None) if neurons else ()
        )
        if bias:
            self.add(f"{name}.bias", "bias", (outputs,), fan_in, neurons[:1])

    def norm(self, name: str, channels: int, neurons: tuple[int | None, ...] = ()) -> None:
        self.add(f"{name}.scale", "norm_scale", (channels,), channels, neurons)
        self.add(f"{name}.shift", "bias", (channels,), channels, neurons)


def neuron_counts(blocks: Sequence[Block]) -> dict[int, int]:
    """How many neurons each hidden layer has. Raises ValueError where a block does not say where they lie."""
    counts: dict[int, int] = {}
    for block in blocks:
        if len(block.neurons) != len(block.shape):
            raise ValueError(f"{block.name} does not say which of its parameters belong to which neuron")
        for layer, size in zip(block.neurons, block.shape, strict=True):
            if layer is not None:
                counts[layer] = min(size, counts.get(layer, size))
    return dict(sorted(counts.items()))


def lecun_normal(blocks: Sequence[Block], generator: torch.Generator) -> Tensor:
    """Initial parameters (D,): truncated LeCun-normal weights (variance 1 / fan-in), zero biases, unit norm scales."""
    weights = torch.zeros(blocks[-1].stop)
    for block in blocks:
        values = weights[block.start : block.stop]
        if block.role == "weight":
            # flax's lecun_normal: a normal cut at two deviations, rescaled to keep the variance.
            deviation = math.sqrt(1 / block.fan_in) / 0.87962566103423978
            torch.nn.init.trunc_normal_(values, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator)
        elif block.role == "norm_scale":
            values.fill_(1.0)
    return weights


def split(blocks: Sequence[Block], weights: Tensor) -> list[Tensor]:
    """Views (P, *shape), one a block, of weights (P, D)."""
    return [weights[:, block.start : block.stop].unflatten(1, block.shape) for block in blocks]


class PackedNetwork(ABC):
    """A network of fixed shape. Subclasses say which blocks it has and how logits come from them."""

    has_statistics = False
    """Whether an evaluation needs `statistics` of the training inputs, which take a pass over them."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = tuple(blocks)
        self.full_dimension = self.blocks[-1].stop

    @abstractmethod
    def forward(self, parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Logits (P, B, C), as they are trained. `parts` holds a (P, *shape) tensor for each block, in order."""

    def statistics(self, weights: Tensor, inputs: Tensor) -> Tensor | None:
        """What normalization holds fixed in an evaluation at weights (P, D), from training inputs (N, ...): (P, S). None where
        each example is normalized by itself, or not at all."""
        return None

    def evaluate(self, parts: Sequence[Tensor], inputs: Tensor, statistics: Tensor | None) -> Tensor:
        """Logits (P, B, C), as they are evaluated: each example's are its own, given the `statistics` of the weights."""
        return self.forward(parts, inputs)

    def split(self, weights: Tensor) -> list[Tensor]:
        """Views (P, *shape), one a block, of weights (P, D)."""
        return split(self.blocks, weights)

    def initial(self, generator: torch.Generator) -> Tensor:
        """Initial parameters (D,), as `lecun_normal` draws them."""
        return lecun_normal(self.blocks, generator)

    def loss_and_gradient(
        self, weights: Tensor, inputs: Tensor, labels: Tensor, examples: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy (P,) and its gradient (P, D) at weights (P, D).

        inputs (N, ...) and labels (N,) are the data; each row sees its own examples (P, B), or all of the data for None.
        Networks override it where written-out gradients and compiled loops are faster; this one is what these are tested
        against, and what other devices and precisions run.
        """
        if examples is None:
            some, wanted = inputs.unsqueeze(0), labels.expand(weights.shape[0], -1)
        else:
            some, wanted = inputs[examples], labels[examples]
        # The parts are leaves of their own: one concatenation at the end, instead of a zero-padded (P, D) a slice.
        with torch.enable_grad():
            parts = [part.detach().requires_grad_() for part in self.split(weights)]
            losses = cross_entropy(self.forward(parts, some), wanted)
            gradients = torch.autograd.grad(losses.sum(), parts)
        return losses.detach(), torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)

    @torch.no_grad()
    def measure(
        self, weights: Tensor, inputs: Tensor, labels: Tensor, reference: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and accuracy on all of inputs (N, ...) and labels (N,): each (P,), float64, on the CPU.

        `reference` are the training inputs, of which statistics are taken; None where `inputs` are these.
        """
        parts, pack, count = self.split(weights), weights.shape[0], len(labels)
        statistics = self.statistics(weights, inputs if reference is None else reference)
        loss = torch.zeros(pack, dtype=torch.float64, device=weights.device)
        correct = torch.zeros(pack, dtype=torch.float64, device=weights.device)
        for start in range(0, count, EVALUATION_EXAMPLES):
            some = labels[start : start + EVALUATION_EXAMPLES].expand(pack, -1)
            logits = self.evaluate(parts, inputs[start : start + EVALUATION_EXAMPLES].unsqueeze(0), statistics)
            losses = functional.cross_entropy(logits.flatten(0, 1), some.flatten(), reduction="none")
            loss += losses.view(pack, -1).sum(dim=1, dtype=torch.float64)
            correct += (logits.argmax(dim=2) == some).sum(dim=1)
        return (loss / count).cpu(), (correct / count).cpu()

    def hessian_vector(
        self, weights: Tensor, vectors: Tensor, inputs: Tensor, labels: Tensor, examples: Tensor | None
    ) -> Tensor:
        """Products (P, D) of the Hessian of the mean cross-entropy at weights (P, D) with vectors (P, D), by differentiating
        the gradient's inner product with them (Pearlmutter 1994)."""
        if examples is None:
            examples = torch.arange(len(labels), device=labels.device).expand(weights.shape[0], -1)
        products, count = torch.zeros_like(weights), examples.shape[1]
        for some in examples.split(EVALUATION_EXAMPLES, dim=1):
            with torch.enable_grad():
                point = weights.detach().requires_grad_()
                losses = cross_entropy(self.forward(self.split(point), inputs[some]), labels[some])
                (gradient,) = torch.autograd.grad(losses.sum(), point, create_graph=True)
                (product,) = torch.autograd.grad((gradient * vectors).sum(), point)
            products += product * (some.shape[1] / count)
        return products

    @torch.no_grad()
    def error_norms(self, weights: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """|softmax - one-hot label| (P, N) of each training example at weights (P, D)."""
        parts, norms, statistics = self.split(weights), [], self.statistics(weights, inputs)
        for start in range(0, len(labels), EVALUATION_EXAMPLES):
            some = labels[start : start + EVALUATION_EXAMPLES]
            logits = self.evaluate(parts, inputs[start : start + EVALUATION_EXAMPLES].unsqueeze(0), statistics)
            wanted = functional.one_hot(some, logits.shape[2])
            norms.append((logits.softmax(dim=2) - wanted).norm(dim=2))
        return torch.cat(norms, dim=1)

    @torch.no_grad()
    def example_losses(self, weights: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy (P, N) of each training example at weights (P, D), as it is evaluated."""
        parts, losses, statistics = self.split(weights), [], self.statistics(weights, inputs)
        for start in range(0, len(labels), EVALUATION_EXAMPLES):
            wanted = labels[start : start + EVALUATION_EXAMPLES].expand(len(weights), -1)
            logits = self.evaluate(parts, inputs[start : start + EVALUATION_EXAMPLES].unsqueeze(0), statistics)
            found = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
            losses.append(found.view(wanted.shape))
        return torch.cat(losses, dim=1)

    def synaptic_flow(self, weights: Tensor, example_shape: Sequence[int]) -> Tensor:
        """|w| dR/d|w| (D,), float64 on the CPU; see `Problem.synaptic_flow`."""
        with torch.enable_grad():
            sizes = weights.detach().cpu().double().abs().unsqueeze(0)
            parts = [part.detach().requires_grad_() for part in self.split(sizes)]
            ones = torch.ones(1, 1, *example_shape, dtype=sizes.dtype)
            slopes = torch.autograd.grad(self.linear(parts, ones).sum(), parts)
        return torch.cat([slope.flatten() for slope in slopes]) * sizes[0]

    def linear(self, parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Logits (P, B, C) without normalization by statistics, which has no place in a synaptic flow. Where no weight and no
        input is negative, ReLU does nothing, and logits are linear in each part."""
        return self.forward(parts, inputs)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy (P,) of logits (P, B, C) against labels (P, B)."""
    losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(dim=1)


def runs_compiled(weights: Tensor) -> bool:
    """Whether the compiled loops of `kernels` can take a tensor: they run on CPUs, in float32."""
    return weights.device.type == "cpu" and weights.dtype == torch.float32
