"""The method's own test: `pytest submissions/gradient-span`."""

from __future__ import annotations

from pathlib import Path

import torch

from lowdim_bench.contract import check, subspace_of
from lowdim_bench.testing import TINY, own_subject

HERE = Path(__file__).parent


def test_it_keeps_the_contract() -> None:
    assert [one for one in check(own_subject(HERE)) if not one.passed] == []


def test_the_first_gradients_lie_in_the_subspace_and_are_paid_for() -> None:
    subject = own_subject(HERE)
    item = subject.alone(64)
    assert item.ledger.spent.gradient_evaluations == 64
    basis = subspace_of(item).operator.matrix()  # (D, k), orthonormal
    examples = item.problem.batch_order(TINY.full_training.batch_size).examples(3)
    gradient = item.problem.loss_and_gradient(subject.problem.initial(0).unsqueeze(0), examples)[1][0]
    torch.testing.assert_close(basis @ (basis.T @ gradient), gradient, rtol=1e-3, atol=1e-5)
