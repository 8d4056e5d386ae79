"""Affine subspaces: offset, start, masks, packs, and a fingerprint that sees every change."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lowdim_bench.parametrizations import (
    AffineSubspace,
    Coordinates,
    DenseBasis,
    FullSpace,
    Pack,
    SignedHash,
    stack_starts,
)

CPU = torch.device("cpu")
WEIGHTS = torch.arange(1.0, 10.0)


def hashed(k: int, seed: int = 0, offset: torch.Tensor = WEIGHTS) -> AffineSubspace:
    return AffineSubspace(offset, SignedHash(k, 9, seed, CPU))


def test_a_subspace_passes_through_its_offset_and_starts_at_zero() -> None:
    subspace = hashed(4)
    assert subspace.k == 4
    assert torch.equal(subspace.start, torch.zeros(4))
    assert torch.equal(subspace.map(subspace.start), WEIGHTS)
    theta = torch.tensor([1.0, -2.0, 0.5, 3.0])
    torch.testing.assert_close(subspace.map(theta), WEIGHTS + subspace.operator.matrix() @ theta)


def test_the_full_space_starts_at_its_weights() -> None:
    subspace = AffineSubspace.full_space(WEIGHTS)
    assert subspace.k == 9
    assert torch.equal(subspace.map(subspace.start), WEIGHTS)
    assert torch.equal(subspace.map(torch.zeros(9)), torch.zeros(9))


def test_a_mask_starts_at_the_kept_weights_and_all_others_are_zero() -> None:
    subspace = AffineSubspace.masked(WEIGHTS, Coordinates(torch.tensor([5, 0]), 9))
    assert subspace.start.tolist() == [1.0, 6.0]
    assert subspace.map(subspace.start).tolist() == [1.0, 0, 0, 0, 0, 6.0, 0, 0, 0]
    assert subspace.map(torch.tensor([-1.0, 2.0])).tolist() == [-1.0, 0, 0, 0, 0, 2.0, 0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"offset": torch.zeros(8)}, "offset has shape"),
        ({"offset": torch.zeros(9, 1)}, "offset has shape"),
        ({"start": torch.zeros(3)}, "start has shape"),
        ({"start": torch.zeros(1, 4)}, "start has shape"),
        ({"offset": torch.zeros(9, dtype=torch.float64)}, "must be float32"),
        ({"start": torch.zeros(4, dtype=torch.float16)}, "must be float32"),
    ],
)
def test_shapes_and_types_that_do_not_fit_are_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        AffineSubspace(**({"offset": WEIGHTS, "operator": SignedHash(4, 9, 0, CPU)} | arguments))


def test_a_pack_maps_and_pulls_back_each_row_as_alone_also_after_some_left() -> None:
    subspaces = [hashed(4), hashed(9, 1, torch.zeros(9)), hashed(2, 2, -WEIGHTS)]
    whole = Pack.of(subspaces)
    assert whole.dimensions == (4, 9, 2)
    theta = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    for row, subspace in enumerate(subspaces):
        theta[row, subspace.k :] = 0
    gradient = torch.randn(3, 9, generator=torch.Generator().manual_seed(1))
    for rows in ([0, 1, 2], [2, 0]):
        some = whole if len(rows) == 3 else whole.keep(torch.tensor(rows))
        assert some.dimensions == tuple(subspaces[row].k for row in rows)
        for place, row in enumerate(rows):
            subspace = subspaces[row]
            torch.testing.assert_close(some.map(theta[rows])[place], subspace.map(theta[row, : subspace.k]))
            pulled = some.pull_back(theta[rows], gradient[rows])[place, : subspace.k]
            torch.testing.assert_close(pulled, subspace.operator.matrix().T @ gradient[row])


def test_offsets_of_zero_are_not_stored_in_a_pack() -> None:
    assert Pack.of([AffineSubspace.full_space(WEIGHTS)]).offset is None
    assert Pack.of([hashed(2, offset=torch.zeros(9)), hashed(2)]).offset is not None


def test_starts_are_stacked_with_zeros_beyond_each_rows_own_k() -> None:
    masks = [AffineSubspace.masked(WEIGHTS, Coordinates(torch.arange(k), 9)) for k in (2, 4)]
    assert stack_starts(masks).tolist() == [[1.0, 2.0, 0, 0], [1.0, 2.0, 3.0, 4.0]]


def test_a_fingerprint_sees_every_tensor_of_the_map() -> None:
    prints = {hashed(4).fingerprint(), hashed(4, 1).fingerprint(), hashed(4, offset=-WEIGHTS).fingerprint()}
    prints |= {AffineSubspace(WEIGHTS, FullSpace(9)).fingerprint()}
    assert len(prints) == 4
    assert hashed(4).fingerprint() == hashed(4).fingerprint()
    subspaces = [
        hashed(4, offset=WEIGHTS.clone()),
        AffineSubspace(WEIGHTS.clone(), DenseBasis(torch.ones(2, 9))),
        AffineSubspace(WEIGHTS.clone(), Coordinates(torch.tensor([1, 2]), 9)),
    ]
    for subspace in subspaces:
        for tensor in subspace.tensors().values():
            before = subspace.fingerprint()
            tensor.view(-1)[0] += 1
            assert subspace.fingerprint() != before


def test_a_fingerprint_sees_a_transposed_basis() -> None:
    square = torch.arange(81.0).reshape(9, 9)
    first, second = (AffineSubspace(WEIGHTS, DenseBasis(columns)) for columns in (square, square.T))
    assert first.fingerprint() != second.fingerprint()
