"""What travels between a submission's process and the harness: a JSON header and plain tensors. Nothing is ever unpickled.

A message is a prefix (a mark, the lengths of the two parts), a header that is validated against one of the models below, and
tensors in the safetensors format, whose parser runs no code.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import safetensors.torch
from pydantic import AfterValidator, Field, JsonValue, TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from lowdim_bench.errors import MethodFailure
from lowdim_bench.isolation.subspaces import OperatorRecipe
from lowdim_bench.problems import Block
from lowdim_bench.specs import Recipe, Spec

_PREFIX = struct.Struct("!4sIQ")
_MARK = b"ldb1"
_CHUNK = 2**20
_LONGEST_TABLE = 4096
LONGEST_HEADER = 2**18
"""Bytes of the JSON part of what a submission's process sends."""
LONGEST_OPENING = 2**23
"""Bytes of the JSON part of what the harness sends: it carries the submission's files and the layout of the network."""

Count = Annotated[int, Field(ge=0, lt=2**63)]


def _printable(text: str) -> str:
    """Without what could steer a terminal: it is shown to people."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


Line = Annotated[str, Field(max_length=2000), AfterValidator(_printable)]


# What the harness sends: an opening, then answers.


class TrialSetting(Spec):
    """What `Setting` says of a trial; the initial weights travel beside it as the tensor `initial`."""

    k: int
    seed: int
    blocks: tuple[Block, ...]
    example_count: int | None
    chance_loss: float | None
    full_training: Recipe


class Opening(Spec):
    """The code, and what is wanted of it: a preparation where there is a setting, else a description."""

    files: dict[str, str]
    parameters: dict[str, JsonValue]
    requirements: str | None
    """The folder in which its packages were installed."""
    setting: TrialSetting | None = None
    blocks: tuple[Block, ...] = ()
    """Of the network whose range of k a description is to tell; none: no range is told."""


class Answer(Spec):
    """To the last request; the numbers travel as tensors."""


# What a submission's process sends. Every one is untrusted.


class Fenced(Spec):
    """The first message, sent by trusted code before it gets to see the submission's: the fences that are in force."""

    kind: Literal["fenced"] = "fenced"
    held: tuple[Line, ...]


class Examples(Spec):
    """Asks for the examples of a step. Answer: `examples` (1, B), or nothing where all of them are meant."""

    kind: Literal["examples"] = "examples"
    batch_size: Annotated[int, Field(ge=1, lt=2**63)] | None
    step: Count


class LossAndGradient(Spec):
    """At the tensor `weights` (1, D), on the tensor `examples` (1, B) or all. Answer: `loss` (1,), `gradient` (1, D)."""

    kind: Literal["loss_and_gradient"] = "loss_and_gradient"


class TrainMetrics(Spec):
    """At the tensor `weights` (1, D). Answer: `loss` (1,) and, where there is one, `accuracy` (1,)."""

    kind: Literal["train_metrics"] = "train_metrics"


class HessianVector(Spec):
    """At the tensor `weights` (1, D), with `vectors` (1, D), on `examples` (1, B) or all. Answer: `product` (1, D)."""

    kind: Literal["hessian_vector"] = "hessian_vector"


class ErrorNorms(Spec):
    """At the tensor `weights` (1, D). Answer: `norms` (1, N)."""

    kind: Literal["error_norms"] = "error_norms"


class SynapticFlow(Spec):
    """At the tensor `weights` (1, D). Answer: `scores` (D,)."""

    kind: Literal["synaptic_flow"] = "synaptic_flow"


class Training(Spec):
    """A `Train` request; the subspace's tensors travel beside it, and the tensor `examples` (n,) if not all are meant.

    Answer: `weights` (D,), and `snapshots` (n, D) if asked.
    """

    kind: Literal["training"] = "training"
    operator: OperatorRecipe
    start: Count
    stop: Count
    snapshot_every: Annotated[int, Field(ge=1, lt=2**63)] | None


class Subspace(Spec):
    """What the preparation ended in; its tensors travel beside it."""

    kind: Literal["subspace"] = "subspace"
    operator: OperatorRecipe


class Failed(Spec):
    """The method raised."""

    kind: Literal["failed"] = "failed"
    error: Annotated[str, Field(max_length=4000), AfterValidator(_printable)]


class Description(Spec):
    """What a submission says of itself."""

    kind: Literal["description"] = "description"
    class_name: Line
    summary: Line
    source: Line
    parameters: dict[str, JsonValue]
    """The names of its parameters with their defaults; one without a default is not named."""
    resolved: dict[str, JsonValue]
    """With the parameters that were given."""
    nested: bool
    k_range: tuple[int, int] | None


Request = Annotated[
    Fenced
    | Examples
    | LossAndGradient
    | TrainMetrics
    | HessianVector
    | ErrorNorms
    | SynapticFlow
    | Training
    | Subspace
    | Failed
    | Description,
    Field(discriminator="kind"),
]
_REQUESTS: TypeAdapter[Any] = TypeAdapter(Request)


def parse_request(header: bytes) -> Any:
    """One of the models above. Raises `MethodFailure`."""
    try:
        return _REQUESTS.validate_json(header)
    except (ValidationError, RecursionError) as error:
        count = f" ({error.error_count()} faults)" if isinstance(error, ValidationError) else ""
        raise MethodFailure(f"its process sent a message that is none of the known ones{count}") from None


@dataclass(frozen=True)
class Channel:
    """One end of a connection. Raises `MethodFailure` for whatever the other end does wrong, and when it is gone."""

    connection: socket.socket
    longest_header: int
    longest_payload: int

    def send(self, header: Spec, tensors: Mapping[str, Tensor] | None = None, deadline: float | None = None) -> None:
        """Send a message, until the monotonic clock says `deadline`."""
        text = header.model_dump_json().encode()
        # Cloned, since safetensors refuses tensors that share memory.
        plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in (tensors or {}).items()}
        payload = safetensors.torch.save(plain) if plain else b""
        self._patience(deadline)
        try:
            self.connection.sendall(_PREFIX.pack(_MARK, len(text), len(payload)) + text)
            self._patience(deadline)
            self.connection.sendall(payload)
        except TimeoutError:
            raise OutOfTime from None
        except OSError:
            raise Gone from None

    def receive(self, deadline: float | None = None) -> tuple[bytes, dict[str, Tensor]]:
        """The header, not yet validated, and the tensors of the next message."""
        mark, header, payload = _PREFIX.unpack(self._exactly(_PREFIX.size, deadline))
        if mark != _MARK:
            raise MethodFailure("its process wrote something into the connection that is no message")
        if header > self.longest_header or payload > self.longest_payload:
            raise MethodFailure(
                f"its process sent a message of {header} + {payload} bytes; "
                f"at most {self.longest_header} + {self.longest_payload} are admitted"
            )
        text = bytes(self._exactly(header, deadline))
        data = self._exactly(payload, deadline)
        if int.from_bytes(data[:8], "little") > _LONGEST_TABLE:  # of contents: millions of empty tensors fit a gigabyte
            raise MethodFailure("its process sent too many tensors, or none in the safetensors format")
        try:
            return text, safetensors.torch.load(bytes(data)) if data else {}
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError):
            raise MethodFailure("its process sent tensors that are not in the safetensors format") from None

    def _exactly(self, count: int, deadline: float | None) -> bytearray:
        # Memory grows with what has come, not with what was announced.
        buffer = bytearray()
        while len(buffer) < count:
            self._patience(deadline)
            try:
                part = self.connection.recv(min(_CHUNK, count - len(buffer)))
            except TimeoutError:
                raise OutOfTime from None
            except OSError:
                raise Gone from None
            if not part:
                raise Gone
            buffer += part
        return buffer

    def _patience(self, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise OutOfTime
        self.connection.settimeout(left)


class OutOfTime(MethodFailure):
    """The other end took too long."""


class Gone(MethodFailure):
    """The other end is closed."""
