"""Run the preparations of a pack in step: what several methods want trained next is trained as one pack."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lowdim_bench.engine import Span, train
from lowdim_bench.errors import BudgetExceeded, InfrastructureError, MethodFailure
from lowdim_bench.isolation.method import IsolatedPreparation
from lowdim_bench.methods import Method, Preparation, Setting, Train, Trained
from lowdim_bench.parametrizations import Coordinates, FullSpace, Pack, Parametrization
from lowdim_bench.problems import Ledger, MeteredProblem, Problem
from lowdim_bench.records import Trial, Usage
from lowdim_bench.seeds import derive
from lowdim_bench.specs import Recipe, Task
from lowdim_bench.specs.task import AlternatingLeastSquares


@dataclass
class Prepared:
    """How far one trial's preparation has come: a running generator, a subspace, or the reason why it failed."""

    trial: Trial
    seed: int
    ledger: Ledger
    problem: MeteredProblem
    recipe: Recipe
    """Of the task's full training, by which requests are trained."""
    running: Preparation | None = None
    wanted: Train | None = None
    subspace: Parametrization | None = None
    diverged: bool = False
    failure: str = ""
    usage: Usage | None = None
    """What its process took, where it ran in one of its own."""

    def advance(self, answer: Trained | None) -> None:
        """Run the method up to its next request or its end. Whatever it raises becomes its failure."""
        assert self.running is not None
        self.wanted = None
        try:
            request = next(self.running) if answer is None else self.running.send(answer)
            self._check(request)
        except StopIteration as end:
            self.finish(end.value)
        except InfrastructureError:  # nobody's fault here: it may go well elsewhere
            self.let_go()
            raise
        except (Exception, SystemExit) as error:  # a method's own fault, of whatever kind, must not end its neighbours
            self.fail(error)
        else:
            self.wanted = request

    def fail(self, error: BaseException) -> None:
        """Give up on this trial."""
        text = str(error) if isinstance(error, MethodFailure) else f"{type(error).__name__}: {error}"
        self.failure = f"preparation failed: {text}"
        self.let_go()

    def let_go(self) -> None:
        """Have no more to do with the method, whose process, if it has one, ends here."""
        running, self.running, self.wanted = self.running, None, None
        if running is None:
            return
        with contextlib.suppress(Exception):  # what it does on its way out changes nothing any more
            running.close()
        if isinstance(running, IsolatedPreparation):
            self.usage = running.usage

    def _check(self, request: object) -> None:
        """That a request can be trained beside those of other trials. Raises whatever its map raises."""
        if not isinstance(request, Train):
            raise MethodFailure(f"it yielded a {type(request).__name__}; only Train requests may be yielded")
        if request.subspace.operator.moves:
            raise MethodFailure("it asked to train a mask that moves; only the scored training may move one")
        shape, wanted = tuple(request.subspace.map(request.subspace.start).shape), (self.problem.full_dimension,)
        if shape != wanted:
            raise MethodFailure(f"it asked to train a map that ends in shape {shape}; the network has {wanted}")
        solves = isinstance(self.recipe.optimizer, AlternatingLeastSquares)
        if solves and not isinstance(request.subspace.operator, Coordinates | FullSpace):
            name = type(request.subspace.operator).__name__
            raise MethodFailure(
                f"it asked to train a {name} by alternating least squares, which solves for the weights themselves"
            )
        count, examples = self.problem.example_count or 0, request.examples
        if examples is not None and not 0 <= int(examples.min()) <= int(examples.max()) < count:
            raise MethodFailure(f"it asked to train on examples that do not lie among the {count} that there are")

    def finish(self, subspace: object) -> None:
        """Take what the method ended in, if it is a subspace."""
        self.let_go()
        if isinstance(subspace, Parametrization):
            self.subspace = subspace
        else:
            self.fail(MethodFailure(f"it returned a {type(subspace).__name__}; prepare must end in a parametrization"))


def prepare_pack(problem: Problem, task: Task, method: Method, trials: Sequence[Trial]) -> list[Prepared]:
    """Prepare all trials, each metered by a ledger of its own.

    Raises `InfrastructureError` where no process for submitted code can be had.
    """
    items: list[Prepared] = []
    try:
        items += (_start(problem, task, method, trial) for trial in trials)
        _run_in_step(problem, task, items)
    finally:
        for item in items:
            item.let_go()
    return items


def _run_in_step(problem: Problem, task: Task, items: Sequence[Prepared]) -> None:
    while waiting := [item for item in items if item.wanted is not None]:
        # Only trainings over the same steps with the same kind of map share a pack; the first request picks which.
        key = _pack_key(waiting[0])
        group = [item for item in waiting if _pack_key(item) == key]
        group = [item for item in group if _affordable(item)]
        for item, answer in zip(group, _train_group(problem, task, group) if group else [], strict=True):
            if answer is None:
                item.diverged = True
                item.let_go()
            else:
                item.advance(answer)


def _start(problem: Problem, task: Task, method: Method, trial: Trial) -> Prepared:
    ledger = Ledger(task.preparation.gradient_evaluations, problem.example_count)
    metered = MeteredProblem(problem, [trial.replicate], [ledger])
    # Not a function of k: nested bases, and so the pairing of trials of one replicate, rest on that.
    seed = derive("method", task.name, trial.replicate)
    item = Prepared(trial, seed, ledger, metered, task.full_training)
    try:
        outcome = method.prepare(Setting(metered, trial.k, seed, task.full_training))
    except (Exception, SystemExit) as error:  # as above
        item.fail(error)
        return item
    if isinstance(outcome, Generator):
        item.running = outcome
        item.advance(None)
    else:
        item.finish(outcome)
    return item


def _pack_key(item: Prepared) -> tuple[int, int, int | None, int | None, type]:
    wanted = item.wanted
    assert wanted is not None
    seen = None if wanted.examples is None else len(wanted.examples)
    return wanted.start, wanted.stop, wanted.snapshot_every, seen, type(wanted.subspace.operator)


def _affordable(item: Prepared) -> bool:
    """Whether a request is within the trial's budget; asked beforehand, so that no neighbour in the pack is disturbed."""
    assert item.wanted is not None
    try:
        item.ledger.check(item.wanted.stop - item.wanted.start)
    except BudgetExceeded as error:
        item.fail(error)
        return False
    return True


class _Snapshots:
    """Keeps the weights of every row, every so many steps."""

    def __init__(self, every: int, first: Sequence[Tensor]) -> None:
        self.every = every
        self.kept = [[weights] for weights in first]

    def __call__(self, step: int, rows: Sequence[int], theta: Tensor, pack: Pack) -> list[bool]:
        for row, weights in zip(rows, pack.map(theta).clone(), strict=True):
            self.kept[row].append(weights)
        return [True] * len(rows)


def _train_group(problem: Problem, task: Task, group: Sequence[Prepared]) -> list[Trained | None]:
    """Answers to the requests of a group; None where the training diverged."""
    requests = [item.wanted for item in group if item.wanted is not None]
    first, recipe = requests[0], task.full_training
    subspaces = [request.subspace for request in requests]
    observer = None
    if first.snapshot_every is not None:
        observer = _Snapshots(first.snapshot_every, [subspace.map(subspace.start) for subspace in subspaces])
    subsets = [request.examples for request in requests if request.examples is not None]
    replicates, ledgers = [item.trial.replicate for item in group], [item.ledger for item in group]
    metered = MeteredProblem(problem, replicates, ledgers, subsets or None)
    rates = [recipe.learning_rate.at(subspace.k) for subspace in subspaces]
    thetas = train(metered, subspaces, recipe, rates, Span(first.start, first.stop), observer)
    answers: list[Trained | None] = []
    for row, (subspace, theta) in enumerate(zip(subspaces, thetas, strict=True)):
        weights = subspace.map(theta)
        snapshots = tuple(observer.kept[row]) if observer else ()
        answers.append(Trained(weights, snapshots) if bool(torch.isfinite(weights).all()) else None)
    return answers
