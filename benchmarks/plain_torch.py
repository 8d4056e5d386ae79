"""The plain PyTorch loop that one writes first: one trial at a time, a dense basis, `functional_call`, autograd, `torch.optim`.

It is written to be fast within that: the basis is normalized once and stored as (k, D), which is up to twice as fast as (D, k)
here; images are laid out channels last, which is up to 1.6 times as fast; evaluations build no graph and run in chunks; nothing
is computed that the training does not need.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.contest import Contest, Training
from lowdim_bench.specs.problem import MlpNetwork
from lowdim_bench.specs.task import Adam, Optimizer, Sgd

_EVALUATION_EXAMPLES = 256


class PlainTorch:
    """`Loop` in plain PyTorch."""

    name = "plain PyTorch"

    def __init__(self, contest: Contest) -> None:
        self.contest = contest
        self.network = _network(contest)
        self.shapes = {name: value.shape for name, value in self.network.named_parameters()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        self.order = _order(contest)
        # How a convolution wants its images; choosing some of them may undo it.
        convolves = not isinstance(contest.network, MlpNetwork)
        self.layout = torch.channels_last if convolves else torch.contiguous_format
        self.inputs = contest.problem.inputs.to(memory_format=self.layout)
        self.labels = contest.problem.labels
        chunks = zip(self.inputs.split(_EVALUATION_EXAMPLES), self.labels.split(_EVALUATION_EXAMPLES), strict=True)
        self.chunks = list(chunks)

    def begin(self, k: int, replicate: int, basis: Tensor | None = None) -> Training:
        if basis is None:
            basis = self.contest.gaussian_basis(k, replicate)
        return _PlainTraining(self, k, replicate, basis)

    def logits(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """The network at flat weights (D,)."""
        parts = zip(self.shapes.items(), weights.split(self.sizes), strict=True)
        return functional_call(self.network, {name: part.view(shape) for (name, shape), part in parts}, (inputs,))


class _PlainTraining:
    def __init__(self, loop: PlainTorch, k: int, replicate: int, basis: Tensor) -> None:
        contest = loop.contest
        self._loop, self._basis = loop, basis
        self._origin = contest.problem.initial(replicate)[loop.order]
        self._batches = contest.batches(replicate)
        self._theta = torch.zeros(k, requires_grad=True)
        self._optimizer = _optimizer(contest.task.training.optimizer)([self._theta], contest.learning_rate(k))
        self._done = 0

    def advance(self, steps: int) -> None:
        loop = self._loop
        for step in range(self._done, self._done + steps):
            batch = self._batches.examples(step)
            assert batch is not None
            examples = batch[0]
            weights = self._origin + self._theta @ self._basis
            inputs = loop.inputs[examples].to(memory_format=loop.layout)
            loss = nn.functional.cross_entropy(loop.logits(weights, inputs), loop.labels[examples])
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        self._done += steps

    @torch.no_grad()
    def loss(self) -> float:
        loop = self._loop
        weights = self._origin + self._theta @ self._basis
        total = 0.0
        for inputs, labels in loop.chunks:
            total += float(nn.functional.cross_entropy(loop.logits(weights, inputs), labels, reduction="sum"))
        return total / len(loop.labels)


def _network(contest: Contest) -> nn.Module:
    """The task's network as torch modules."""
    image, classes = contest.problem.inputs.shape[1:], contest.classes
    if isinstance(contest.network, MlpNetwork):
        widths = [image.numel(), *contest.network.hidden]
        hidden = [layer for before, after in pairwise(widths) for layer in (nn.Linear(before, after), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(widths[-1], classes))
    channels, height, width = [image[0], *contest.network.channels], image[1], image[2]
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
        height, width = height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * height * width, classes))


def _order(contest: Contest) -> Tensor:
    """The engine keeps dense weights as (inputs, outputs), `nn.Linear` as (outputs, inputs); all else is alike."""
    parts = []
    for block in contest.problem.blocks:
        places = torch.arange(block.start, block.stop).view(block.shape)
        parts.append((places.T if len(block.shape) == 2 else places).flatten())
    return torch.cat(parts)


def _optimizer(spec: Optimizer) -> Callable[[list[Tensor], float], torch.optim.Optimizer]:
    if isinstance(spec, Adam):
        return lambda tensors, rate: torch.optim.Adam(tensors, rate, (spec.beta1, spec.beta2), spec.epsilon)
    if not isinstance(spec, Sgd):
        raise ValueError(f"plain PyTorch has no optimizer of kind {spec.kind}")
    return lambda tensors, rate: torch.optim.SGD(tensors, rate, spec.momentum, nesterov=spec.nesterov)
