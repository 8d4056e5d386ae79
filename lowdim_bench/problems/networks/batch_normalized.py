"""Networks that normalize by the statistics of a batch (Ioffe & Szegedy 2015, arXiv 1502.03167).

Training sees each batch's own statistics. Evaluations hold those of the training set at the very weights that are evaluated, so
that a loss is a function of the weights alone. Running averages would carry the history of a training into its result: numbers
that come from data, and that no count of degrees of freedom has.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from lowdim_bench.errors import MethodFailure
from lowdim_bench.problems.networks.base import Block, Layout, cross_entropy
from lowdim_bench.problems.networks.convolutional import Normalization, PerTrialNetwork
from lowdim_bench.specs.problem import ConvNetwork


class BatchNormalizedNetwork(PerTrialNetwork):
    """A network in which the logits of an example depend on the others of its batch, until statistics are held fixed.

    The statistics (S,) of a parameter vector are the mean of every normalized channel and then its variance, of one
    normalization after the other, over the first training examples as one batch. The variance is the biased one, with which
    training normalizes: the loss of a training set that is no larger is therefore the one that full-batch gradients go down.
    """

    has_statistics = True

    def __init__(self, blocks: Sequence[Block], statistics_examples: int) -> None:
        super().__init__(blocks)
        self._statistics_examples = statistics_examples

    @abstractmethod
    def statistics_one(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        """Statistics (S,) of one parameter vector on a batch of images (B, channels, height, width)."""

    @abstractmethod
    def evaluate_one(self, parts: Sequence[Tensor], images: Tensor, statistics: Tensor) -> Tensor:
        """Logits (B, C) of one parameter vector, normalized by statistics (S,)."""

    @torch.no_grad()
    def statistics(self, weights: Tensor, inputs: Tensor) -> Tensor:
        batch = inputs[: self._statistics_examples].unsqueeze(0)
        return self._one_by_one(self.statistics_one, self.split(weights), batch)

    def evaluate(self, parts: Sequence[Tensor], inputs: Tensor, statistics: Tensor | None) -> Tensor:
        assert statistics is not None
        held = iter(statistics)
        return self._one_by_one(lambda own, images: self.evaluate_one(own, images, next(held)), parts, inputs)

    def loss_and_gradient(
        self, weights: Tensor, inputs: Tensor, labels: Tensor, examples: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Raises `MethodFailure` for a batch of one example, which is its own mean."""
        if examples is not None and examples.shape[1] < 2:
            raise MethodFailure(
                "it asked for the gradient of a single example, but this network normalizes batches: at least 2 are needed"
            )
        return super().loss_and_gradient(weights, inputs, labels, examples)

    def hessian_vector(
        self, weights: Tensor, vectors: Tensor, inputs: Tensor, labels: Tensor, examples: Tensor | None
    ) -> Tensor:
        """As of every network, but of batches as large as those of which statistics are taken: up to that size, the Hessian
        is the one of the loss that is evaluated, its statistics moving with the weights."""
        if examples is None:
            examples = torch.arange(len(labels), device=labels.device).expand(weights.shape[0], -1)
        products, count = torch.zeros_like(weights), examples.shape[1]
        for row in range(len(weights)):  # one after the other: a whole batch of activations each would not fit
            for some in examples[row].split(self._statistics_examples):
                product = self._product(weights[row : row + 1], vectors[row : row + 1], inputs[some], labels[some])
                products[row] += product * (len(some) / count)
        return products

    def _product(self, weights: Tensor, vector: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """(D,) at weights (1, D), with vector (1, D), of one batch."""
        with torch.enable_grad():
            parts = [part.detach().requires_grad_() for part in self.split(weights)]
            losses = cross_entropy(self.forward(parts, inputs.unsqueeze(0)), labels.unsqueeze(0))
            gradients = torch.autograd.grad(losses.sum(), parts, create_graph=True)
            along = sum((one * own).sum() for one, own in zip(gradients, self.split(vector), strict=True))
            assert isinstance(along, Tensor)
            products = torch.autograd.grad(along, parts)
        return torch.cat([product.flatten() for product in products])


@final
class BatchNormalizedConvNet(BatchNormalizedNetwork):
    """3 x 3 convolution, batch normalization, ReLU, 2 x 2 average pooling for each of `channels`; then one dense layer."""

    def __init__(self, image: tuple[int, int, int], spec: ConvNetwork, classes: int) -> None:
        assert spec.normalization is not None
        layout = Layout()
        before, height, width = image
        for index, after in enumerate(spec.channels):
            below = index - 1 if index else None
            layout.conv(f"conv{index}", before, after, 3, bias=False, neurons=(index, below))
            layout.norm(f"norm{index}", after, (index,))
            before, height, width = after, height // 2, width // 2
        layout.dense("head", before * height * width, classes, (len(spec.channels) - 1, None))
        super().__init__(layout.blocks, spec.normalization.statistics_examples)

    def forward_one(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        return _logits(parts, images, _by_own_batch)

    def statistics_one(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        seen: list[Tensor] = []

        def observed(values: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
            seen.append(channel_statistics(values))
            return _by_own_batch(values, scale, shift)

        _logits(parts, images, observed)
        return torch.cat(seen)

    def evaluate_one(self, parts: Sequence[Tensor], images: Tensor, statistics: Tensor) -> Tensor:
        start = 0

        def held(values: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
            nonlocal start
            mean, variance = statistics[start : start + 2 * len(scale)].chunk(2)
            start += 2 * len(scale)
            return functional.batch_norm(values, mean, variance, scale, shift)

        return _logits(parts, images, held)

    def linear(self, parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
        def affine(values: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
            return values * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)

        return self._one_by_one(lambda own, images: _logits(own, images, affine), parts, inputs)


def channel_statistics(values: Tensor) -> Tensor:
    """Means and then biased variances (2 C,) of the channels of values (B, C, H, W)."""
    variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
    return torch.cat([mean, variance])


def _by_own_batch(values: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return functional.batch_norm(values, None, None, scale, shift, training=True)


def _logits(parts: Sequence[Tensor], images: Tensor, normalize: Normalization) -> Tensor:
    """Logits (B, C) of one parameter vector."""
    values = images
    for index in range(0, len(parts) - 2, 3):
        values = functional.conv2d(values, parts[index], padding=1)
        values = functional.avg_pool2d(normalize(values, parts[index + 1], parts[index + 2]).relu(), 2)
    return torch.addmm(parts[-1], values.flatten(1), parts[-2])
