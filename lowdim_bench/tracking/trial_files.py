"""Trials as immutable JSON files, named by their content: a torn or altered file is known by its name."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from lowdim_bench.records import TrialResult
from lowdim_bench.specs import Spec, canonical_json

NAME = re.compile(r"round-(\d{4,})-([0-9a-f]{12})\.json")
LARGEST = 64 * 2**20

log = logging.getLogger(__name__)


class _File(Spec):
    format: int = 1
    results: tuple[TrialResult, ...]


def encode(results: Sequence[TrialResult]) -> tuple[str, bytes]:
    """(name, content) of the file for some results: the largest of their rounds, and the hash of the content."""
    plain = {"format": 1, "results": [result.model_dump(mode="json") for result in results]}
    content = canonical_json(plain).encode()
    return f"round-{max(result.trial.round for result in results):04d}-{_hash(content)}.json", content


def decode(files: Mapping[str, bytes], source: str) -> dict[str, tuple[TrialResult, ...]]:
    """Results by file name. What is not as it was written is left out with a warning: its trials will run again."""
    found: dict[str, tuple[TrialResult, ...]] = {}
    for name in sorted(files):
        try:
            found[name] = decode_one(name, files[name])
        except ValueError as error:
            log.warning("%s/%s is left out, and its trials will run again: %s", source, name, error)
    return found


def merge(files: Mapping[str, Sequence[TrialResult]]) -> list[TrialResult]:
    """All results, each trial once: by round, k, replicate.

    A trial that is in several files (a driver died between storing and noting it) counts as it stands in the first of
    them by name, whatever the order in which they were written or read.
    """
    kept: dict[str, TrialResult] = {}
    for name in sorted(files):
        for result in files[name]:
            first = kept.setdefault(result.trial.key, result)
            if (first.status, first.outcomes) != (result.status, result.outcomes):
                log.warning(
                    "Trial %s is stored twice with different outcomes; that of %s is not used.", result.trial.key, name
                )
    return sort(kept.values())


def standing(
    trials: Mapping[str, Sequence[TrialResult]],
    failures: Mapping[str, Sequence[TrialResult]],
    *,
    but_last_round: bool = False,
) -> list[TrialResult]:
    """What every trial came to: its result, or the failure where it has none. `but_last_round`: without failures there."""
    good = merge(trials)
    known = {result.trial.key for result in good}
    failed: dict[str, TrialResult] = {}
    for name in sorted(failures):
        for result in failures[name]:
            failed.setdefault(result.trial.key, result)
    last = max((result.trial.round for result in (*good, *failed.values())), default=0)
    stand = [
        result
        for key, result in failed.items()
        if key not in known and not (but_last_round and result.trial.round == last)
    ]
    return sort([*good, *stand])


def sort(results: Iterable[TrialResult]) -> list[TrialResult]:
    """By round, k, replicate."""
    return sorted(results, key=lambda result: (result.trial.round, result.trial.k, result.trial.replicate))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def decode_one(name: str, content: bytes) -> tuple[TrialResult, ...]:
    """The results of one file. Raises ValueError, with the reason, where it is not as it was written."""
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError("its name is not round-NUMBER-HASH.json")
    if len(content) > LARGEST:
        raise ValueError(f"it has {len(content)} bytes, more than {LARGEST}")
    if _hash(content) != match[2]:
        raise ValueError("its content does not have the hash in its name; it is torn or was altered")
    try:
        return _File.model_validate_json(content).results
    except ValidationError as error:
        raise ValueError(f"it is not a file of trials: {error.errors(include_url=False)[0]['msg']}") from None
