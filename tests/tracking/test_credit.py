"""A sweep is recorded with the submission that it was made from: who began it is named, and nobody later."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.methods import FrozenCode, MethodChoice
from lowdim_bench.specs import Task
from lowdim_bench.tracking import Credit, Store

CREDIT = Credit("mine", ("Ada Lovelace", "Émilie du Châtelet"), "An idea.", "cold", ("digits-mlp",))


def test_a_credit_survives_as_tags() -> None:
    assert Credit.of(CREDIT.tags()) == CREDIT
    assert Credit.of({"lowdim.sweep": "abc"}) is None
    assert Credit.of({"lowdim.submission": "mine"}) == Credit("mine", (), "", "", ())


@pytest.mark.parametrize("altered", ["[", '{"a": 1}', "[1]", "null"])
def test_altered_tags_are_told(altered: str) -> None:
    with pytest.raises(UserError, match="tags of a submission are not what was written"):
        Credit.of(CREDIT.tags() | {"lowdim.authors": altered})


@pytest.mark.slow
def test_who_begins_a_sweep_is_recorded_with_the_frozen_code_and_stays(store: Store, task: Task) -> None:
    code = FrozenCode.of({"method.py": b"raise SystemExit"}, ("einops==0.8.1",))
    method = MethodChoice(name="mine", parameters={"width": 3}, code=code)
    with store.open_sweep(task, method, (1, 2048), 2410, credit=CREDIT) as log:
        tags = store._connection.run(log.run_id).tags
    assert tags["lowdim.submission"] == "mine"
    assert tags["lowdim.authors"] == '["Ada Lovelace", "Émilie du Châtelet"]'
    assert tags["lowdim.description"] == "An idea."
    assert tags["lowdim.expected_track"] == "cold"
    renamed = MethodChoice(name="theirs", parameters={"width": 3}, code=code)  # the same code is the same sweep
    with store.open_sweep(task, renamed, (1, 2048), 2410, credit=replace(CREDIT, submission="theirs")) as again:
        assert again.run_id == log.run_id
    (stored,) = store.sweeps()
    assert stored.credit == CREDIT
    assert stored.method == method


@pytest.mark.slow
def test_a_sweep_that_nobody_submitted_is_not_claimed_later(store: Store, task: Task, method: MethodChoice) -> None:
    with store.open_sweep(task, method, (1, 2048), 2410):
        pass
    with store.open_sweep(task, method, (1, 2048), 2410, credit=CREDIT):
        pass
    assert [stored.credit for stored in store.sweeps()] == [None]
