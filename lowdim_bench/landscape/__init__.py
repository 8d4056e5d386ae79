"""The geometry of a loss: its curvature at a point and what that predicts of thresholds; its paths, symmetries and starts."""

from lowdim_bench.landscape.connection import LinearConnection, linear_connection, spawned_connections
from lowdim_bench.landscape.curvature import Curvature
from lowdim_bench.landscape.diagnosis import GROUP, Diagnosis, diagnose, diagnose_points, widened
from lowdim_bench.landscape.findings import FEWEST, Finding, Way, median_interval
from lowdim_bench.landscape.functions import Disagreement, cosine, disagreement, kernel_distance, tangent_kernel
from lowdim_bench.landscape.initialization import (
    Goldilocks,
    TransientChaos,
    goldilocks,
    normalized_chaos,
    transient_chaos,
)
from lowdim_bench.landscape.paths import Average, Curve, LinearPath, average, bezier_curve, linear_path, wedge
from lowdim_bench.landscape.planes import success_in_planes
from lowdim_bench.landscape.prediction import Landscape, Prediction, predict, recorded
from lowdim_bench.landscape.strings import String, string
from lowdim_bench.landscape.symmetry import Alignment, Embedding, Merged, align, embed, merge_duplicates

__all__ = [
    "FEWEST",
    "GROUP",
    "Alignment",
    "Average",
    "Curvature",
    "Curve",
    "Diagnosis",
    "Disagreement",
    "Embedding",
    "Finding",
    "Goldilocks",
    "Landscape",
    "LinearConnection",
    "LinearPath",
    "Merged",
    "Prediction",
    "String",
    "TransientChaos",
    "Way",
    "align",
    "average",
    "bezier_curve",
    "cosine",
    "diagnose",
    "diagnose_points",
    "disagreement",
    "embed",
    "goldilocks",
    "kernel_distance",
    "linear_connection",
    "linear_path",
    "median_interval",
    "merge_duplicates",
    "normalized_chaos",
    "predict",
    "recorded",
    "spawned_connections",
    "string",
    "success_in_planes",
    "tangent_kernel",
    "transient_chaos",
    "wedge",
    "widened",
]
