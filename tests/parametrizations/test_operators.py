"""Operators are the linear maps they say they are: adjoint, norms, nesting, packs, determinism, rank."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats

from lowdim_bench.parametrizations import (
    RANDOM_OPERATORS,
    Coordinates,
    DenseBasis,
    Fastfood,
    FullSpace,
    Operator,
    SignedHash,
    SubsampledHadamard,
)
from lowdim_bench.parametrizations.operators import fastfood, pack
from lowdim_bench.seeds import derive

CPU = torch.device("cpu")
Draw = Callable[[int, int, int], Operator]


def stored(k: int, full_dimension: int, seed: int) -> DenseBasis:
    return DenseBasis(torch.randn(k, full_dimension, generator=torch.Generator().manual_seed(seed)))


def drawn(kind: str) -> Draw:
    return lambda k, full_dimension, seed: RANDOM_OPERATORS[kind](k, full_dimension, seed, CPU)


KINDS: dict[str, Draw] = {
    **{kind: drawn(kind) for kind in RANDOM_OPERATORS},
    "coordinates": lambda k, full_dimension, seed: Coordinates.random(k, full_dimension, seed, CPU),
    "stored": stored,
    "full_space": lambda k, full_dimension, seed: FullSpace(full_dimension),
}
DRAWN = [kind for kind in KINDS if kind not in {"stored", "full_space"}]
SEEDS = st.integers(0, 2**63 - 1)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    """k and D, 1 <= k <= D, with the ends of the range often among them."""
    full_dimension = draw(st.integers(1, 130))
    return draw(st.one_of(st.just(1), st.just(full_dimension), st.integers(1, full_dimension))), full_dimension


def explicit(operator: Operator) -> np.ndarray:
    """A (D, k), column by column, in float64 from single applications."""
    columns = []
    for place in range(operator.k):
        unit = torch.zeros(1, operator.k)
        unit[0, place] = 1.0
        columns.append(pack([operator]).forward(unit)[0].double().numpy())
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("kind", KINDS)
@given(size=sizes(), seed=SEEDS)
def test_the_adjoint_is_the_transpose_and_the_matrix_is_the_map(kind: str, size: tuple[int, int], seed: int) -> None:
    operator = KINDS[kind](*size, seed)
    k, full_dimension = operator.k, operator.full_dimension
    generator = torch.Generator().manual_seed(0)
    theta, weights = torch.randn(1, k, generator=generator), torch.randn(1, full_dimension, generator=generator)
    matrix = explicit(operator)
    assert matrix.shape == (full_dimension, k)
    packed = pack([operator])
    np.testing.assert_allclose(packed.forward(theta)[0].numpy(), matrix @ theta[0].numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(packed.adjoint(weights)[0].numpy(), matrix.T @ weights[0].numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(operator.matrix().numpy(), matrix, rtol=1e-6, atol=1e-6)
    places = torch.tensor([k - 1, 0, k // 2])
    np.testing.assert_allclose(operator.columns_at(places).numpy(), matrix[:, places].T, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", DRAWN)
@given(size=sizes(), seed=SEEDS)
def test_drawn_columns_have_unit_norm(kind: str, size: tuple[int, int], seed: int) -> None:
    np.testing.assert_allclose(np.linalg.norm(explicit(KINDS[kind](*size, seed)), axis=0), 1.0, rtol=1e-5)


@pytest.mark.parametrize("kind", ["signed_hash", "orthonormal", "coordinates"])
@given(size=sizes(), seed=SEEDS)
def test_columns_that_shall_be_orthonormal_are(kind: str, size: tuple[int, int], seed: int) -> None:
    matrix = explicit(KINDS[kind](*size, seed))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(size[0]), atol=2e-5)


@given(size=sizes(), seed=SEEDS)
def test_signed_hash_is_balanced_and_no_bucket_is_empty(size: tuple[int, int], seed: int) -> None:
    k, full_dimension = size
    operator = SignedHash(k, full_dimension, seed, CPU)
    matrix = explicit(operator)
    assert ((matrix != 0).sum(axis=1) == 1).all()
    buckets = (matrix != 0).sum(axis=0)
    assert set(buckets) <= {full_dimension // k, math.ceil(full_dimension / k)}
    np.testing.assert_allclose(np.abs(matrix).max(axis=0), 1 / np.sqrt(buckets), rtol=1e-6)
    assert operator.rank() == k


def test_signed_hash_scatters_coordinates_and_signs() -> None:
    code = SignedHash(10, 5000, 7, CPU).code[0]
    bucket, positive = code >> 1, code % 2 == 0
    assert 0.45 < float(positive.float().mean()) < 0.55
    thirds = [torch.bincount(part, minlength=10) for part in bucket[:4998].split(1666)]
    for counts in thirds:  # near blocks of the network do not share a bucket more often than far ones
        assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    signs = torch.tensor([int((positive & (bucket == place)).sum()) for place in range(10)])
    assert stats.chisquare(signs.numpy()).pvalue > 1e-4


@pytest.mark.parametrize(("kind", "variance"), [("gaussian", 1), ("shared_gaussian", 1), ("fastfood", 2)])
def test_gaussian_columns_are_normal_and_independent(kind: str, variance: int) -> None:
    matrix = explicit(drawn(kind)(40, 2000, 11)) * math.sqrt(2000)
    assert stats.kstest(matrix.ravel(), "norm").pvalue > 1e-3
    cosines = (matrix.T @ matrix / 2000)[~np.eye(40, dtype=bool)]
    assert cosines.std() == pytest.approx(math.sqrt(variance / 2000), rel=0.1)
    assert np.abs(cosines).max() < 6 * math.sqrt(variance / 2000)


@given(size=sizes(), seed=SEEDS)
def test_hadamard_entries_have_one_size(size: tuple[int, int], seed: int) -> None:
    matrix = explicit(SubsampledHadamard(*size, seed, CPU))
    np.testing.assert_allclose(np.abs(matrix), 1 / math.sqrt(size[1]), rtol=1e-5)


@pytest.mark.parametrize("full_dimension", [1, 2, 8, 64, 128])
def test_hadamard_columns_are_orthogonal_where_nothing_is_cut_off(full_dimension: int) -> None:
    matrix = explicit(SubsampledHadamard(full_dimension, full_dimension, 3, CPU))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(full_dimension), atol=1e-5)


def test_hadamard_columns_are_nearly_orthogonal_where_something_is() -> None:
    matrix = explicit(SubsampledHadamard(50, 700, 3, CPU))
    assert np.abs(matrix.T @ matrix - np.eye(50)).max() < 6 / math.sqrt(700)


@pytest.mark.parametrize(("k", "full_dimension"), [(1, 1), (5, 5), (64, 64), (40, 100), (100, 100), (33, 513)])
def test_fastfood_is_the_product_of_its_factors_in_float64(k: int, full_dimension: int) -> None:
    operator = Fastfood(k, full_dimension, 3, CPU)
    drawn = {name: tensor.double().numpy() for name, tensor in operator.tensors().items()}
    size = len(drawn["normal"])
    walsh = linalg.hadamard(size).astype(float)
    matrix = walsh[:full_dimension] @ np.diag(drawn["normal"]) @ walsh[drawn["order"].astype(int), :k]
    matrix = matrix @ np.diag(drawn["scale"])
    rng = np.random.default_rng(0)
    theta, weights = rng.normal(size=k), rng.normal(size=full_dimension)
    forward, adjoint = operator.apply(torch.tensor(theta)), operator.apply_adjoint(torch.tensor(weights))
    assert forward.dtype == adjoint.dtype == torch.float64
    np.testing.assert_allclose(forward.numpy(), matrix @ theta, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(adjoint.numpy(), matrix.T @ weights, rtol=1e-12, atol=1e-12)
    assert float(forward @ torch.tensor(weights)) == pytest.approx(float(adjoint @ torch.tensor(theta)), rel=1e-12)


def test_fastfood_s_columns_have_unit_norm_in_the_mean_where_each_would_cost_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fastfood, "EXACT", 0)
    k, full_dimension, size = 300, 600, 1024
    norms = np.linalg.norm(explicit(Fastfood(k, full_dimension, 3, CPU)), axis=0)
    deviation = math.sqrt((1 - full_dimension / size) / (2 * full_dimension))
    assert norms.std() == pytest.approx(deviation, rel=0.25)
    assert abs(norms.mean() - 1) < 4 * deviation / math.sqrt(k)
    whole = np.linalg.norm(explicit(Fastfood(64, 64, 3, CPU)), axis=0)  # nothing is cut, and nothing to be corrected
    np.testing.assert_allclose(whole, 1.0, rtol=1e-5)


def distance(inner: np.ndarray, outer: np.ndarray) -> float:
    """How far the columns of `inner` lie from the span of those of `outer`."""
    basis, _ = np.linalg.qr(outer)
    return float(np.abs(inner - basis @ (basis.T @ inner)).max())


@pytest.mark.parametrize("kind", [*DRAWN, "full_space"])
def test_nested_operators_are_nested_and_only_those_say_so(kind: str) -> None:
    distances = [
        distance(explicit(KINDS[kind](k, 40, seed)), explicit(KINDS[kind](k + more, 40, seed)))
        for k, more in ((2, 1), (3, 1), (3, 4), (7, 20), (11, 28))
        for seed in (0, 1)
        if kind != "sparse_signs" or k > 4  # the first few columns are dense, drawn one after the other
    ]
    if KINDS[kind](3, 40, 0).nested:
        assert max(distances) < 1e-4
    else:
        assert min(distances) > 1e-2


def test_hashes_alone_are_not_nested_and_the_plain_one_only_for_multiples_of_k() -> None:
    assert [kind for kind in KINDS if not KINDS[kind](3, 40, 0).nested] == ["signed_hash", "sparse_signs"]
    for k, multiple in ((1, 7), (3, 6), (8, 32), (13, 39)):
        assert distance(explicit(SignedHash(k, 40, 0, CPU)), explicit(SignedHash(multiple, 40, 0, CPU))) < 1e-6


@pytest.mark.parametrize("kind", DRAWN)
def test_a_seed_gives_one_operator(kind: str) -> None:
    first, again, other = KINDS[kind](9, 50, 4), KINDS[kind](9, 50, 4), KINDS[kind](9, 50, 5)
    assert first.seed == 4
    assert first.tensors().keys() == again.tensors().keys()
    assert all(torch.equal(first.tensors()[name], again.tensors()[name]) for name in first.tensors())
    assert not np.allclose(explicit(first), explicit(other))


@pytest.mark.parametrize("kind", DRAWN)
def test_drawing_does_not_touch_the_global_generator(kind: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    KINDS[kind](9, 50, derive("a seed"))
    assert torch.equal(torch.get_rng_state(), before)


def random_pack(kind: str) -> tuple[list[Operator], torch.Tensor, torch.Tensor]:
    ks = [33] * 4 if kind == "full_space" else [5, 33, 1, 12]
    operators = [KINDS[kind](k, 33, seed) for seed, k in enumerate(ks)]
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(4, 33, generator=generator)
    for row, k in enumerate(ks):
        theta[row, k:] = 0
    return operators, theta, torch.randn(4, 33, generator=generator)


@pytest.mark.parametrize("kept", [[0, 1, 2, 3], [2, 0], [1], [3, 2, 1]])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_of_mixed_k_is_its_rows_side_by_side_also_after_some_left(kind: str, kept: list[int]) -> None:
    operators, theta, weights = random_pack(kind)
    packed = pack(operators)
    if len(kept) < 4:
        packed = packed.keep(torch.tensor(kept))
    forward, adjoint = packed.forward(theta[kept]), packed.adjoint(weights[kept])
    assert adjoint.shape == (len(kept), 33)
    for place, row in enumerate(kept):
        operator, alone = operators[row], pack([operators[row]])
        torch.testing.assert_close(forward[place], alone.forward(theta[row : row + 1, : operator.k])[0])
        torch.testing.assert_close(adjoint[place, : operator.k], alone.adjoint(weights[row : row + 1])[0])
        assert not adjoint[place, operator.k :].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_is_not_finite_leaves_the_others_as_they_are(kind: str) -> None:
    operators, theta, weights = random_pack(kind)
    packed = pack(operators)
    forward, adjoint = packed.forward(theta).clone(), packed.adjoint(weights).clone()
    theta[1], weights[1] = math.nan, math.inf
    for row in (0, 2, 3):
        assert torch.equal(packed.forward(theta)[row], forward[row])
        assert torch.equal(packed.adjoint(weights)[row], adjoint[row])


def test_operators_of_several_kinds_are_no_pack() -> None:
    with pytest.raises(ValueError, match=r"one kind of operator; got \['full_space', 'gaussian'\]"):
        pack([FullSpace(9), DenseBasis.gaussian(3, 9, 0, CPU)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 2, 30, 64])
def test_rank_is_that_of_the_matrix(kind: str, k: int) -> None:
    operator = KINDS[kind](k, 64, 2)
    assert operator.rank() == np.linalg.matrix_rank(explicit(operator)) == operator.k


def test_square_gaussian_bases_have_full_rank() -> None:
    """In float32 about one in a hundred would not: their smallest singular value is of the order of 1 / D."""
    assert {DenseBasis.gaussian(100, 100, seed, CPU).rank() for seed in range(300)} == {100}


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_dependent_columns_do_not_count_whatever_their_scale(scale: float) -> None:
    columns = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * scale
    assert DenseBasis(columns).rank() == 6
    columns[4] = columns[0] / 3 - 7 * columns[1]
    assert DenseBasis(columns).rank() == 5
    columns[5] = columns[2]
    assert DenseBasis(columns).rank() == 4
    columns[3] = 0
    assert DenseBasis(columns).rank() == 3
    columns[0] *= 1e-6  # small is not dependent
    assert DenseBasis(columns).rank() == 3


def test_beyond_256_columns_a_sample_stands_for_the_rank() -> None:
    for operator in (DenseBasis.gaussian(300, 400, 0, CPU), SubsampledHadamard(300, 400, 0, CPU)):
        assert operator.rank() is None
        assert operator.sampled_columns_are_independent()
    low = torch.randn(300, 100, generator=torch.Generator().manual_seed(0)) @ torch.eye(100, 400)
    assert not DenseBasis(low).sampled_columns_are_independent()


def test_a_cut_hadamard_transform_may_have_dependent_columns_and_its_rank_tells() -> None:
    ranks = {seed: SubsampledHadamard(5, 5, seed, CPU) for seed in range(40)}
    assert all(one.rank() == np.linalg.matrix_rank(explicit(one)) for one in ranks.values())
    assert min(one.rank() or 0 for one in ranks.values()) < 5


@pytest.mark.parametrize("indices", [[0, 0], [3, 9], [-1, 2], [1, 2, 3, 1]])
def test_masks_with_doubled_or_foreign_indices_are_refused(indices: list[int]) -> None:
    with pytest.raises(ValueError, match=r"distinct and lie in 0\.\.8"):
        Coordinates(torch.tensor(indices), 9)


@pytest.mark.parametrize("columns", [torch.zeros(3), torch.zeros(2, 3, dtype=torch.float64), torch.zeros(1, 2, 3)])
def test_bases_that_are_no_float32_matrix_are_refused(columns: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="columns must be float32"):
        DenseBasis(columns)


def test_coordinates_are_those_asked_for_in_any_order() -> None:
    operator = Coordinates(torch.tensor([7, 2, 4]), 9)
    assert operator.indices.tolist() == [2, 4, 7]
    assert pack([operator]).forward(torch.tensor([[1.0, 2.0, 3.0]]))[0].tolist() == [0, 0, 1, 0, 2, 0, 0, 3, 0]
