"""Squared error of a network that labels every pixel of an image, or decides between two answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from lowdim_bench.problems.base import Metrics
from lowdim_bench.problems.differentiated import DifferentiatedProblem, alone
from lowdim_bench.problems.networks.base import EVALUATION_EXAMPLES, split
from lowdim_bench.problems.networks.pixels import PixelNetwork, build_pixel_network
from lowdim_bench.specs import Task
from lowdim_bench.specs.pixels import HideOrRun, PixelLabelling


@dataclass(frozen=True)
class PixelErrors:
    """Shares of wrong labels of one parameter vector on a data set."""

    pixels: float
    path: float
    """Of path pixels, which are on and connected, or free and reached; of right answers, that they are not given."""
    distractor: float
    """Of distractor pixels, which are on or free all the same; of wrong answers, that they are given."""
    whole_images: float
    """Of images with a wrong pixel anywhere."""
    by_path_length: dict[int, float]
    """Of images with a wrong pixel, by the images' path length."""
    images: dict[int, int]
    """How many images of each path length there are."""


@final
class PixelProblem(DifferentiatedProblem):
    """Mean squared error of outputs in (-1, 1) against labels of -1 and 1, over images and labels."""

    def __init__(self, task: Task, arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
        spec = task.problem
        assert isinstance(spec, PixelLabelling)
        self._spec = spec
        self.network = build_pixel_network(spec)
        super().__init__(task, self.network.blocks, len(arrays["x_train"]), device)
        self._train, self._test = (
            _Images(spec, arrays[f"x_{part}"], arrays[f"y_{part}"], device) for part in ("train", "test")
        )

    def initial(self, replicate: int) -> Tensor:
        return self.network.initial(self.generator("initial weights", replicate)).to(self.device)

    def losses(self, parts: Sequence[Tensor], examples: Tensor | None) -> Tensor:
        images = self._train.images.unsqueeze(0) if examples is None else self._train.images[examples]
        labels = self._train.labels.unsqueeze(0) if examples is None else self._train.labels[examples]
        return (self.network.forward(parts, images) - labels).square().mean(dim=(1, 2))

    def train_metrics(self, weights: Tensor) -> Metrics:
        loss, wrong = self._look(weights, self._train)
        return Metrics(loss, self._accuracy(wrong, self._train))

    def test_accuracy(self, weights: Tensor) -> Tensor:
        return self._accuracy(self._look(weights, self._test)[1], self._test)

    def test_errors(self, weights: Tensor, network: PixelNetwork | None = None) -> PixelErrors:
        """What goes wrong where, of weights (D,), on the test set; `network`: another one than its own, for the same images."""
        _, wrong = self._look_at_one(weights.unsqueeze(0), self._test, network or self.network)
        data, missed = self._test, wrong.any(dim=1)
        lengths, counts = data.longest.unique(return_counts=True)
        return PixelErrors(
            pixels=float(wrong.double().mean()),
            path=float(wrong[data.path].double().mean()),
            distractor=float(wrong[data.distractor].double().mean()),
            whole_images=float(missed.double().mean()),
            by_path_length={int(length): float(missed[data.longest == length].double().mean()) for length in lengths},
            images=dict(zip(lengths.tolist(), counts.tolist(), strict=True)),
        )

    def _look(self, weights: Tensor, data: _Images) -> tuple[Tensor, Tensor]:
        """Mean squared error (P,), float64, and which pixels are wrong, (P, N, n) bool; on the CPU."""
        looks = [self._look_at_one(row, data, self.network) for row in alone(weights)]
        return torch.stack([loss for loss, _ in looks]), torch.stack([wrong for _, wrong in looks])

    @torch.no_grad()
    def _look_at_one(self, weights: Tensor, data: _Images, network: PixelNetwork) -> tuple[Tensor, Tensor]:
        parts = split(network.blocks, weights)
        loss = torch.zeros((), dtype=torch.float64, device=weights.device)
        wrong: list[Tensor] = []
        for start in range(0, len(data.images), EVALUATION_EXAMPLES):
            labels = data.labels[start : start + EVALUATION_EXAMPLES]
            (outputs,) = network.forward(parts, data.images[start : start + EVALUATION_EXAMPLES].unsqueeze(0))
            loss += (outputs - labels).double().square().sum()
            wrong.append((outputs > 0) != (labels > 0))
        return loss.cpu() / data.labels.numel(), torch.cat(wrong).cpu()

    def _accuracy(self, wrong: Tensor, data: _Images) -> Tensor:
        """Accuracy (P,), float64, as the task defines it, of which pixels are wrong."""
        if self._spec.accuracy == "whole_image":
            return 1 - wrong.any(dim=2).double().mean(dim=1)
        shares = [wrong[:, where].double().mean(dim=1) for where in (data.path, data.distractor)]
        return 1 - (shares[0] + shares[1]) / 2


class _Images:
    """A data set: images (N, inputs) and labels (N, outputs) of -1 and 1 on a device, and what is labelled, on the CPU."""

    def __init__(self, spec: PixelLabelling, images: np.ndarray, path_length: np.ndarray, device: torch.device) -> None:
        self.images = (torch.tensor(images).float() * 2 - 1).to(device)
        self.path = torch.from_numpy(path_length > 0)
        on = np.ones_like(path_length) if isinstance(spec.data, HideOrRun) else images[:, : spec.data.outputs]
        self.distractor = torch.from_numpy((path_length == 0) & (on > 0))
        self.longest = torch.from_numpy(path_length.max(axis=1).astype(np.int64))
        self.labels = (self.path.float() * 2 - 1).to(device)
