"""The signed hash and the shared basis: the same map as ever, compiled or not, and whoever else is in the pack."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lowdim_bench.parametrizations import (
    AffineSubspace,
    Coordinates,
    FullSpace,
    Operator,
    Pack,
    SharedGaussian,
    SignedHash,
)
from lowdim_bench.parametrizations.operators import RANDOM_OPERATORS, pack

CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**63 - 1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference(k: int, full_dimension: int, seed: int) -> tuple[Tensor, Tensor]:
    """Bucket and entry of every coordinate, as version 0.1 drew and stored them."""
    generator = torch.Generator().manual_seed(seed)
    bucket = torch.randperm(full_dimension, generator=generator) % k
    sign = torch.randint(0, 2, (full_dimension,), generator=generator, dtype=torch.float32).mul_(2).sub_(1)
    return bucket, sign / torch.bincount(bucket, minlength=k).float().sqrt()[bucket]


@pytest.mark.parametrize(
    ("k", "full_dimension"), [(1, 1), (1, 9), (7, 2410), (256, 2410), (2410, 2410), (999, 199_210)]
)
def test_a_seed_gives_the_map_that_it_has_always_given(k: int, full_dimension: int) -> None:
    for seed in (0, 5, 2**63 - 1):
        bucket, entry = reference(k, full_dimension, seed)
        theta, weights = normal(1, k), normal(1, full_dimension, seed=1)
        packed = pack([SignedHash(k, full_dimension, seed, CPU)])
        assert torch.equal(packed.forward(theta)[0], theta[0, bucket] * entry)
        sums = torch.zeros(k, dtype=torch.float64).index_add_(0, bucket, (weights[0] * entry).double())
        torch.testing.assert_close(packed.adjoint(weights)[0].double(), sums, rtol=1e-4, atol=1e-5)


def test_a_hash_stores_four_bytes_a_coordinate_and_nothing_that_grows_with_k() -> None:
    for k in (1, 5000):
        assert sum(tensor.nbytes for tensor in SignedHash(k, 5000, 0, CPU).tensors().values()) == 20_000


@given(k=st.integers(1, 60), seed=SEEDS)
def test_sparse_signs_have_four_entries_a_row_in_four_blocks_of_columns(k: int, seed: int) -> None:
    matrix = SignedHash.sparse_signs(k, 60, seed, CPU).matrix()
    blocks = min(4, k)
    for block in range(blocks):
        columns = matrix[:, block::blocks]
        assert ((columns != 0).sum(dim=1) == 1).all()
        torch.testing.assert_close(columns.T @ columns, torch.eye(columns.shape[1]), rtol=0, atol=1e-5)


def test_drawing_an_operator_does_not_load_the_compiler() -> None:
    code = (
        "import sys, torch; from lowdim_bench.parametrizations import SignedHash\n"
        "SignedHash(3, 9, 0, torch.device('cpu'))\n"
        "print('numba' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


@pytest.mark.parametrize("k", [0, 10, -1])
def test_a_hash_of_no_or_of_empty_buckets_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="1 to 9 buckets"):
        SignedHash(k, 9, 0, CPU)


@pytest.mark.parametrize("code", [-1, 8, 2**31 - 1])
def test_codes_beyond_the_last_bucket_never_reach_the_compiled_kernel(code: int) -> None:
    operator = SignedHash(4, 9, 0, CPU)
    operator.code[0, 3] = code
    with pytest.raises(ValueError, match="must lie below its k"):
        pack([operator])


@pytest.mark.parametrize("entries", [1, 4])
@pytest.mark.parametrize("full_dimension", [53, 2410])
def test_the_bits_of_a_trial_do_not_depend_on_its_pack(full_dimension: int, entries: int) -> None:
    ks = [1 + (17 * row) % 53 for row in range(64)]
    subspaces = [
        AffineSubspace(normal(full_dimension, seed=row), SignedHash(k, full_dimension, row, CPU, entries))
        for row, k in enumerate(ks)
    ]
    theta, weights = normal(64, max(ks)), normal(64, full_dimension, seed=1)
    for row, k in enumerate(ks):
        theta[row, k:] = 0
    whole = Pack.of(subspaces)
    mapped, pulled = whole.map(theta), whole.pull_back(theta, weights)
    for rows in ([3], [63, 3, 20, 5, 40, 11, 0]):
        width = max(ks[row] for row in rows)
        some, kept = Pack.of([subspaces[row] for row in rows]), whole.keep(torch.tensor(rows))
        assert torch.equal(some.map(theta[rows, :width]), mapped[rows])
        assert torch.equal(some.pull_back(theta[rows, :width], weights[rows]), pulled[rows, :width])
        assert torch.equal(kept.map(theta[rows]), mapped[rows])
        assert torch.equal(kept.pull_back(theta[rows], weights[rows]), pulled[rows])


@given(k=st.integers(1, 60), seed=SEEDS, entries=st.integers(1, 5))
def test_the_compiled_kernels_are_what_torch_computes(k: int, seed: int, entries: int) -> None:
    packed = pack([SignedHash(size, 60, seed, CPU, entries) for size in (k, 1 + k // 2)])
    theta, weights, offset = normal(2, k), normal(2, 60, seed=1), normal(2, 60, seed=2)
    theta[1, 1 + k // 2 :] = 0
    exact = packed.forward(theta.double(), offset.double())
    assert exact.dtype == torch.float64
    torch.testing.assert_close(packed.forward(theta, offset).double(), exact, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(packed.adjoint(weights).double(), packed.adjoint(weights.double()), rtol=1e-5, atol=1e-5)


def test_gradients_flow_through_a_hash_where_somebody_asks_for_them() -> None:
    packed = pack([SignedHash(4, 9, 0, CPU)])
    theta, cotangent = normal(1, 4).requires_grad_(), normal(1, 9)
    (gradient,) = torch.autograd.grad(packed.forward(theta), theta, cotangent)
    torch.testing.assert_close(gradient, packed.adjoint(cotangent))
    with torch.no_grad():
        assert not packed.forward(theta).requires_grad


def test_what_is_not_contiguous_is_mapped_as_well() -> None:
    packed = pack([SignedHash(4, 9, seed, CPU) for seed in range(3)])
    theta, weights = normal(4, 3), normal(9, 3)
    assert torch.equal(packed.forward(theta.T), packed.forward(theta.T.contiguous()))
    assert torch.equal(packed.adjoint(weights.T), packed.adjoint(weights.T.contiguous()))


def some_of_each_kind() -> dict[str, list[Operator]]:
    drawn = {kind: [draw(k, 33, k, CPU) for k in (5, 33, 1)] for kind, draw in RANDOM_OPERATORS.items()}
    masks = [Coordinates.random(k, 33, k, CPU) for k in (5, 33, 1)]
    return {**drawn, "coordinates": [*masks], "full_space": [FullSpace(33)] * 3}


@pytest.mark.parametrize("kind", some_of_each_kind())
def test_an_offset_is_added_and_lent_memory_changes_nothing(kind: str) -> None:
    operators = some_of_each_kind()[kind]
    packed = pack(operators)
    theta, offset, dirty = normal(3, 33), normal(3, 33, seed=1), torch.full((3, 33), math.nan)
    for row, operator in enumerate(operators):
        theta[row, operator.k :] = 0
    moved, before = packed.forward(theta).clone(), offset.clone()
    torch.testing.assert_close(packed.forward(theta, offset), moved + offset)
    torch.testing.assert_close(packed.forward(theta, offset, dirty.clone()), moved + offset)
    torch.testing.assert_close(packed.forward(theta, None, dirty.clone()), moved)
    assert torch.equal(offset, before)


def test_the_shared_basis_is_one_matrix_in_an_order_of_each_trials_own() -> None:
    first, second = (SharedGaussian(6, 50, seed, CPU).matrix() for seed in (1, 2))
    assert not torch.allclose(first.abs(), second.abs())

    def rows(matrix: Tensor) -> Tensor:  # whatever their order and signs
        unsigned = matrix * matrix[:, :1].sign()
        return unsigned[unsigned[:, 0].argsort()]

    torch.testing.assert_close(rows(first), rows(second), rtol=0, atol=0)


def test_the_shared_basis_does_not_depend_on_what_was_asked_for_before() -> None:
    jumped = [SharedGaussian(k, 61, 0, CPU).matrix() for k in (61, 3)]
    for full_dimension in (62, 63):  # pushes the basis of 61 out
        SharedGaussian(2, full_dimension, 0, CPU).matrix()
    climbed = [SharedGaussian(k, 61, 0, CPU).matrix() for k in (1, 3, 4, 40, 61)]
    torch.testing.assert_close(climbed[-1], jumped[0], rtol=1e-6, atol=1e-7)
    assert torch.equal(climbed[1], climbed[-1][:, :3])


def test_nobody_changes_the_shared_basis_by_accident() -> None:
    before = SharedGaussian(3, 50, 0, CPU).matrix().clone()
    operator = SharedGaussian(3, 50, 0, CPU)
    operator.tensors()["basis"].zero_()
    operator.columns_at(torch.tensor([0, 2])).zero_()
    assert torch.equal(SharedGaussian(3, 50, 0, CPU).matrix(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["compiled", "torch"])
def test_numbers_of_another_shape_are_refused(dtype: torch.dtype) -> None:
    packed = SignedHash.pack([SignedHash(7, 50, seed, torch.device("cpu")) for seed in range(2)])
    for shape in [(2, 6), (2, 8), (1, 7), (3, 7), (7,)]:
        with pytest.raises(ValueError, match="these maps take"):
            packed.forward(torch.zeros(shape, dtype=dtype))
    for shape in [(2, 49), (2, 51), (1, 50)]:
        with pytest.raises(ValueError, match="these maps take"):
            packed.adjoint(torch.zeros(shape, dtype=dtype))
        with pytest.raises(ValueError, match="these maps take"):
            packed.forward(torch.zeros(2, 7, dtype=dtype), offset=torch.zeros(shape, dtype=dtype))
