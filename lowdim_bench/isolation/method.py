"""A submission as a `Method`: whatever is asked of it is asked of a process that holds its code."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from lowdim_bench.errors import MethodFailure
from lowdim_bench.isolation.host import HOST, Guest
from lowdim_bench.isolation.limits import Limits
from lowdim_bench.isolation.messages import (
    Answer,
    Description,
    ErrorNorms,
    Examples,
    Failed,
    HessianVector,
    LossAndGradient,
    Opening,
    Subspace,
    SynapticFlow,
    Training,
    TrainMetrics,
    TrialSetting,
)
from lowdim_bench.isolation.oracle import Oracle
from lowdim_bench.isolation.requirements import installed
from lowdim_bench.isolation.subspaces import OperatorRecipe, decode, tensor
from lowdim_bench.methods import Method, MethodChoice, Setting, Train, Trained
from lowdim_bench.parametrizations import AffineSubspace
from lowdim_bench.problems import Block
from lowdim_bench.records import Usage


@final
class IsolatedMethod(Method):
    """The method of submitted code, which is not imported here."""

    summary: ClassVar[str] = "submitted code, in a process of its own"
    source: ClassVar[str] = "the submission"

    choice: MethodChoice

    def describe(self) -> Description:
        """What the code says of itself. Raises `MethodFailure` where it is not a submission's."""
        return _describe(self.choice.model_dump_json(), ())

    def k_range(self, blocks: Sequence[Block]) -> tuple[int, int]:
        """As the code says. Raises `MethodFailure` where that is no range."""
        found = _describe(self.choice.model_dump_json(), tuple(blocks)).k_range
        if found is None or not 1 <= found[0] <= found[1] <= blocks[-1].stop:
            raise MethodFailure(f"its k_range is {found}; it must lie in 1 to {blocks[-1].stop}")
        return found

    def nested(self) -> bool:
        return self.describe().nested

    def prepare(self, setting: Setting) -> IsolatedPreparation:
        return IsolatedPreparation(self.choice, setting)


@lru_cache(maxsize=64)
def _describe(choice: str, blocks: tuple[Block, ...]) -> Description:
    guest = _start(MethodChoice.model_validate_json(choice))
    try:
        guest.send(_opening(MethodChoice.model_validate_json(choice), blocks=blocks))
        told, _ = guest.receive()
    finally:
        guest.end()
    if isinstance(told, Failed):
        raise MethodFailure(told.error)
    if not isinstance(told, Description):
        raise MethodFailure(f"its process sent a '{told.kind}' when it was to describe itself")
    return told


def _start(choice: MethodChoice) -> Guest:
    assert choice.code is not None
    folder = installed(choice.code.requirements)
    return HOST.start(Limits.resolve(), [folder] if folder else [])


def _opening(choice: MethodChoice, setting: TrialSetting | None = None, blocks: tuple[Block, ...] = ()) -> Opening:
    assert choice.code is not None
    return Opening(
        files=choice.code.files,
        parameters=choice.parameters,
        requirements=installed(choice.code.requirements),
        setting=setting,
        blocks=blocks,
    )


class IsolatedPreparation(Generator[Train, Trained, AffineSubspace]):
    """A preparation that runs in a process of its own. To close it, or to let go of it, ends the process."""

    def __init__(self, choice: MethodChoice, setting: Setting) -> None:
        self._guest: Guest | None = None
        self._steps = self._run(choice, setting)

    @property
    def usage(self) -> Usage:
        """What the process took; all of it once the preparation has ended."""
        return self._guest.usage if self._guest else Usage()

    def __next__(self) -> Train:
        return next(self._steps)

    def send(self, value: Trained, /) -> Train:
        return self._steps.send(value)

    def throw(self, kind: Any, value: Any = None, trace: TracebackType | None = None, /) -> Train:
        return self._steps.throw(kind if value is None else value)

    def close(self) -> None:
        self._steps.close()

    def _run(self, choice: MethodChoice, setting: Setting) -> Generator[Train, Trained, AffineSubspace]:
        initial, oracle = setting.initial, Oracle(setting)
        self._guest = guest = _start(choice)
        try:
            trial = TrialSetting(
                k=setting.k,
                seed=setting.seed,
                blocks=setting.problem.blocks,
                example_count=oracle.example_count,
                chance_loss=setting.problem.chance_loss,
                full_training=setting.full_training,
            )
            guest.send(_opening(choice, trial), {"initial": initial})
            while True:
                told, tensors = guest.receive()
                match told:
                    case Examples():  # free of charge, so that the work on it counts as its own time
                        guest.send(Answer(), guest.timed(lambda: oracle.answer(told, tensors)))  # noqa: B023 - called at once
                    case LossAndGradient() | TrainMetrics() | HessianVector() | ErrorNorms() | SynapticFlow():
                        guest.send(Answer(), oracle.answer(told, tensors))
                    case Training():
                        trained = yield _request(told, tensors, setting, guest)
                        guest.send(Answer(), _answer(trained))
                    case Subspace():
                        return _decoded(told.operator, tensors, setting, guest)
                    case Failed():
                        raise MethodFailure(told.error)
                    case _:
                        raise MethodFailure(f"its process sent a '{told.kind}' in the middle of a preparation")
        finally:
            guest.end()


def _request(told: Training, tensors: dict[str, Tensor], setting: Setting, guest: Guest) -> Train:
    kept = 0 if told.snapshot_every is None else (told.stop - told.start) // told.snapshot_every
    if 4 * kept * setting.full_dimension > guest.limits.memory:  # in the trainer's memory first
        raise MethodFailure(f"it asked for {kept} snapshots, which are more than its memory holds")
    examples = tensor(tensors, "examples", torch.int64, (None,)) if "examples" in tensors else None
    rest = {name: values for name, values in tensors.items() if name != "examples"}
    subspace = _decoded(told.operator, rest, setting, guest)
    try:
        return Train(subspace, told.start, told.stop, told.snapshot_every, examples)
    except ValueError as error:
        raise MethodFailure(str(error)) from None


def _answer(trained: Trained) -> dict[str, Tensor]:
    snapshots = {"snapshots": torch.stack(trained.snapshots)} if trained.snapshots else {}
    return {"weights": trained.weights, **snapshots}


def _decoded(recipe: OperatorRecipe, tensors: dict[str, Tensor], setting: Setting, guest: Guest) -> AffineSubspace:
    device = setting.initial.device
    most = guest.limits.message
    # To draw a map is work that the method asked for, and nobody else pays for.
    return guest.timed(lambda: decode(recipe, tensors, setting.full_dimension, device, most))
