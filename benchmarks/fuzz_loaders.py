"""Every loader of data that comes from outside, with valid inputs to begin from and the errors that it may raise."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lowdim_bench.errors import LowdimError

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Loader:
    """One loader: `load` takes any bytes."""

    name: str
    load: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    allowed: tuple[type[BaseException], ...] = (LowdimError,)
    """What it may raise; nothing where it leaves out, with a warning, what it cannot read."""
    weight: float = 1.0
    """Its share of the inputs beside the others': YAML and folders are slow to read."""


def loaders(scratch: Path) -> list[Loader]:
    """All of them; `scratch` is an empty folder that some write their inputs to."""
    logging.getLogger("lowdim_bench").setLevel(logging.CRITICAL)  # what is left out is told in a warning each time
    return [
        Loader(
            "task",
            _task(scratch),
            tuple(path.read_bytes() for path in sorted((_ROOT / "tasks").glob("*.yaml"))),
            weight=0.6,
        ),
        Loader("submission", _submission(scratch), _submissions(), weight=0.3),
        Loader("trials", _trials, _trial_files(), ()),
        Loader("method", _method, _methods()),
        Loader("certificate", _certificate(), _certificates()),
        Loader("shared certificates", _shared(scratch), _shared_certificates(), ()),
        Loader("message", _message, _messages()),
        Loader("lease", _lease, _leases(), ()),
    ]


def _task(scratch: Path) -> Callable[[bytes], object]:
    from lowdim_bench.specs import load_task

    path = scratch / "task.yaml"

    def load(content: bytes) -> object:
        path.write_bytes(content)
        return load_task(str(path)).digest

    return load


_SEPARATOR = b"\n=====\n"
_SAFE = re.compile(rb"[^\0/]{1,200}")


def _submissions() -> tuple[bytes, ...]:
    """Folders as one input: name, newline, content; parted by a line."""
    found = []
    for folder in sorted(path for path in (_ROOT / "submissions").iterdir() if (path / "submission.yaml").is_file()):
        files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        found.append(
            _SEPARATOR.join(str(file.relative_to(folder)).encode() + b"\n" + file.read_bytes() for file in files)
        )
    return tuple(found)


def _submission(scratch: Path) -> Callable[[bytes], object]:
    """Freezes a folder of the files that the input names, links and strange names included."""
    import os

    from lowdim_bench.submissions import freeze_submission, submission_tasks

    folder = scratch / "submission"

    def load(content: bytes) -> object:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for part in content.split(_SEPARATOR):
            name, _, inside = part.partition(b"\n")
            pieces = [piece for piece in _SAFE.findall(name) if piece not in {b".", b".."}][:8]
            if not pieces:
                continue
            path = os.path.join(os.fsencode(folder), *pieces)  # noqa: PTH118 - names that are no text
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
                if inside.startswith(b"->"):
                    os.symlink(inside[2:100].replace(b"\0", b"0") or b"x", path)  # noqa: PTH211
                else:
                    Path(os.fsdecode(path)).write_bytes(inside)
            except OSError:  # a file where a folder is wanted, or a name that is too long
                continue
        frozen = freeze_submission(folder)
        return frozen[1].method_digest, submission_tasks(folder)

    return load


def _trial_files() -> tuple[bytes, ...]:
    from lowdim_bench.records import Audit, CurvePoint, FutilityCall, Outcome, Spending, Trial, TrialResult
    from lowdim_bench.tracking import trial_files

    full = TrialResult(
        trial=Trial(k=8, replicate=3, round=1),
        status="trained",
        outcomes=(Outcome(target="train_loss <= 0.1", reached=True, step=25, unconfirmed=1),),
        audit=Audit(measured_k=8, rank_evidence="exact", affine=True, side_information_bits=2.5, track="cold"),
        preparation=Spending(gradient_evaluations=3, examples=64, evaluations=1),
        learning_rate=0.05,
        trained_steps=500,
        test_accuracy=0.9,
        curve=(CurvePoint(step=25, train_loss=None), CurvePoint(step=50, train_loss=0.5, train_accuracy=0.75)),
        futility=(FutilityCall(target="train_loss <= 0.1", step=100, audited=True, reached=False, steps_saved=0),),
        seconds=1.5,
    )
    failed = TrialResult(trial=Trial(k=9, replicate=4, round=1), status="failed", reason="it raised")
    return trial_files.encode([full, failed])[1], trial_files.encode([failed])[1]


def _trials(content: bytes) -> object:
    """As a file whose name fits its content, so that what is inside is looked at, and as one whose name does not."""
    import hashlib

    from lowdim_bench.tracking import trial_files

    fitting = f"round-0001-{hashlib.sha256(content).hexdigest()[:12]}.json"
    files = {fitting: content, "round-0000-000000000000.json": content, content[:40].decode("latin-1"): content}
    decoded = trial_files.decode(files, "fuzz")
    return trial_files.standing(decoded, decoded), trial_files.standing({}, decoded, but_last_round=True)


def _methods() -> tuple[bytes, ...]:
    from lowdim_bench.methods import FrozenCode, MethodChoice, parse_choice

    code = FrozenCode.of({"method.py": b"class Mine: ...\n", "part/other.py": b"x = 1\n"}, ("numpy==2.1.0",))
    submitted = MethodChoice(name="mine", parameters={"a": 1, "b": [0.5, None]}, code=code)
    built_in = (
        "random_subspace",
        "random_subspace,operator=gaussian",
        "burn_in_subspace,burn_in_steps=8",
        "imp,rate=0.3",
    )
    return tuple(one.model_dump_json().encode() for one in [submitted, *map(parse_choice, built_in)])


def _method(content: bytes) -> object:
    """As the store reads method.json; a class of somebody's own (MODULE:CLASS) is not imported to be shown."""
    from lowdim_bench.methods import MethodChoice

    choice = MethodChoice.from_json(content, "method.json")
    if choice.code is not None:
        return choice.method_digest, choice.code.bits, choice.code.contents(), choice.label
    return choice.label, None if ":" in choice.name else choice.method_digest


def _certificate() -> Callable[[bytes], object]:
    from lowdim_bench import problems
    from lowdim_bench.certificates import Certificate

    problem = problems.build(_well(), {})

    def load(content: bytes) -> object:
        certificate = Certificate.from_bytes(content)
        return certificate.subspace(problem)

    return load


def _shared(scratch: Path) -> Callable[[bytes], object]:
    from lowdim_bench.tracking.certificate_files import CertificateFiles

    folder = scratch / "certificates"
    folder.mkdir()

    def load(content: bytes) -> object:
        # Who alters a file can name it by its new content.
        path = folder / f"together-{hashlib.sha256(content).hexdigest()[:12]}.safetensors"
        path.write_bytes(content)
        try:
            found = CertificateFiles(folder)
        finally:
            path.unlink()
        return {name: found.read(name) for name in found.names} or found.torn

    return load


def _shared_certificates() -> tuple[bytes, ...]:
    from lowdim_bench.tracking.certificate_files import encode

    few = {f"k4-r{number}-{number:016x}.safetensors": content for number, content in enumerate(_certificates())}
    return tuple(encode(few).values()) + tuple(encode({"a": b"1", "b": b""}).values())


def _well():  # noqa: ANN202 - Task is imported late
    from lowdim_bench.specs import Task

    recipe = {"optimizer": {"kind": "adam"}, "learning_rate": {"value": 0.1}, "batch_size": None, "steps": 10}
    data = {
        "name": "fuzz",
        "problem": {"kind": "quadratic_well", "dimension": 16, "spectrum": {"kind": "power", "exponent": 1.0}},
        "training": {**recipe, "evaluate_every": 5},
        "full_training": recipe,
        "targets": [{"metric": "train_loss", "at_most": 0.1}],
        "threshold": {"k_max": 16},
        "preparation": {"gradient_evaluations": 0},
    }
    return Task.from_data(data, "the task of the fuzzer")


def _certificates() -> tuple[bytes, ...]:
    import torch

    from lowdim_bench.certificates import Certificate, Claim
    from lowdim_bench.environment import environment

    base = {
        "task_digest": "0" * 16, "method_digest": "1" * 16, "code_digest": None,
        "trial": {"k": 4, "replicate": 0, "round": 0}, "seed": 7, "target": "train_loss <= 0.1", "step": 5,
        "learning_rate": 0.1, "train_loss": 0.05, "train_accuracy": None, "outcomes": [],
        "audit": {"measured_k": 4, "rank_evidence": "exact", "affine": True, "side_information_bits": 0.0, "track": "cold"},
        "preparation": {}, "environment": environment(torch.device("cpu")).model_dump(mode="json"),
    }  # fmt: skip
    theta = torch.linspace(-1, 1, 4)
    shapes = [
        ({"kind": "signed_hash", "seed": 7}, "initial", {}, {}),
        ({"kind": "coordinates"}, "zeros", {}, {"operator.indices": torch.arange(4)}),
        ({"kind": "dense"}, "stored", {}, {"operator.columns": torch.randn(4, 16), "offset.values": torch.zeros(16)}),
        ({"kind": "gaussian", "seed": 3}, "initial", {"differences": 2},
         {"offset.places": torch.tensor([1, 5]), "offset.values": torch.tensor([0.5, 2.0])}),
    ]  # fmt: skip
    found = []
    for operator, offset, more, tensors in shapes:
        claim = base | {
            "operator": {**operator, "k": 4, "full_dimension": 16},
            "offset": {"base": offset, **more},
            "start": {"base": "zeros"},
        }
        made = Certificate(Claim.from_data(claim, "a seed"), {"theta": theta, **tensors})
        found.append(made.to_bytes())
    return tuple(found)


def _messages() -> tuple[bytes, ...]:
    """As a submission's process writes them."""
    import torch

    from lowdim_bench.isolation import messages
    from lowdim_bench.isolation.subspaces import OperatorRecipe

    subspace = {"offset": torch.zeros(16), "start": torch.zeros(4)}
    sent = [
        (messages.Fenced(held=("memory",)), {}),
        (messages.Examples(batch_size=4, step=0), {}),
        (messages.LossAndGradient(), {"weights": torch.zeros(1, 16), "examples": torch.zeros(1, 4, dtype=torch.int64)}),
        (messages.Training(operator=OperatorRecipe(kind="full_space", k=16), start=0, stop=5, snapshot_every=None),
         {"offset": torch.zeros(16), "start": torch.zeros(16)}),
        (messages.Subspace(operator=OperatorRecipe(kind="signed_hash", k=4, seed=7)), subspace),
        (messages.Subspace(operator=OperatorRecipe(kind="dense", k=4)), subspace | {"operator": torch.ones(4, 16)}),
        (messages.Subspace(operator=OperatorRecipe(kind="coordinates", k=4)), subspace | {"operator": torch.arange(4)}),
        (messages.Failed(error="it raised"), {}),
    ]  # fmt: skip
    found = []
    for header, tensors in sent:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            messages.Channel(ours, messages.LONGEST_HEADER, 2**20).send(header, tensors)
            found.append(theirs.recv(2**20))
    return tuple(found)


def _message(content: bytes) -> object:
    import torch

    from lowdim_bench.isolation import messages, subspaces

    ours, theirs = socket.socketpair()
    with ours, theirs:
        # Longer inputs than the socket's buffer are written while they are read.
        writer = threading.Thread(target=_write_all, args=(theirs, content))
        writer.start()
        try:
            header, tensors = messages.Channel(ours, messages.LONGEST_HEADER, 2**20).receive()
        finally:
            ours.close()
            writer.join()
    request = messages.parse_request(header)
    if isinstance(request, messages.Subspace | messages.Training):
        return subspaces.decode(request.operator, tensors, 16, torch.device("cpu"), 2**20)
    return request


def _write_all(end: socket.socket, content: bytes) -> None:
    try:
        end.sendall(content)
        end.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the reader has seen enough


def _leases() -> tuple[bytes, ...]:
    from lowdim_bench.tracking.driver_lock import Holder

    return (
        Holder.me().model_dump_json().encode(),
        json.dumps(json.loads(Holder.me().model_dump_json()), indent=1).encode(),
    )


def _lease(content: bytes) -> object:
    from lowdim_bench.tracking.driver_lock import Holder

    holder = Holder.read(content.decode("utf-8", errors="replace"))
    return None if holder is None else (holder.holds(), str(holder))
