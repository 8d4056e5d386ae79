"""Bundled texts as windows of characters."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lowdim_bench.errors import UserError
from lowdim_bench.specs.problem import BundledText, NextCharacter


def text_windows(spec: NextCharacter) -> dict[str, np.ndarray]:
    """x_train, y_train, x_test, y_test (N, context), int64: places of characters in the alphabet, and of those that follow.

    Raises `UserError` where the text is too short for the windows that are asked for.
    """
    text = (Path(__file__).parent / "texts" / f"{spec.data.text}.txt").read_text(encoding="ascii")
    alphabet = {character: place for place, character in enumerate(sorted(set(text)))}
    places = np.array([alphabet[character] for character in text])
    arrays: dict[str, np.ndarray] = {}
    for split, part in zip(("train", "test"), _parts(places, spec.data), strict=True):
        count = (len(part) - 1) // spec.network.context
        if not count:
            raise UserError(
                f"A window takes {spec.network.context + 1} characters, but the {split} set has {len(part)}: give more "
                f"{split}_characters, or a shorter context."
            )
        end = count * spec.network.context
        arrays[f"x_{split}"] = part[:end].reshape(count, -1)
        arrays[f"y_{split}"] = part[1 : end + 1].reshape(count, -1)
    return arrays


def characters(spec: BundledText) -> int:
    """How many different characters the text has."""
    return len(set((Path(__file__).parent / "texts" / f"{spec.text}.txt").read_text(encoding="ascii")))


def _parts(places: np.ndarray, data: BundledText) -> tuple[np.ndarray, np.ndarray]:
    """Training and test characters."""
    rest = len(places) - data.test_characters
    asked = rest if data.train_characters is None else data.train_characters
    if rest < 1 or asked > rest:
        raise UserError(
            f"{data.text} has {len(places):,} characters; {data.test_characters:,} for the test set and {asked:,} for "
            "training are more than there are."
        )
    return places[:asked], places[rest:]
