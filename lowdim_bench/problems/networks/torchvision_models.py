"""Residual networks of torchvision as they are, run on flat parameter vectors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models import get_model

from lowdim_bench.problems.networks.base import Layout
from lowdim_bench.problems.networks.batch_normalized import BatchNormalizedNetwork, channel_statistics
from lowdim_bench.specs.problem import TorchvisionNetwork

COLOURS = 3
_DRAWING = threading.Lock()


class _Modules(threading.local):
    """The module without numbers of its own (on torch's meta device), once as it trains and once as it evaluates.

    Each thread has its own: for the time of a call a module holds the tensors that it is called with.
    """

    def __init__(self, model: str, classes: int) -> None:
        with torch.device("meta"):
            self.training, self.evaluating = (get_model(model, weights=None, num_classes=classes) for _ in range(2))
        self.training.train()
        self.evaluating.eval()


@final
class TorchvisionModel(BatchNormalizedNetwork):
    """The module of `torchvision.models`, its parameters and buffers given to it at each call."""

    def __init__(self, spec: TorchvisionNetwork, classes: int) -> None:
        self._model, self._classes = spec.model, classes
        self._modules = _Modules(spec.model, classes)
        training = self._modules.training
        kinds = dict(training.named_modules())
        self._norms = {name: module for name, module in kinds.items() if isinstance(module, nn.BatchNorm2d)}
        self._dense = {f"{name}.weight" for name, module in kinds.items() if isinstance(module, nn.Linear)}
        layout = Layout()
        for name, parameter in training.named_parameters():
            owner, _, own = name.rpartition(".")
            module, shape = kinds[owner], tuple(parameter.shape)
            if name in self._dense:  # torch keeps dense weights as (outputs, inputs), we as (inputs, outputs)
                shape = shape[::-1]
            role = "bias" if own == "bias" else "norm_scale" if isinstance(module, nn.BatchNorm2d) else "weight"
            layout.add(name, role, shape, _fan_in(module))
        super().__init__(layout.blocks, spec.statistics_examples)

    def initial(self, generator: torch.Generator) -> Tensor:
        """Initial parameters (D,), as the module draws them itself."""
        seed = int(torch.randint(2**62, (), generator=generator))
        # torchvision draws from the process's one random state: by one thread at a time, and it is left as it was.
        with _DRAWING, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = get_model(self._model, weights=None, num_classes=self._classes)
        return torch.cat(
            [(p.T if name in self._dense else p).detach().reshape(-1) for name, p in module.named_parameters()]
        )

    def forward_one(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        return self._call(self._modules.training, parts, self._buffers(images), images)

    def statistics_one(self, parts: Sequence[Tensor], images: Tensor) -> Tensor:
        seen: dict[str, Tensor] = {}

        def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def observe(_: nn.Module, given: tuple[Tensor, ...]) -> None:
                seen[name] = channel_statistics(given[0])

            return observe

        norms = [(name, self._modules.training.get_submodule(name)) for name in self._norms]
        hooks = [module.register_forward_pre_hook(watch(name)) for name, module in norms]
        try:
            self.forward_one(parts, images)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat([seen[name] for name in self._norms])

    def evaluate_one(self, parts: Sequence[Tensor], images: Tensor, statistics: Tensor) -> Tensor:
        return self._call(self._modules.evaluating, parts, self._buffers(images, statistics), images)

    def linear(self, parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
        def affine(own: Sequence[Tensor], images: Tensor) -> Tensor:
            buffers = self._buffers(images)
            for name, norm in self._norms.items():  # with mean 0 and this variance, normalization divides by one
                buffers[f"{name}.running_var"] -= norm.eps
            return self._call(self._modules.evaluating, own, buffers, images)

        return self._one_by_one(affine, parts, inputs)

    def _buffers(self, like: Tensor, statistics: Tensor | None = None) -> dict[str, Tensor]:
        """The buffers of every normalization: statistics (S,), or mean 0 and variance 1."""
        buffers: dict[str, Tensor] = {}
        start = 0
        for name, norm in self._norms.items():
            size = norm.num_features
            if statistics is None:
                mean, variance = like.new_zeros(size), like.new_ones(size)
            else:
                mean, variance = statistics[start : start + 2 * size].chunk(2)
            start += 2 * size
            count = torch.zeros((), dtype=torch.int64, device=like.device)
            buffers |= {f"{name}.running_mean": mean, f"{name}.running_var": variance}
            buffers[f"{name}.num_batches_tracked"] = count
        return buffers

    def _call(
        self, module: nn.Module, parts: Sequence[Tensor], buffers: Mapping[str, Tensor], images: Tensor
    ) -> Tensor:
        named = {
            block.name: part.T if block.name in self._dense else part
            for block, part in zip(self.blocks, parts, strict=True)
        }
        colours = images if images.shape[1] == COLOURS else images.expand(-1, COLOURS, -1, -1)
        return functional_call(module, {**named, **buffers}, (colours,))


def _fan_in(module: nn.Module) -> int:
    """How many numbers one output of a layer is made of; of a normalization, its channels."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight[0].numel() if weight.ndim > 1 else len(weight)
