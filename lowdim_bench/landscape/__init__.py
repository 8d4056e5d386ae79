"""The geometry of a loss: its curvature at a point and what that predicts of thresholds, its paths and its symmetries."""

from lowdim_bench.landscape.curvature import Curvature
from lowdim_bench.landscape.paths import Average, Curve, LinearPath, average, bezier_curve, linear_path, wedge
from lowdim_bench.landscape.prediction import Landscape, Prediction, predict
from lowdim_bench.landscape.symmetry import Alignment, Embedding, Merged, align, embed, merge_duplicates

__all__ = [
    "Alignment",
    "Average",
    "Curvature",
    "Curve",
    "Embedding",
    "Landscape",
    "LinearPath",
    "Merged",
    "Prediction",
    "align",
    "average",
    "bezier_curve",
    "embed",
    "linear_path",
    "merge_duplicates",
    "predict",
    "wedge",
]
