"""Certificates lie beside the trials that name them, and are there first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from lowdim_bench.records import TrialResult
from lowdim_bench.tracking import Store, SweepLog, keys

CONTENT = b"a certificate"
NAME = hashlib.sha256(CONTENT).hexdigest()
FILE = f"k40-r0-{NAME[:16]}.safetensors"
Make = Callable[..., TrialResult]


def held(store: Store) -> tuple[dict[str, bytes], set[str]]:
    """The certificates of the one run, and the names of its files of trials."""
    (dossier,) = store.dossiers()
    with dossier.fetched() as contents:
        return contents.folder(keys.CERTIFICATES), contents.names(keys.TRIALS)


def test_a_certificate_is_kept_once_however_often_it_comes(
    store: Store, open_sweep: Callable[[], SweepLog], result: Make
) -> None:
    certified = result(40, certificate=NAME)
    with open_sweep() as log:
        for _ in range(2):
            log.append([certified, result(20, 1, reached=False)], {NAME: CONTENT, "0" * 64: b"of nobody"})
        assert [one.certificate for one in log.results()] == [None, NAME]
    certificates, trials = held(store)
    assert certificates == {FILE: CONTENT}
    assert len(trials) == 1


def test_no_trial_is_recorded_without_the_certificate_that_it_names(
    store: Store, open_sweep: Callable[[], SweepLog], result: Make
) -> None:
    with open_sweep() as log:
        with pytest.raises(KeyError, match=NAME):
            log.append([result(40, certificate=NAME)], {})
        assert log.results() == []
    assert held(store) == ({}, set())


def test_the_certificate_is_stored_before_the_trial(
    open_sweep: Callable[[], SweepLog], result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lowdim_bench.tracking.connection import Connection

    folders: list[str] = []
    monkeypatch.setattr(Connection, "upload", lambda self, run_id, folder, files: folders.append(folder))
    with open_sweep() as log:
        log.append([result(40, certificate=NAME)], {NAME: CONTENT})
    assert folders[-2:] == [keys.CERTIFICATES, keys.TRIALS]
