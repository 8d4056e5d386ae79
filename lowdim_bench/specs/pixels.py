"""Paths on grids of pixels: which are connected to the border, where a predator gets to, and whether a prey can hide.

Larsen & Druckmann 2022, doi 10.1371/journal.pcbi.1010227.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lowdim_bench.specs.base import Spec

PositiveInt = Annotated[int, Field(gt=0)]


class DrawnGrids(Spec):
    """Examples on square grids, drawn from their own digest."""

    longest_path: Annotated[int, Field(ge=1, le=255)]
    train_examples: PositiveInt
    test_examples: PositiveInt
    draw: Annotated[int, Field(ge=0)] = 0
    """Another number draws other data of the same kind."""


class EdgeConnectedPixels(DrawnGrids):
    """Binary images, in which each pixel is labelled that is on and connected to the border through pixels that are on.

    Larsen & Druckmann 2022, task 1. Random walks start at seed pixels; then most border pixels are taken off again, which
    leaves distractors: pixels on, but not connected. The path length of a pixel is the number of pixels on the shortest path
    from the border to it, itself included, and that of an image the longest of them: each of 1..`longest_path` is equally
    frequent. The authors' generator differs in two things: a pixel is a seed with chance 0.05, not 0.054 as here, and to cut
    long paths off it deletes, with probability 1/2 at each of two depths, pixels of the frontier at that depth with chance 0.8,
    where here each border pixel of every image is taken off with that chance.
    """

    kind: Literal["edge_connected_pixels"]
    side: Annotated[int, Field(ge=3, le=64)]

    @property
    def inputs(self) -> int:
        """Numbers that a network sees of one image."""
        return self.side**2

    @property
    def outputs(self) -> int:
        """Labels of one image."""
        return self.side**2


class PredatorRange(DrawnGrids):
    """Arenas, in which each free cell is labelled that one of three predators reaches in at most `longest_path` steps.

    Larsen & Druckmann 2022, task 2, the propagation alone. Two to four rectangles grow at random into obstacles; predators are
    on different free cells, and step up, down, left or right through free ones. Distractors are free cells that they do not
    reach in time. The path length of a cell is the steps that it takes, at least one, and that of an arena the longest of
    them. There is no quota: in hardly any arena of the paper's size are all ways short.
    """

    kind: Literal["predator_range"]
    side: Annotated[int, Field(ge=5, le=64)]

    @property
    def inputs(self) -> int:
        """Numbers that a network sees of one arena: where it is free, and where predators are."""
        return 2 * self.side**2

    @property
    def outputs(self) -> int:
        """Labels of one arena."""
        return self.side**2


class HideOrRun(DrawnGrids):
    """Arenas with three predators, a prey and a cave: the prey is to run to the cave if it gets there first, else to hide.

    Larsen & Druckmann 2022, task 2. Obstacles and steps are those of `PredatorRange`; all five are on different cells. Who gets
    there at the same time as a predator hides; arenas in which nobody gets there are left out. The path length of an arena is
    the steps after which the first one gets there: each of 1..`longest_path` is equally frequent, and so are both answers
    at each of them (the authors let one have up to 55 %, and leave lengths as they come). The labels are two: hide, and run.
    """

    kind: Literal["hide_or_run"]
    side: Annotated[int, Field(ge=5, le=64)]

    @property
    def inputs(self) -> int:
        """Numbers that a network sees of one arena: where it is free, and where predators, prey and cave are."""
        return 4 * self.side**2

    @property
    def outputs(self) -> int:
        """Labels of one arena."""
        return 2


class PixelFeedForward(Spec):
    """`layers` hidden layers of `width` units (as many as pixels where that is null), then one output a label; tanh throughout.

    `input_every`: the image is added, through weights of its own, to every so many-th hidden layer after the first.
    """

    kind: Literal["pixel_feed_forward"]
    layers: Annotated[int, Field(ge=1, le=64)]
    width: PositiveInt | None = None
    activation: Literal["tanh", "relu"] = "tanh"
    input_every: PositiveInt | None = None


class PixelRecurrent(Spec):
    """One unit a pixel: u <- tanh(s * (W u + V x + b)), `steps` times with the same weights, s a trained gain.

    dense: W and V are full, u starts at 0, a dense layer reads it out. square5: W joins pixels at most two rows and two columns
    apart. grid: W joins an inner pixel to its four neighbours, border pixels see the image alone. These two have a diagonal V,
    u starts at -1 and is itself the output; absent connections are no parameters. `layers` feed-forward layers with as many
    units as pixels may stand before (a hybrid). Shared weights are one number however often they are used.
    """

    kind: Literal["pixel_recurrent"]
    connections: Literal["dense", "square5", "grid"]
    steps: Annotated[int, Field(ge=1, le=256)]
    layers: Annotated[int, Field(ge=0, le=16)] = 0


class PixelPropagation(Spec):
    """A tag that spreads from its sources: u <- tanh(s * (o + w (sum of neighbours' u) + a x + b)), `steps` times, from u = o.

    w, a and b are one number a cell, the same for all its neighbours and at every step; s is a trained gain. Sources o are
    where predators are; x says where the arena is free. To hide or to run takes a tag for predators, one for the prey with
    numbers of its own, and four numbers that decide: at every step hide <- sigmoid(p_1 u_cave + q_1 run), from the
    predators' tag at the cave, and then run <- sigmoid(p_2 u_cave + q_2 hide), from that of the prey.
    """

    kind: Literal["pixel_propagation"]
    steps: Annotated[int, Field(ge=1, le=256)]


class PixelLabelling(Spec):
    """Mean squared error of outputs in (-1, 1) against labels of -1 and 1: one a pixel, or two for `hide_or_run`.

    `accuracy` says what train_accuracy and test accuracy are. whole_image: the share of images without a wrong label.
    path_and_distractor: the mean of the shares of path pixels and of distractor pixels that are right; copying the image has
    1/2. The share of path pixels alone would call the copy perfect.
    """

    kind: Literal["pixel_labelling"]
    data: Annotated[EdgeConnectedPixels | PredatorRange | HideOrRun, Field(discriminator="kind")]
    network: Annotated[PixelFeedForward | PixelRecurrent | PixelPropagation, Field(discriminator="kind")]
    accuracy: Literal["whole_image", "path_and_distractor"] = "whole_image"

    @model_validator(mode="after")
    def _network_has_its_sources(self) -> Self:
        edges = isinstance(self.data, EdgeConnectedPixels)
        if isinstance(self.network, PixelRecurrent) and not edges:
            raise ValueError(
                f"pixel_recurrent has no place for who is where in {self.data.kind}: choose pixel_propagation or "
                "pixel_feed_forward"
            )
        if isinstance(self.network, PixelPropagation) and edges:
            raise ValueError(
                f"pixel_propagation spreads from sources, of which {self.data.kind} has none: choose pixel_recurrent or "
                "pixel_feed_forward"
            )
        if self.accuracy == "path_and_distractor" and isinstance(self.data, HideOrRun):
            raise ValueError("hide_or_run labels no pixels: leave accuracy at whole_image")
        return self

    @property
    def sequential_steps(self) -> int:
        """Layers and recurrent steps that have to wait for each other before an image is labelled."""
        network = self.network
        if isinstance(network, PixelFeedForward):
            return network.layers + 1
        if isinstance(network, PixelRecurrent):
            return network.layers + network.steps + (network.connections == "dense")
        # Whether to run waits for whether to hide, and that for whether to run at the step before; the first for a tag.
        return network.steps if isinstance(self.data, PredatorRange) else 1 + 2 * network.steps

    @property
    def multiply_accumulates(self) -> int:
        """Multiplications with a weight that labelling one image takes; a shared weight counts as often as it is used."""
        network, side = self.network, self.data.side
        if isinstance(network, PixelFeedForward):
            width, every = network.width or side**2, network.input_every
            with_image = 1 + ((network.layers - 1) // every if every else 0)
            ends = with_image * self.data.inputs + self.data.outputs
            return ends * width + (network.layers - 1) * width**2
        if isinstance(network, PixelPropagation):
            tag = network.steps * 4 * side * (side - 1) + side**2
            return tag if isinstance(self.data, PredatorRange) else 2 * tag + 4 * network.steps
        before = network.layers * side**4
        if network.connections == "dense":
            return before + (network.steps + 2) * side**4
        joined = {"grid": 4 * (side - 2) ** 2, "square5": (5 * side - 6) ** 2}
        return before + network.steps * joined[network.connections] + side**2
