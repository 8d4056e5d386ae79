"""Iterative magnitude pruning that reads from the landscape how much it may prune."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from lowdim_bench.errors import MethodFailure
from lowdim_bench.methods.base import Method, Preparation, Setting, Train
from lowdim_bench.methods.pruning import largest, members
from lowdim_bench.parametrizations import AffineSubspace, Coordinates


@final
class LandscapeImp(Method):
    """As `imp`, but each round prunes as large a fraction as the flatness at the end of its training allows.

    In a quadratic well, a subspace of dimension D' - m at distance R meets the sub-level set {loss <= lowest + slack} while
    m / D' is at most the mean of r_i^2 / (R^2 + r_i^2), r_i^2 = 2 slack / lambda_i, over the D' eigenvalues of the Hessian
    among the survivors. R is how far pruning the m smallest moves the weights. The largest such m is pruned, but at least
    `least_rate` of the survivors, so that rounds come to an end. The mean is a Lanczos quadrature (Ubaru et al. 2017).
    """

    summary: ClassVar[str] = "lottery tickets whose pruning rate follows from the landscape's curvature"
    source: ClassVar[str] = "Paul et al. 2023 (arXiv 2210.03044); Larsen et al. 2022 (arXiv 2107.05802)"
    freedom: ClassVar[str] = "the k kept weights"
    side_information: ClassVar[str] = "a mask; with rewinding, the weights of that step"
    data_seen: ClassVar[str] = "full trainings, one a round; Hessian products"

    slack: Annotated[float, Field(gt=0)] = 0.1
    least_rate: Annotated[float, Field(gt=0, lt=1)] = 0.2
    rewind_step: Annotated[int, Field(ge=0)] = 0
    examples: Annotated[int, Field(ge=1)] = 512
    """On which curvature is measured."""
    lanczos_steps: Annotated[int, Field(ge=1)] = 20

    def prepare(self, setting: Setting) -> Preparation:
        rewound, size = setting.initial, setting.full_dimension
        if self.rewind_step:
            rewound = (yield Train(AffineSubspace.full_space(rewound), start=0, stop=self.rewind_step)).weights
        kept = Coordinates(torch.arange(size, device=rewound.device), size)
        nowhere = torch.zeros(size, dtype=torch.bool, device=rewound.device)
        while True:
            subspace = AffineSubspace.masked(rewound, kept)
            trained = yield Train(subspace, start=self.rewind_step, stop=setting.full_training.steps)
            values, shares = spectrum(setting, trained.weights, kept, self.examples, self.lanczos_steps)
            alive = trained.weights[kept.indices]
            fewer = max(prunable(alive, values, shares, self.slack), 1, round(self.least_rate * kept.k))
            kept = largest(trained.weights.abs(), max(setting.k, kept.k - fewer), members(kept), nowhere)
            if kept.k == setting.k:
                return AffineSubspace.masked(rewound, kept)


def prunable(weights: Tensor, eigenvalues: Tensor, shares: Tensor, slack: float) -> int:
    """How many of the smallest weights (n,) may go at once, where a share (m,) of the spectrum lies at each eigenvalue (m,).

    Directions that curve downwards, or not at all, are free: their r is infinite.
    """
    moved = weights.double().cpu().abs().sort().values.square().cumsum(0)
    ratio = 2 * slack / (2 * slack + eigenvalues.clamp_min(0) * moved.unsqueeze(1))
    allowed = (ratio * shares).sum(dim=1)
    fraction = torch.arange(1, len(moved) + 1) / len(moved)
    # One falls with the number pruned and the other rises: they cross once. Shares sum to one but for rounding.
    return int((fraction <= allowed + 1e-9).sum())


def spectrum(setting: Setting, weights: Tensor, kept: Coordinates, examples: int, steps: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues (m,) of the Hessian among the kept coordinates, and the share (m,) of the spectrum that each stands for.

    Stochastic Lanczos quadrature from one random vector, with full reorthogonalization; float64, on the CPU. Each of its steps
    costs two gradients. Raises `MethodFailure` where curvature is not finite, as where a training has run away.
    """
    some = setting.problem.batch_order(examples).examples(0)
    generator = torch.Generator().manual_seed(setting.seed)
    vector = torch.randn(kept.k, generator=generator, dtype=torch.float64)
    basis = [vector / vector.norm()]
    diagonal, beside = [], []
    for _ in range(min(steps, kept.k)):
        full = torch.zeros_like(weights)
        full[kept.indices] = basis[-1].to(full)
        product = setting.problem.hessian_vector(weights.unsqueeze(0), full.unsqueeze(0), some)[0]
        image = product[kept.indices].double().cpu()
        if not bool(image.isfinite().all()):
            raise MethodFailure(
                "the curvature at the end of a training in its preparation is not finite, so that training ran away; lower "
                "learning_rate.value of full_training"
            )
        diagonal.append(float(image @ basis[-1]))
        known = torch.stack(basis)
        for _ in range(2):
            image = image - known.T @ (known @ image)
        beside.append(float(image.norm()))
        if beside[-1] <= 1e-6 * max(map(abs, diagonal), default=1.0):  # the Krylov space is complete, in float32
            break
        basis.append(image / beside[-1])
    off = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    return values, vectors[0] ** 2
