"""Success in random planes: how often training within a random k-plane through w_0 reaches a target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lowdim_bench.engine import Span, train
from lowdim_bench.methods.random_subspace import default_operator
from lowdim_bench.parametrizations import RANDOM_OPERATORS, AffineSubspace, Pack
from lowdim_bench.problems import Ledger, MeteredProblem, Problem
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Task

PLANES = 8


def success_in_planes(task: Task, problem: Problem, replicate: int, k: int, planes: int = PLANES) -> float:
    """The share of random k-planes through the replicate's w_0 in which training by the task's recipe ever has the ranked
    target at a scheduled evaluation (Fort & Jastrzebski 2019, arXiv 1906.04724; Li et al. 2018, arXiv 1804.08838).

    A sweep of `random_subspace` asks the same over fresh w_0 and batches, and finds the k at which the share is one half.
    """
    start, size = problem.initial(replicate), problem.full_dimension
    draw = RANDOM_OPERATORS[default_operator(size)]
    seeds = [derive("random planes", task.name, replicate, k, plane) for plane in range(planes)]
    spaces = [AffineSubspace(start, draw(k, size, seed, problem.device)) for seed in seeds]
    watched = _Watch(task, problem, planes)
    metered = MeteredProblem(problem, [replicate] * planes, [Ledger() for _ in range(planes)])
    rates = [task.training.learning_rate.at(k)] * planes
    train(metered, spaces, task.training, rates, Span(0, task.training.steps), watched)
    return sum(watched.reached) / planes


class _Watch:
    """Notes which rows have reached the target, and ends them."""

    def __init__(self, task: Task, problem: Problem, rows: int) -> None:
        self.every = task.training.evaluate_every
        self.reached = [False] * rows
        self._target, self._problem = task.ranked_target, problem

    def __call__(self, step: int, rows: Sequence[int], theta: Tensor, pack: Pack) -> list[bool]:
        with torch.no_grad():
            metrics = self._problem.train_metrics(pack.map(theta))
        for place, row in enumerate(rows):
            self.reached[row] = self._target.reached(metrics.value(self._target, place))
        return [not self.reached[row] for row in rows]
