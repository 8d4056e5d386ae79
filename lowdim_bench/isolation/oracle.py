"""The problem as a submission's process sees it: a question for each thing it wants to know, answered and metered outside."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor

from lowdim_bench.errors import MethodFailure
from lowdim_bench.isolation.messages import (
    Channel,
    ErrorNorms,
    Examples,
    HessianVector,
    LossAndGradient,
    SynapticFlow,
    TrainMetrics,
    TrialSetting,
)
from lowdim_bench.isolation.subspaces import tensor
from lowdim_bench.methods import Setting
from lowdim_bench.problems import BatchOrder, Metrics
from lowdim_bench.specs import Spec

_ORDERS_KEPT = 4

Question = Examples | LossAndGradient | TrainMetrics | HessianVector | ErrorNorms | SynapticFlow


class Oracle:
    """In the harness: answers the questions of one trial from its metered problem. There is none about test data."""

    def __init__(self, setting: Setting) -> None:
        self._problem = setting.problem
        self._initial = setting.initial
        self.example_count = setting.problem.example_count
        self._orders: OrderedDict[int | None, BatchOrder] = OrderedDict()

    def answer(self, question: Question, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the answer. Raises `MethodFailure` for a question that does not fit, or is beyond the budget."""
        if isinstance(question, Examples):
            found = self._order(question.batch_size).examples(question.step)
            return {} if found is None else {"examples": found}
        shape = (1, self._problem.full_dimension)
        weights = tensor(tensors, "weights", torch.float32, shape).to(self._initial.device)
        if isinstance(question, TrainMetrics):
            metrics = self._problem.train_metrics(weights)
            accuracy = {} if metrics.accuracy is None else {"accuracy": metrics.accuracy}
            return {"loss": metrics.loss, **accuracy}
        if isinstance(question, ErrorNorms):
            return {"norms": self._problem.error_norms(weights)}
        if isinstance(question, SynapticFlow):
            return {"scores": self._problem.synaptic_flow(weights[0])}
        if isinstance(question, HessianVector):
            vectors = tensor(tensors, "vectors", torch.float32, shape).to(self._initial.device)
            return {"product": self._problem.hessian_vector(weights, vectors, self._examples(tensors))}
        loss, gradient = self._problem.loss_and_gradient(weights, self._examples(tensors))
        return {"loss": loss, "gradient": gradient}

    def _order(self, batch_size: int | None) -> BatchOrder:
        if batch_size not in self._orders:
            if len(self._orders) == _ORDERS_KEPT:
                self._orders.popitem(last=False)
            self._orders[batch_size] = self._problem.batch_order(batch_size)
        return self._orders[batch_size]

    def _examples(self, tensors: Mapping[str, Tensor]) -> Tensor | None:
        if "examples" not in tensors:
            return None
        examples = tensor(tensors, "examples", torch.int64, (1, None))
        count = self.example_count or 0
        if not 1 <= examples.shape[1] <= count:
            raise MethodFailure(f"it asked for a gradient on {examples.shape[1]} examples; 1 to {count} are admitted")
        if int(examples.min()) < 0 or int(examples.max()) >= count:
            raise MethodFailure(f"it asked for examples that lie outside 0..{count - 1}")
        return examples.to(self._initial.device)


class RemoteProblem:
    """In a submission's process: what `MeteredProblem` is for one trial, with every question sent to the harness."""

    replicates = (0,)  # which one it is does not matter to a method, and stays outside

    def __init__(self, channel: Channel, initial: Tensor, told: TrialSetting) -> None:
        self._channel, self._initial = channel, initial
        self.blocks, self.example_count, self.chance_loss = told.blocks, told.example_count, told.chance_loss

    @property
    def full_dimension(self) -> int:
        return len(self._initial)

    def initial(self, row: int = 0) -> Tensor:
        """Initial parameters (D,)."""
        _check_row(row)
        return self._initial.clone()

    def batch_order(self, batch_size: int | None) -> RemoteBatchOrder:
        """The order of examples of this trial."""
        return RemoteBatchOrder(self, batch_size)

    def loss_and_gradient(self, weights: Tensor, examples: Tensor | None) -> tuple[Tensor, Tensor]:
        """Loss (1,) and gradient (1, D) at weights (1, D), on examples (1, B) or all; charged to the trial."""
        some = {} if examples is None else {"examples": examples}
        found = self.ask(LossAndGradient(), {"weights": weights, **some})
        return found["loss"], found["gradient"]

    def train_metrics(self, weights: Tensor) -> Metrics:
        """Metrics on the full training set at weights (1, D); charged to the trial."""
        found = self.ask(TrainMetrics(), {"weights": weights})
        return Metrics(found["loss"], found.get("accuracy"))

    def hessian_vector(self, weights: Tensor, vectors: Tensor, examples: Tensor | None) -> Tensor:
        """Product (1, D) of the Hessian at weights (1, D) with vectors (1, D); charged to the trial."""
        some = {} if examples is None else {"examples": examples}
        return self.ask(HessianVector(), {"weights": weights, "vectors": vectors, **some})["product"]

    def error_norms(self, weights: Tensor) -> Tensor:
        """|softmax - one-hot label| (1, N) of every training example at weights (1, D); charged to the trial."""
        return self.ask(ErrorNorms(), {"weights": weights})["norms"]

    def synaptic_flow(self, weights: Tensor) -> Tensor:
        """|w| dR/d|w| (D,) at weights (D,); charged to the trial."""
        return self.ask(SynapticFlow(), {"weights": weights.unsqueeze(0)})["scores"]

    def ask(self, question: Spec, tensors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Send a question and wait for its answer."""
        self._channel.send(question, tensors)
        return self._channel.receive()[1]


class RemoteBatchOrder:
    """What `BatchOrder` is for one trial."""

    def __init__(self, problem: RemoteProblem, batch_size: int | None) -> None:
        self._problem, self._batch_size = problem, batch_size

    def examples(self, step: int) -> Tensor | None:
        """Indices (1, B) of the examples of a step, or None for all of them."""
        return self._problem.ask(Examples(batch_size=self._batch_size, step=step)).get("examples")


def _check_row(row: int) -> None:
    if row not in {0, -1}:
        raise IndexError(f"asked for row {row} of a problem with one trial")
