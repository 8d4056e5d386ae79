"""Pruning by synaptic flow."""

from __future__ import annotations

from typing import ClassVar, final

from lowdim_bench.methods.drawn_mask import ScopedMask


@final
class SynflowMask(ScopedMask):
    """Scores |w dR/d|w||, R = 1'(prod |W|)1 over layers, on no data; 100 rounds, densities fall geometrically to k / D.

    Biases start at zero, so that they have no flow and with scope "all" go first. Normalization counts as its affine map alone.
    """

    summary: ClassVar[str] = "iterative pruning by synaptic flow at initialization, without data (SynFlow)"
    source: ClassVar[str] = "Tanaka et al. 2020 (arXiv 2006.05467), algorithm 1"
    draw: ClassVar[str] = "synaptic_flow"
