"""The method's own test: `pytest submissions/snip`."""

from __future__ import annotations

from pathlib import Path

import torch

from lowdim_bench.contract import check, subspace_of
from lowdim_bench.testing import own_subject

HERE = Path(__file__).parent


def test_it_keeps_the_contract() -> None:
    assert [one for one in check(own_subject(HERE)) if not one.passed] == []


def test_what_is_kept_is_more_sensitive_than_what_is_not_and_costs_one_gradient() -> None:
    subject = own_subject(HERE)
    item = subject.alone(100)
    assert (item.ledger.spent.gradient_evaluations, item.ledger.spent.examples) == (1, 256)
    initial = subject.problem.initial(0)
    examples = item.problem.batch_order(256).examples(0)
    _, gradient = subject.problem.loss_and_gradient(initial.unsqueeze(0), examples)
    kept = torch.zeros(subject.problem.full_dimension, dtype=torch.bool)
    kept[subspace_of(item).operator.tensors()["indices"]] = True
    sensitivity = (gradient[0] * initial).abs()
    assert sensitivity[kept].min() >= sensitivity[~kept].max() > 0
