"""Optimizers for a pack: one row a trial, each with its own learning rate.

torch's own optimizers have one learning rate a parameter group, and so would need one group, and one kernel launch, a trial.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from lowdim_bench.kernels import optimizers as kernels
from lowdim_bench.specs.task import Adam, AlternatingLeastSquares, Optimizer, Sgd


class PackOptimizer(ABC):
    """Updates theta (P, K) in place."""

    @abstractmethod
    def step(self, theta: Tensor, gradient: Tensor, rate: Tensor) -> None:
        """One step against `gradient` (P, K) at learning rates `rate` (P, 1)."""

    @abstractmethod
    def forget(self, which: Tensor) -> None:
        """Begin anew with some numbers, (P, K) bool: nothing of their past moves them any more."""

    @abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Go on with some rows only: `rows` holds their indices."""


@final
class PackAdam(PackOptimizer):
    """Adam with true bias correction 1 - beta ** t (Kingma & Ba 2015, algorithm 1)."""

    def __init__(self, spec: Adam, theta: Tensor) -> None:
        self._spec = spec
        self._compiled = theta.device.type == "cpu" and theta.dtype == torch.float32
        self._steps = 0
        # beta ** t, kept where theta is: a recorded step could not be told a number that only Python knows.
        self._powers = torch.ones(2, dtype=torch.float64, device=theta.device)
        self._betas = torch.tensor([spec.beta1, spec.beta2], dtype=torch.float64, device=theta.device)
        self._mean = theta.new_zeros(theta.shape)
        self._square = theta.new_zeros(theta.shape)

    def step(self, theta: Tensor, gradient: Tensor, rate: Tensor) -> None:
        spec = self._spec
        self._steps += 1
        if self._compiled:
            mean, square = self._mean.numpy(), self._square.numpy()
            kernels.adam(
                theta.numpy(),
                gradient.numpy(),
                rate.numpy(),
                mean,
                square,
                self._steps,
                spec.beta1,
                spec.beta2,
                spec.epsilon,
            )
            return
        correction1, correction2 = (1 - self._powers.mul_(self._betas)).to(theta.dtype)
        self._mean.lerp_(gradient, 1 - spec.beta1)
        self._square.mul_(spec.beta2).addcmul_(gradient, gradient, value=1 - spec.beta2)
        root = (self._square / correction2).sqrt_().add_(spec.epsilon)
        theta.sub_(self._mean * (rate / correction1) / root)

    def forget(self, which: Tensor) -> None:
        self._mean.masked_fill_(which, 0.0)
        self._square.masked_fill_(which, 0.0)

    def keep(self, rows: Tensor) -> None:
        self._mean, self._square = self._mean[rows], self._square[rows]


@final
class PackSgd(PackOptimizer):
    """Stochastic gradient descent with heavy-ball or Nesterov momentum (as torch.optim.SGD writes it)."""

    def __init__(self, spec: Sgd, theta: Tensor) -> None:
        self._spec = spec
        self._velocity = theta.new_zeros(theta.shape) if spec.momentum else None

    def step(self, theta: Tensor, gradient: Tensor, rate: Tensor) -> None:
        move = gradient
        if self._velocity is not None:
            self._velocity.mul_(self._spec.momentum).add_(gradient)
            move = gradient.add(self._velocity, alpha=self._spec.momentum) if self._spec.nesterov else self._velocity
        theta.addcmul_(move, rate, value=-1)

    def forget(self, which: Tensor) -> None:
        if self._velocity is not None:
            self._velocity.masked_fill_(which, 0.0)

    def keep(self, rows: Tensor) -> None:
        if self._velocity is not None:
            self._velocity = self._velocity[rows]


@final
class PackRelaxation(PackOptimizer):
    """Goes the share `rate` of the way to what it is given: all of it at rate 1."""

    def step(self, theta: Tensor, gradient: Tensor, rate: Tensor) -> None:
        """`gradient` (P, K) is where to go, the solution of a block, and no gradient."""
        theta.lerp_(gradient, rate)

    def forget(self, which: Tensor) -> None:
        return

    def keep(self, rows: Tensor) -> None:
        return


def build_optimizer(spec: Optimizer, theta: Tensor) -> PackOptimizer:
    """The optimizer of a recipe for theta (P, K)."""
    match spec:
        case Adam():
            return PackAdam(spec, theta)
        case Sgd():
            return PackSgd(spec, theta)
        case AlternatingLeastSquares():
            return PackRelaxation()
