"""What is trained: data, network, and the quadratic wells whose thresholds are known."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lowdim_bench.specs.base import Spec

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class DigitsData(Spec):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels; they come with the package."""

    kind: Literal["sklearn_digits"]
    test_examples: Annotated[int, Field(ge=1, le=1000)] = 360


class TorchvisionData(Spec):
    """A data set that torchvision downloads and checks. `train_examples` keeps only the first n of its training set."""

    kind: Literal["torchvision"]
    dataset: Literal["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"]
    train_examples: PositiveInt | None = None


class ArraysData(Spec):
    """Your own arrays: an .npz with x_train, y_train, x_test, y_test (images as N x H x W [x C] or N x features).

    `path` is absolute or relative to the data root; `sha256` of the file is what identifies the data.
    """

    not_identity: ClassVar[frozenset[str]] = frozenset({"path"})

    kind: Literal["arrays"]
    path: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    train_examples: PositiveInt | None = None


Data = Annotated[DigitsData | TorchvisionData | ArraysData, Field(discriminator="kind")]


class MlpNetwork(Spec):
    """Fully connected layers with ReLU between them, biases included."""

    kind: Literal["mlp"]
    hidden: Annotated[tuple[PositiveInt, ...], Field(max_length=64)] = ()


class ConvNetwork(Spec):
    """For each entry of `channels` a 3 x 3 convolution (same padding, bias), ReLU, 2 x 2 average pooling; then one dense layer.

    (16, 32) is "Conv-2" and (32, 64, 64) "Conv-3" of Larsen et al. 2022; the Conv-2 of Frankle & Carbin is another network.
    """

    kind: Literal["convnet"]
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=5)]


class ResNetwork(Spec):
    """The residual network of 6n + 2 layers for small images (He et al. 2016, section 4.2), with projection shortcuts.

    Group normalization stands where the original has batch normalization: its affine parameters are as many, and no
    data-dependent running statistics are kept outside the counted degrees of freedom.
    """

    kind: Literal["resnet"]
    blocks_per_group: PositiveInt = 3
    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (16, 32, 64)
    norm_groups: PositiveInt = 8


Network = Annotated[MlpNetwork | ConvNetwork | ResNetwork, Field(discriminator="kind")]


class Classification(Spec):
    """Cross-entropy of a network on labelled examples."""

    kind: Literal["classification"]
    data: Data
    network: Network


class PowerSpectrum(Spec):
    """Eigenvalues i ** -exponent for i = 1..D; exponent 0 is the isotropic well."""

    kind: Literal["power"]
    exponent: Annotated[float, Field(ge=0, le=4)]


class TwoLevelSpectrum(Spec):
    """`high_count` eigenvalues at 1, the others at `low`."""

    kind: Literal["two_level"]
    high_count: PositiveInt
    low: PositiveFloat


class LognormalSpectrum(Spec):
    """Eigenvalues exp(sigma * z) at the D mid-point quantiles z of the standard normal distribution."""

    kind: Literal["lognormal"]
    sigma: PositiveFloat


Spectrum = Annotated[PowerSpectrum | TwoLevelSpectrum | LognormalSpectrum, Field(discriminator="kind")]


class QuadraticWell(Spec):
    """L(w) = w'Hw / (mean eigenvalue), with a given spectrum in a random eigenbasis, from a random direction.

    Initial weights are scaled so that the loss starts at radius ** 2; with radius 1, targets are fractions of it.
    """

    kind: Literal["quadratic_well"]
    dimension: Annotated[int, Field(ge=2, le=4096)]
    spectrum: Spectrum
    radius: PositiveFloat = 1.0


Problem = Annotated[Classification | QuadraticWell, Field(discriminator="kind")]
