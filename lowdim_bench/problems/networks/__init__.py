"""Networks as functions of flat parameter vectors, for a whole pack of parameter vectors at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lowdim_bench.errors import UserError
from lowdim_bench.problems.networks.base import Block, PackedNetwork, cross_entropy, neuron_counts
from lowdim_bench.problems.networks.batch_normalized import BatchNormalizedConvNet
from lowdim_bench.problems.networks.convolutional import ConvNet, ResNet
from lowdim_bench.problems.networks.mlp import Mlp
from lowdim_bench.specs.problem import ConvNetwork, MlpNetwork, Network, TorchvisionNetwork

__all__ = [
    "BatchNormalizedConvNet",
    "Block",
    "ConvNet",
    "Mlp",
    "PackedNetwork",
    "ResNet",
    "build_network",
    "cross_entropy",
    "neuron_counts",
]


def build_network(spec: Network, example_shape: Sequence[int], classes: int) -> PackedNetwork:
    """The network for examples of a shape (features,) or (channels, height, width). Raises `UserError` on a misfit."""
    if isinstance(spec, MlpNetwork):
        return Mlp(math.prod(example_shape), spec.hidden, classes)
    if len(example_shape) != 3:
        raise UserError(
            f"A {spec.kind} needs images (channels, height, width); the data has shape {tuple(example_shape)}."
        )
    image = (example_shape[0], example_shape[1], example_shape[2])
    if isinstance(spec, ConvNetwork):
        if min(image[1:]) < 2 ** len(spec.channels):
            raise UserError(
                f"{len(spec.channels)} poolings need images of at least {2 ** len(spec.channels)} pixels a side."
            )
        if spec.normalization is not None:
            return BatchNormalizedConvNet(image, spec, classes)
        return ConvNet(image, spec.channels, classes)
    if isinstance(spec, TorchvisionNetwork):
        from lowdim_bench.problems.networks.torchvision_models import COLOURS, TorchvisionModel  # slow to import

        if image[0] not in {1, COLOURS}:
            raise UserError(f"{spec.model} takes images of 1 or {COLOURS} channels; the data has {image[0]}.")
        return TorchvisionModel(spec, classes)
    if any(width % spec.norm_groups for width in spec.widths):
        raise UserError(f"norm_groups ({spec.norm_groups}) must divide every width of {spec.widths}.")
    return ResNet(image, spec, classes)
