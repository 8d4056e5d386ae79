"""What a tampering is: something planted in a copy of the store, and what has to be found of it."""

from __future__ import annotations

from collections.abc import Callable

from tests.verification.conftest import Copy, Run

Found = tuple[str, str]
"""What is found, and where."""
Tampering = Callable[[Copy], tuple[Run, Found]]
"""Plants something; returns the run and what has to be found in it."""


class Tamperings(dict[str, Tampering]):
    """Ways to tamper, by name."""

    def add(self, plant: Tampering) -> Tampering:
        """Used as a decorator of each of them."""
        self[plant.__name__] = plant
        return plant
