"""Masks that move while they are trained: what is dropped, what grows, and what the scored training is left with."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import torch
from torch import Tensor

from lowdim_bench.methods import Method, MethodChoice, Setting, Train, Trained
from lowdim_bench.methods.dynamic_sparse import exchanged
from lowdim_bench.parametrizations import AffineSubspace, Coordinates
from lowdim_bench.problems import Ledger, MeteredProblem
from tests.problems.small import BLOBS, make_task, small_problem

TASK = make_task(BLOBS)
PROBLEM = small_problem(TASK)
D = 53
LAYERS = [(block.start, block.stop) for block in PROBLEM.blocks]


def setting(k: int) -> Setting:
    return Setting(MeteredProblem(PROBLEM, [0], [Ledger()]), k, 5, TASK.full_training)


def method(name: str, **parameters: Any) -> Method:
    return MethodChoice(name=name, parameters=parameters).build()


def weights(seed: int) -> Tensor:
    return torch.randn(D, generator=torch.Generator().manual_seed(seed))


def mask(subspace: object) -> Tensor:
    assert isinstance(subspace, AffineSubspace)
    assert isinstance(subspace.operator, Coordinates)
    found = torch.zeros(D, dtype=torch.bool)
    found[subspace.operator.indices] = True
    return found


def drive(chosen: Method, k: int) -> tuple[list[Train], list[Tensor], AffineSubspace]:
    """Every request, the weights it was answered with, and what came of it."""
    running = chosen.prepare(setting(k))
    assert isinstance(running, Generator)
    requests, answers = [next(running)], []
    try:
        while True:
            answers.append(torch.where(mask(requests[-1].subspace), weights(len(answers)), torch.zeros(D)))
            requests.append(running.send(Trained(answers[-1])))
    except StopIteration as end:
        return requests, answers, end.value


def test_the_smallest_go_and_those_of_highest_score_come_in_each_tensor() -> None:
    one, before = setting(30), Coordinates(torch.arange(0, D, 2), D)
    values, scores = weights(0), weights(1).abs()
    after = exchanged(one, values, before, scores, 0.4).indices.tolist()
    for start, stop in LAYERS:
        own = [place for place in before.indices.tolist() if start <= place < stop]
        count = int(0.4 * len(own))
        stay = sorted(own, key=lambda place: abs(float(values[place])))[count:]
        others = [place for place in range(start, stop) if place not in stay]
        grown = sorted(others, key=lambda place: -float(scores[place]))[:count]
        assert [place for place in after if start <= place < stop] == sorted(stay + grown)


@pytest.mark.parametrize("name", ["set_mask", "rigl_mask"])
@pytest.mark.parametrize("k", [1, 20, 52, 53])
def test_every_mask_has_k_weights_and_the_same_in_each_tensor(name: str, k: int) -> None:
    requests, answers, result = drive(method(name, updates=3), k)
    assert [(request.start, request.stop) for request in requests] == [(0, 3), (3, 6), (6, 9)]
    masks = [mask(request.subspace) for request in requests] + [mask(result)]
    counts = [[int(one[start:stop].sum()) for start, stop in LAYERS] for one in masks]
    assert all(sum(count) == k and count == counts[0] for count in counts)
    for request, before, answer in zip(requests[1:], masks, answers, strict=False):
        begins = request.subspace.map(request.subspace.start)
        assert torch.equal(begins, torch.where(mask(request.subspace) & before, answer, torch.zeros(D)))
    # What is scored is the last mask at the initial weights, nothing else of the search.
    assert torch.equal(result.map(result.start), torch.where(masks[-1], PROBLEM.initial(0), torch.zeros(D)))


def test_rigl_grows_by_the_gradient_and_less_and_less() -> None:
    requests, answers, result = drive(method("rigl_mask", updates=3, share=0.5), 30)
    masks = [mask(request.subspace) for request in requests] + [mask(result)]
    examples = MeteredProblem(PROBLEM, [0], [Ledger()]).batch_order(16).examples(3)
    _, gradient = PROBLEM.loss_and_gradient(answers[0].unsqueeze(0), examples)
    expected = exchanged(
        setting(30), answers[0], Coordinates(masks[0].nonzero().squeeze(1), D), gradient[0].abs(), 0.5 * 0.75
    )  # (1 + cos(pi / 3)) / 2
    assert torch.equal(masks[1].nonzero().squeeze(1), expected.indices)
    assert torch.equal(masks[-2], masks[-1])  # at the end of the search nothing is exchanged any more
