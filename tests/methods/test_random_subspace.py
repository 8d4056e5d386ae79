"""What a random subspace is drawn with: one operator for a D, whatever k; nothing whose structure would be measured instead."""

from __future__ import annotations

import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.methods import MethodChoice, parse_choice
from lowdim_bench.methods.random_subspace import default_operator
from lowdim_bench.parametrizations import RANDOM_OPERATORS, SignedHash
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.records import Trial
from tests.problems.small import BLOBS, make_task, small_problem

TASK = make_task(BLOBS)
METHODS = ("random_subspace", "burn_in_subspace,burn_in_steps=2")


def drawn(text: str, ks: tuple[int, ...] = (1, 5, 53)) -> list[str]:
    trials = [Trial(k=k, replicate=0, round=0) for k in ks]
    prepared = prepare_pack(small_problem(TASK), TASK, parse_choice(text).build(), trials)
    assert all(item.subspace is not None for item in prepared), [item.failure for item in prepared]
    return [item.subspace.operator.kind for item in prepared if item.subspace is not None]


def test_small_networks_get_several_entries_a_row_and_large_ones_a_plain_hash() -> None:
    assert [default_operator(size) for size in (53, 2410, 20_490)] == ["sparse_signs"] * 3
    assert [default_operator(size) for size in (199_210, 11_000_000)] == ["signed_hash"] * 2


@pytest.mark.parametrize("method", METHODS)
def test_the_default_is_one_operator_at_every_k_and_others_come_when_asked_for(method: str) -> None:
    assert set(drawn(method)) == set(drawn(f"{method},operator=auto")) == {default_operator(53)}
    for operator in RANDOM_OPERATORS:
        assert set(drawn(f"{method},operator={operator}")) == {operator}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "needs"), [("chunks", "1.36"), ("contiguous_chunks", "1.36"), ("kronecker", "1.21"), ("kron", "1.21")]
)
def test_biased_stand_ins_are_refused_with_the_reason_and_what_is_valid(method: str, name: str, needs: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_choice(f"{method},operator={name}")
    message = str(caught.value)
    assert f"needs {needs}" in message
    assert all(operator in message for operator in RANDOM_OPERATORS)


def test_every_operator_is_a_method_of_its_own() -> None:
    digests = {parse_choice(f"random_subspace,operator={name}").method_digest for name in ["auto", *RANDOM_OPERATORS]}
    assert len(digests) == 1 + len(RANDOM_OPERATORS)
    assert MethodChoice(name="random_subspace").method_digest in digests


def test_the_default_s_digest_is_that_of_no_operator_and_of_no_earlier_default() -> None:
    earlier = {"random_subspace": "fef6668446026e36", "burn_in_subspace": "356a3c7d985092ff"}  # signed_hash, unsaid
    for name, digest in earlier.items():
        explicit = [parse_choice(f"{name},operator={kind}").method_digest for kind in ("signed_hash", "sparse_signs")]
        assert len({digest, MethodChoice(name=name).method_digest, *explicit}) == 4


def test_a_plain_hash_stays_plain() -> None:
    subspaces = prepare_pack(
        small_problem(TASK),
        TASK,
        parse_choice(METHODS[0] + ",operator=signed_hash").build(),
        [Trial(k=9, replicate=0, round=0)],
    )
    assert subspaces[0].subspace is not None
    operator = subspaces[0].subspace.operator
    assert isinstance(operator, SignedHash)
    assert operator.code.shape == (1, 53)
