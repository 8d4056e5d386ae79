"""Methods that break their contract, each in its own way, where k is 3; at every other k they are a random subspace.

They run in the harness's own process, as built-in methods do: what they do wrong has to be a failure there too.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from lowdim_bench.methods import Method, MethodChoice, Setting, Train
from lowdim_bench.parametrizations import AffineSubspace, Coordinates, DenseBasis, FullSpace, SignedHash

BAD_K = 3


class Own(MethodChoice):
    """The choice of a class of this module by its name."""

    def build(self) -> Method:
        return globals()[self.name].from_data(self.parameters, self.name)


def good(setting: Setting) -> AffineSubspace:
    return AffineSubspace(
        setting.initial, SignedHash(setting.k, setting.full_dimension, setting.seed, setting.initial.device)
    )


def full(setting: Setting) -> AffineSubspace:
    return AffineSubspace.full_space(setting.initial)


class Misbehaving(Method):
    """`how` names what it does where k is 3."""

    summary: ClassVar[str] = "breaks its contract"
    source: ClassVar[str] = "the tests"

    how: str = "behaves"

    def prepare(self, setting: Setting) -> Any:
        return getattr(self, self.how)(setting) if setting.k == BAD_K else good(setting)

    def behaves(self, setting: Setting) -> Any:
        return good(setting)

    def raises(self, setting: Setting) -> Any:
        raise ZeroDivisionError("it divided by zero")

    def raises_later(self, setting: Setting) -> Any:
        yield Train(full(setting), 0, 2)
        raise KeyError("lost")

    def returns_nothing(self, setting: Setting) -> Any:
        return None

    def returns_a_tensor(self, setting: Setting) -> Any:
        return setting.initial

    def returns_nothing_later(self, setting: Setting) -> Any:
        yield Train(full(setting), 0, 2)

    def yields_garbage(self, setting: Setting) -> Any:
        yield 3

    def yields_a_subspace(self, setting: Setting) -> Any:
        yield good(setting)

    def trains_backwards(self, setting: Setting) -> Any:
        yield Train(full(setting), 5, 2)

    def trains_half_steps(self, setting: Setting) -> Any:
        yield Train(full(setting), 0, 2.5)  # pyright: ignore[reportArgumentType]

    def never_snaps(self, setting: Setting) -> Any:
        yield Train(full(setting), 0, 2, snapshot_every=0)

    def trains_nothing(self, setting: Setting) -> Any:
        yield Train(None, 0, 2)  # pyright: ignore[reportArgumentType]

    def trains_another_network(self, setting: Setting) -> Any:
        yield Train(AffineSubspace.full_space(torch.zeros(7)), 0, 2)

    def prepares_another_network(self, setting: Setting) -> Any:
        return AffineSubspace(torch.zeros(7), SignedHash(setting.k, 7, setting.seed, setting.initial.device))

    def ignores_k(self, setting: Setting) -> Any:
        return full(setting)

    def claims_k(self, setting: Setting) -> Any:
        operator = FullSpace(setting.full_dimension)
        operator.k = setting.k
        return AffineSubspace(torch.zeros(setting.full_dimension), operator)

    def one_too_many(self, setting: Setting) -> Any:
        return AffineSubspace.masked(setting.initial, Coordinates(torch.arange(setting.k + 1), setting.full_dimension))

    def not_a_number(self, setting: Setting) -> Any:
        return AffineSubspace(torch.full_like(setting.initial, torch.nan), good(setting).operator)

    def infinite(self, setting: Setting) -> Any:
        return AffineSubspace(setting.initial, DenseBasis(torch.full((setting.k, setting.full_dimension), torch.inf)))

    def asks_too_much_at_once(self, setting: Setting) -> Any:
        yield Train(full(setting), 0, 1001)
        return good(setting)

    def never_has_enough(self, setting: Setting) -> Any:
        while True:
            yield Train(full(setting), 0, 10)

    def loops_on_the_loss_itself(self, setting: Setting) -> Any:
        weights = setting.initial.unsqueeze(0)
        while True:
            _, gradient = setting.problem.loss_and_gradient(weights, None)
            weights = weights - 0.1 * gradient


class SeesData(Misbehaving):
    """Trains two steps in full wherever k is 3, and does nothing with it."""

    def behaves(self, setting: Setting) -> Any:
        yield Train(full(setting), 0, 2)
        return good(setting)


class Planted(Method):
    """The first k of `dimension` orthonormal directions whose sum is the way from w_0 to the minimum at 0."""

    summary: ClassVar[str] = "a stored basis that holds the solution"
    source: ClassVar[str] = "the tests"

    dimension: int = 4

    def prepare(self, setting: Setting) -> AffineSubspace:
        generator = torch.Generator().manual_seed(setting.seed)
        towards = setting.initial / setting.initial.norm()
        others = torch.randn(setting.full_dimension, self.dimension - 1, generator=generator)
        plane = torch.linalg.qr(torch.cat([towards.unsqueeze(1), others], dim=1)).Q
        # A rotation of the plane in which the way has equal parts along all axes.
        equal = torch.ones(self.dimension) / self.dimension**0.5
        mixed = torch.linalg.qr(torch.cat([equal.unsqueeze(1), torch.eye(self.dimension)[:, 1:]], dim=1)).Q
        return AffineSubspace(setting.initial, DenseBasis((plane @ mixed.T)[:, : setting.k].T.contiguous()))


class TwoKinds(Method):
    """A mask at even k, a hash at odd ones."""

    summary: ClassVar[str] = "operators of several kinds in one pack"
    source: ClassVar[str] = "the tests"

    def prepare(self, setting: Setting) -> AffineSubspace:
        if setting.k % 2:
            return good(setting)
        return AffineSubspace(
            setting.initial,
            DenseBasis.gaussian(setting.k, setting.full_dimension, setting.seed, setting.initial.device),
        )
