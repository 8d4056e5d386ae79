"""Figures, each drawn once: as SVG and PNG for papers and runs, and as the same specification for pages and notebooks."""

from lowdim_bench.figures.board import Profile, Threshold, pareto, performance_profiles, thresholds, win_matrix
from lowdim_bench.figures.burn_in import Cell, threshold_surface
from lowdim_bench.figures.claims import Decided, claim
from lowdim_bench.figures.numbers import Measured, diagnostic
from lowdim_bench.figures.paths import Line
from lowdim_bench.figures.settings import Setting, parameter
from lowdim_bench.figures.style import Figure, data, render
from lowdim_bench.figures.sweep import Fit, Point, Surface, phase_transition, success_surface, wilson

__all__ = [
    "Cell",
    "Decided",
    "Figure",
    "Fit",
    "Line",
    "Measured",
    "Point",
    "Profile",
    "Setting",
    "Surface",
    "Threshold",
    "claim",
    "data",
    "diagnostic",
    "parameter",
    "pareto",
    "performance_profiles",
    "phase_transition",
    "render",
    "success_surface",
    "threshold_surface",
    "thresholds",
    "wilson",
    "win_matrix",
]
