"""What is trained: data and network of every kind of problem, and the quadratic wells whose thresholds are known."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lowdim_bench.specs.base import Spec
from lowdim_bench.specs.pixels import PixelLabelling
from lowdim_bench.specs.tensors import TensorDecomposition

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


class BatchNormalization(Spec):
    """Normalization by the mean and variance of each channel over a batch (Ioffe & Szegedy 2015, arXiv 1502.03167).

    Training normalizes each batch by its own statistics. Whatever is evaluated is normalized by those of the first
    `statistics_examples` training examples, taken anew as one batch at the very weights that are evaluated. So a loss is a
    function of the weights alone: no running averages are kept, which would be degrees of freedom that nobody counts.
    """

    kind: Literal["batch"]
    statistics_examples: Annotated[int, Field(ge=2)] = 2048


class ConvNetwork(Spec):
    """For each entry of `channels` a 3 x 3 convolution (same padding, bias), ReLU, 2 x 2 average pooling; then one dense layer.

    (16, 32) is "Conv-2" and (32, 64, 64) "Conv-3" of Larsen et al. 2022; the Conv-2 of Frankle & Carbin is another network.
    With `normalization` each convolution is normalized before its ReLU: scale and shift stand in the place of its bias.
    """

    kind: Literal["convnet"]
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=5)]
    normalization: BatchNormalization | None = None


class ResNetwork(Spec):
    """The residual network of 6n + 2 layers for small images (He et al. 2016, section 4.2), with projection shortcuts.

    Group normalization stands where the original has batch normalization: its affine parameters are as many, and no
    data-dependent running statistics are kept outside the counted degrees of freedom.
    """

    kind: Literal["resnet"]
    blocks_per_group: PositiveInt = 3
    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (16, 32, 64)
    norm_groups: PositiveInt = 8


class TorchvisionNetwork(Spec):
    """A residual network of torchvision (He et al. 2016, section 4.1), unchanged, with its own initialization.

    Its batch normalization is evaluated as `BatchNormalization` says. Grey images are given to it in all three colours.
    """

    kind: Literal["torchvision"]
    model: Literal["resnet18", "resnet34", "resnet50"]
    statistics_examples: Annotated[int, Field(ge=2)] = 2048


Network = Annotated[MlpNetwork | ConvNetwork | ResNetwork | TorchvisionNetwork, Field(discriminator="kind")]


class Classification(Spec):
    """Cross-entropy of a network on labelled examples."""

    kind: Literal["classification"]
    data: Data
    network: Network

    @property
    def normalizes_batches(self) -> bool:
        """Whether the loss of an example depends on the others of its batch."""
        network = self.network
        return isinstance(network, TorchvisionNetwork) or (
            isinstance(network, ConvNetwork) and network.normalization is not None
        )


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


class PlantedPolynomial(Spec):
    """Values of a planted polynomial at x in R^d, where x_0 = 1 and the others are N(0, 1/d); drawn from its own digest.

    Of degree 2 it is x'Ax, A = W' diag(s) W. identity: W = I, s = 1. mixed_signs: W = I, half of s = -1. gaussian: W is d x d
    with N(0, 1/d) entries, s random signs. low_rank: as gaussian, with `rank` rows. random_labels: values N(0, 1) that no
    polynomial gives. Of degree 4 it is s'(W2 V (Wx)^2)^2, squares by coordinate, W2 like W, V Gaussian or the identity.
    """

    planted: Literal["identity", "mixed_signs", "gaussian", "low_rank", "random_labels"]
    degree: Literal[2, 4] = 2
    dimension: Annotated[int, Field(ge=2, le=32)]
    examples: Annotated[int, Field(ge=1, le=100_000)]
    rank: PositiveInt = 2
    draw: Annotated[int, Field(ge=0)] = 0
    """Another number draws other data of the same kind."""


class QuadraticNetwork(Spec):
    """Squared error of a network of quadratic units, above that of the best polynomial.

    Kazemipour, Larsen & Druckmann 2020 (arXiv 2001.00098).
    One quadratic layer is y(x) = sum_k v_k (q_k . x)^2 over `hidden` units. Two of them, with a linear layer between, have
    d * hidden units, `hidden` linear outputs, `hidden` units, one output: y is then of degree 4. The loss is
    mean (y(x) - y)^2 / mean y^2 less its least-squares optimum over all homogeneous polynomials of that degree.
    norm: a multiple of the squared norm of a layer's input is added to each of its outputs, one trained number each.
    orthogonal: penalty * |Q'Q - I|^2 of each layer's q_k is added to what is trained, but not to the loss that counts.
    """

    kind: Literal["quadratic_network"]
    data: PlantedPolynomial
    quadratic_layers: Literal[1, 2] = 1
    hidden: Annotated[int, Field(ge=1, le=512)]
    variant: Literal["plain", "norm", "orthogonal"] = "plain"
    penalty: PositiveFloat = 1.0

    @property
    def loss_multiplications(self) -> int:
        """Of one exact loss over all examples: the coefficients of the network's polynomial, and how far the best ones are."""
        d, hidden = self.data.dimension, self.hidden
        second = d * (d + 1) // 2
        if self.quadratic_layers == 1:
            return hidden * d * d + second**2
        fourth = second * (d + 2) * (d + 3) // 12
        return hidden**2 * d**3 + hidden**2 * second + hidden * second**2 + fourth**2


class BundledText(Spec):
    """A text that comes with the package, in the public domain (`problems/texts` says where from), as characters.

    The last `test_characters` are the test set; training sees the first `train_characters` of the others, or all of them for
    null. The alphabet is that of the whole text.
    """

    kind: Literal["bundled_text"]
    text: Literal["as_you_like_it"]
    train_characters: PositiveInt | None = None
    test_characters: PositiveInt = 12_000


class TransformerNetwork(Spec):
    """A decoder-only transformer (Vaswani et al. 2017; normalization first, as in GPT-2) on `context` characters at a time.

    Learnt embeddings of characters and of positions; in each layer causal attention of `heads` heads and a GELU network of
    4 `width` units, both behind a layer normalization and added to their input; a last layer normalization and a dense layer
    to the alphabet. Biases everywhere, no dropout, nothing tied.
    """

    kind: Literal["transformer"]
    layers: Annotated[int, Field(ge=1, le=48)]
    width: PositiveInt
    heads: PositiveInt
    context: Annotated[int, Field(ge=2, le=1024)]

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self


class NextCharacter(Spec):
    """Mean cross-entropy of predicting each character of a text from those before it, within windows of `context` characters.

    The windows of the training set follow one another without overlap; one window is one example. Accuracy is the share of
    characters that are predicted right.
    """

    kind: Literal["next_character"]
    data: BundledText
    network: TransformerNetwork


Problem = Annotated[
    Classification | QuadraticWell | QuadraticNetwork | PixelLabelling | NextCharacter | TensorDecomposition,
    Field(discriminator="kind"),
]
