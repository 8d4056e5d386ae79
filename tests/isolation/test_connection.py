"""What comes over the connection is read as if anyone had written it, since anyone may have."""

from __future__ import annotations

import re

import pytest

from tests.isolation.code import failure, submission

pytestmark = pytest.mark.slow

BEFORE = """
import json, pickle, socket, struct, safetensors.torch

def raw(data):
    connection = socket.socket(fileno=3)
    connection.sendall(data)
    time.sleep(60)

def message(header, **tensors):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    payload = safetensors.torch.save(tensors) if tensors else b""
    return struct.pack("!4sIQ", b"ldb1", len(header), len(payload)) + header + payload

def subspace(kind, k, kind_of_message="subspace", seed=None, more={}, **tensors):
    operator = {"kind": kind, "k": k} | ({} if seed is None else {"seed": seed})
    tensors = {"offset": torch.zeros(53), "start": torch.zeros(min(k, 99))} | tensors
    raw(message({"kind": kind_of_message, "operator": operator} | more, **tensors))
"""
UNKNOWN = "a message that is none of the known ones"
GARBAGE = {
    "noise": ("raw(bytes(range(256)) * 10)", "something into the connection that is no message"),
    "a pickle": ("raw(pickle.dumps([1, 2]) * 10)", "something into the connection that is no message"),
    "a huge message": ("raw(struct.pack('!4sIQ', b'ldb1', 10, 2**40))", r"message of 10 \+ 1099511627776 bytes"),
    "a huge header": ("raw(struct.pack('!4sIQ', b'ldb1', 2**30, 0))", r"message of 1073741824 \+ 0 bytes"),
    "half a message": ("raw(struct.pack('!4sIQ', b'ldb1', 100, 0))", "it took more than 1 s of its own time"),
    "no JSON": ("raw(message(b'{'))", UNKNOWN),
    "deep JSON": ("raw(message(b'[' * 200_000))", UNKNOWN),
    "an unknown kind": ("raw(message({'kind': 'test_accuracy'}))", UNKNOWN),
    "a field too many": ("raw(message({'kind': 'train_metrics', 'split': 'test'}))", UNKNOWN),
    "a huge number": ("raw(message({'kind': 'examples', 'batch_size': 1, 'step': 10**400}))", UNKNOWN),
    "a long complaint": ("raw(message({'kind': 'failed', 'error': 'x' * 4001}))", UNKNOWN),
    "fences again": ("raw(message({'kind': 'fenced', 'held': []}))", "sent a 'fenced' in the middle"),
    "no tensors": ("raw(message({'kind': 'train_metrics'}))", "holds no tensor 'weights'"),
    "broken tensors": (
        "raw(struct.pack('!4sIQ', b'ldb1', 24, 99) + b'{\"kind\":\"train_metrics\"}' + b'x' * 99)",
        "too many tensors, or none in the safetensors format",
    ),
    "other tensors": (
        "raw(struct.pack('!4sIQ', b'ldb1', 24, 10) + b'{\"kind\":\"train_metrics\"}' + bytes([2] + [0] * 7) + b'{]')",
        "not in the safetensors format",
    ),
    "a million tensors": (
        "raw(message({'kind': 'train_metrics'}, **{str(i): torch.zeros(0) for i in range(1000)}))",
        "too many tensors",
    ),
    "an operator from nowhere": ("subspace('decoder', 3)", UNKNOWN),
    "too many dimensions": ("subspace('gaussian', 10**15, seed=1)", "the network has 53 parameters"),
    "no seed": ("subspace('hadamard', 3, operator=torch.zeros(3))", "a hadamard operator without a seed"),
    "a seed for a stored basis": ("subspace('dense', 3, seed=1)", "it named a seed for a stored basis"),
    "a mask out of range": ("subspace('coordinates', 2, operator=torch.tensor([0, 53]))", "its mask is not valid"),
    "a mask of fractions": ("subspace('coordinates', 2, operator=torch.ones(2))", "'operator' is torch.float32"),
    "a basis of another shape": (
        "subspace('dense', 2, operator=torch.ones(3, 53))", r"of shape \(3, 53\), not torch.float32 of \(2, 53\)"
    ),
    "a basis that is not finite": ("subspace('dense', 1, operator=torch.ones(1, 53) / 0)", "basis .* not finite"),
    "spare tensors": ("subspace('signed_hash', 2, seed=1, code=torch.zeros(3))", "came with the tensors"),
    "training without end": (
        "subspace('full_space', 53, 'training', more={'start': 0, 'stop': 2**62, 'snapshot_every': 1})",
        "snapshots, which are more than its memory holds",
    ),
    "a closed connection": ("os.close(3); time.sleep(60)", "it closed its connection"),
}  # fmt: skip


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_fails_the_trial_and_is_named(what: str) -> None:
    code, reason = GARBAGE[what]
    seconds = "1" if "1 s" in reason else "20"
    assert re.search(reason, failure(submission(code, before=BEFORE), limits={"METHOD_SECONDS": seconds}))
