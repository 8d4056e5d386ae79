"""The benchmark of operators, and what it shows: ten million coordinates within a stated memory, in a process of their own."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks.operators import LARGEST, OPERATORS, hash_in_torch, maps_of, measure, memory_of_a_fresh_process
from lowdim_bench.parametrizations import SignedHash
from lowdim_bench.parametrizations.operators import pack


def test_every_operator_is_timed_beside_the_signed_hash() -> None:
    rows = list(measure(200, 8, 3, rounds=2))
    assert [row.operator for row in rows] == list(OPERATORS)
    assert all(row.forward > 0 and row.adjoint > 0 and row.ratio_low <= row.ratio <= row.ratio_high for row in rows)
    stored = {row.operator: row.stored_megabytes * 1e6 for row in rows}
    assert stored["signed_hash"] == 3 * 200 * 4
    assert stored["sparse_signs"] == 4 * stored["signed_hash"]
    assert stored["gaussian"] == 3 * 200 * 8 * 4
    assert stored["shared_gaussian"] == 200 * 8 * 4 + stored["signed_hash"]
    assert maps_of("gaussian", 10_000, 11_000_000, 1) is None


def test_what_the_hash_is_compared_with_is_the_same_map() -> None:
    operators = [SignedHash(8, 200, seed, torch.device("cpu")) for seed in range(3)]
    forward, adjoint, _ = hash_in_torch(operators)
    packed = pack(operators)
    theta, weights = torch.randn(3, 8), torch.randn(3, 200)
    torch.testing.assert_close(forward(theta), packed.forward(theta))
    torch.testing.assert_close(adjoint(weights), packed.adjoint(weights))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_largest_projection_takes_less_than_300_megabytes_beyond_the_parameters() -> None:
    assert LARGEST == (11_000_000, 10_000)
    measured = memory_of_a_fresh_process(*LARGEST)
    assert 40 < measured.parameters < 50  # it was the whole of them that were there before
    assert 44 < measured.beyond < 300  # more than the codes alone, or nothing was measured
