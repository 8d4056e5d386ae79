"""Play a step back as one launch: on a GPU, small networks wait for launches far longer than for arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP = 11
"""Steps run one operation at a time before the recording: libraries set themselves up in the first few, and a pack that loses
rows sooner than this is not worth a recording."""


class Player:
    """Runs a step that reads and writes the same tensors every time; on CUDA, from a recording (CUDA graph) after a while."""

    def __init__(self, step: Callable[[], None], device: torch.device, *, recorded: bool = True) -> None:
        """`recorded`: whether a recording of one step stands for all of them."""
        self._step = step
        self._cuda = device.type == "cuda" and recorded
        self._ran = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> bool:
        """Take one step. Returns whether Python ran it: False where it was only played back."""
        if not self._cuda:
            self._step()
            return True
        if self._graph is not None:
            self._graph.replay()
            return False
        if self._ran < WARM_UP:
            self._warm_up()
        else:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._step()  # recorded, not run
            self._graph.replay()
        self._ran += 1
        return True

    def _warm_up(self) -> None:
        """One step on a stream of its own, as recording will be."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self._step()
        torch.cuda.current_stream().wait_stream(aside)
