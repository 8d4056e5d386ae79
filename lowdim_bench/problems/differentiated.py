"""Problems that only say what their loss is: gradients and products with the Hessian come from autograd."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lowdim_bench.problems.base import Problem
from lowdim_bench.problems.networks.base import split


class DifferentiatedProblem(Problem):
    """A problem whose rows are losses of torch tensors, each of its own row of weights alone."""

    @abstractmethod
    def losses(self, parts: Sequence[Tensor], examples: Tensor | None) -> Tensor:
        """What training goes down on, (P,), of a (P, *shape) tensor for each block; on examples (P, B), or on all for None."""

    def loss_and_gradient(self, weights: Tensor, examples: Tensor | None) -> tuple[Tensor, Tensor]:
        if len(weights) > 1 and weights.device.type == "cpu":
            found = [
                self.loss_and_gradient(row, None if examples is None else examples[place : place + 1])
                for place, row in enumerate(alone(weights))
            ]
            return torch.cat([loss for loss, _ in found]), torch.cat([gradient for _, gradient in found])
        # The parts are leaves of their own: one concatenation at the end, instead of a zero-padded (P, D) a slice.
        with torch.enable_grad():
            parts = [part.detach().requires_grad_() for part in split(self.blocks, weights)]
            losses = self.losses(parts, examples)
            gradients = torch.autograd.grad(losses.sum(), parts)
        return losses.detach(), torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)

    def hessian_vector(self, weights: Tensor, vectors: Tensor, examples: Tensor | None) -> Tensor:
        with torch.enable_grad():
            point = weights.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(
                self.losses(split(self.blocks, point), examples).sum(), point, create_graph=True
            )
            (product,) = torch.autograd.grad((gradient * vectors).sum(), point)
        return product


def alone(weights: Tensor) -> Iterator[Tensor]:
    """Each row of weights (P, D) as a pack (1, D) of its own, on a copy.

    The last bits of a product of matrices depend on how these lie in memory, and a row of a pack starts anywhere.
    """
    for row in range(len(weights)):
        yield weights[row : row + 1].clone()
