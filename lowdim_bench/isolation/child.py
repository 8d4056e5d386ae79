"""What runs in a trial's process once it is fenced in: it gets the code, imports it, and speaks for it."""

from __future__ import annotations

import importlib
import inspect
import os
import random
import socket
import sys
import traceback
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from numba.core import caching
from torch import Tensor

from lowdim_bench.errors import LowdimError
from lowdim_bench.isolation.messages import (
    LONGEST_OPENING,
    Channel,
    Description,
    Failed,
    Fenced,
    Opening,
    Subspace,
    Training,
)
from lowdim_bench.isolation.oracle import RemoteProblem
from lowdim_bench.isolation.subspaces import encode
from lowdim_bench.methods import METHODS, FrozenCode, Method, Setting, Train, Trained, method_class
from lowdim_bench.methods.frozen import ENTRY
from lowdim_bench.parametrizations import AffineSubspace

_LONGEST_ERROR = 3000


class _Refused(Exception):
    """The code is not what a submission has to be."""


def preload() -> None:
    """Import what submissions build upon."""
    for name in METHODS:
        method_class(name)


def serve(connection: socket.socket, held: tuple[str, ...]) -> None:
    """Tell which fences hold; then, if that is enough for the harness, do what it opens with."""
    channel = Channel(connection, LONGEST_OPENING, sys.maxsize)
    channel.send(Fenced(held=held))
    # Packages are read-only here, and Numba would raise where it cannot keep what it has compiled.
    caching.Cache.save_overload = _keep_nothing
    header, tensors = channel.receive()
    try:
        opening = Opening.model_validate_json(header)
        method = _build(opening)
        if opening.setting is None:
            channel.send(_describe(method, opening))
        else:
            _prepare(channel, method, opening, tensors["initial"])
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever submitted code raises is told, not judged
        channel.send(Failed(error=_told(error)))


def _keep_nothing(self: caching.Cache, sig: object, data: object) -> None:
    """In place of what writes compiled code to disk."""


def _build(opening: Opening) -> Method:
    """The method with validated parameters."""
    seed = opening.setting.seed if opening.setting else 0
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - code that uses it is to be reproducible too
    torch.manual_seed(seed)
    folder = Path("code").absolute()
    for name, content in FrozenCode(files=opening.files).contents().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    if opening.requirements:
        sys.path.append(opening.requirements)  # last: nothing of theirs takes the place of what is here
    os.environ |= {"HOME": str(Path.cwd()), "TMPDIR": str(Path.cwd())}
    importlib.invalidate_caches()
    kind = _method_of(importlib.import_module(Path(ENTRY).stem))
    if unknown := sorted(set(opening.parameters) - set(kind.model_fields)):
        raise _Refused(f"it has no parameter '{unknown[0]}'; known: {', '.join(sorted(kind.model_fields)) or '(none)'}")
    return kind.from_data(opening.parameters, "its parameters")


def _method_of(module: ModuleType) -> type[Method]:
    """The one class of a module that is a method. Raises `_Refused`."""
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    found = [kind for kind in found if not inspect.isabstract(kind)]
    if len(found) != 1:
        names = ", ".join(kind.__name__ for kind in found) or "none"
        raise _Refused(
            f"{ENTRY} must define exactly one class that derives from lowdim_bench.methods.Method and has a `prepare`; "
            f"found {names}"
        )
    return found[0]


def _describe(method: Method, opening: Opening) -> Description:
    kind = type(method)
    defaults = {
        name: field.get_default(call_default_factory=True, validated_data={})
        for name, field in kind.model_fields.items()
        if not field.is_required()
    }
    for name in ("summary", "source"):
        if not isinstance(getattr(kind, name, None), str):
            raise _Refused(f"class {kind.__name__} has no `{name}`: one line of text for people")
    return Description(
        class_name=kind.__name__,
        summary=kind.summary,
        source=kind.source,
        parameters=kind.model_construct(**defaults).model_dump(mode="json", include=set(defaults)),
        resolved=method.model_dump(mode="json"),
        nested=bool(method.nested()),
        k_range=_pair(method.k_range(opening.blocks)) if opening.blocks else None,
    )


def _pair(given: Any) -> tuple[int, int]:
    low, high = given
    return int(low), int(high)


def _prepare(channel: Channel, method: Method, opening: Opening, initial: Tensor) -> None:
    assert opening.setting is not None
    asked = opening.setting
    problem = RemoteProblem(channel, initial, asked)
    # Of the same methods and properties as the metered problem, which cannot be here.
    setting = Setting(cast(Any, problem), asked.k, asked.seed, asked.full_training)
    outcome = method.prepare(setting)
    if isinstance(outcome, Generator):
        outcome = _converse(channel, outcome)
    if not isinstance(outcome, AffineSubspace):
        raise _Refused(f"it returned a {type(outcome).__name__}; prepare must end in an AffineSubspace")
    recipe, tensors = encode(outcome)
    channel.send(Subspace(operator=recipe), tensors)


def _converse(channel: Channel, preparation: Generator[Any, Trained, Any]) -> Any:
    """Run a preparation to its end, with its requests sent to the harness; returns what it returned."""
    try:
        request = next(preparation)
        while True:
            if not isinstance(request, Train):
                raise _Refused(f"it yielded a {type(request).__name__}; only Train requests may be yielded")
            recipe, tensors = encode(request.subspace)
            every = request.snapshot_every
            if request.examples is not None:
                tensors["examples"] = request.examples
            channel.send(
                Training(operator=recipe, start=request.start, stop=request.stop, snapshot_every=every), tensors
            )
            _, answer = channel.receive()
            snapshots = tuple(answer["snapshots"]) if "snapshots" in answer else ()
            request = preparation.send(Trained(answer["weights"], snapshots))
    except StopIteration as end:
        return end.value


def _told(error: BaseException) -> str:
    """An error as the harness words it, with the line of the submission that it comes from."""
    if isinstance(error, _Refused | LowdimError):
        return str(error)[:_LONGEST_ERROR]
    text = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
    folder = str(Path("code").absolute())
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(folder)]
    return f"{text} ({Path(own[-1].filename).relative_to(folder)}, line {own[-1].lineno})" if own else text
