"""Tampering with files that hold several certificates."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lowdim_bench.tracking import certificate_files
from lowdim_bench.verification import Report
from tests.verification.conftest import Copy, Run

pytestmark = pytest.mark.slow
Verify = Callable[[Run], Report]


def test_an_altered_file_is_named_and_so_is_every_trial_that_loses_its_certificate(copy: Copy, verify: Verify) -> None:
    run = copy["cold"]
    path = run.shared_certificates()
    held = certificate_files.decode(path.name, path.read_bytes())
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    found = {(finding.what, finding.where) for finding in verify(run).findings}
    lost = {("certificate missing", name.rpartition("-")[0]) for name in held}
    assert found == {("certificates unreadable", f"certificates/{path.name}")} | lost


def test_a_lost_file_is_found_by_its_trials(copy: Copy, verify: Verify) -> None:
    run = copy["cold"]
    path = run.shared_certificates()
    held = certificate_files.decode(path.name, path.read_bytes())
    path.unlink()
    found = {(finding.what, finding.where) for finding in verify(run).findings}
    assert found == {("certificate missing", name.rpartition("-")[0]) for name in held}


def test_a_certificate_slipped_in_is_found(copy: Copy, verify: Verify) -> None:
    run = copy["cold"]
    run.share_certificates(lambda held: held.update({"k1-r999-0123456789abcdef.safetensors": min(held.values())}))
    (finding,) = verify(run).findings
    assert (finding.what, finding.where) == ("certificate without success", "k1-r999-0123456789abcdef.safetensors")


def test_a_certificate_exchanged_for_another_is_found(copy: Copy, verify: Verify) -> None:
    run = copy["cold"]

    def exchange(held: dict[str, bytes]) -> None:
        first, second = sorted(held)[:2]
        held[first] = held[second]

    path = run.share_certificates(exchange)
    key = min(certificate_files.decode(path.name, path.read_bytes())).rpartition("-")[0]
    assert {finding.where for finding in verify(run).findings} == {key}


def test_an_untouched_run_has_shared_files_and_passes(copy: Copy, verify: Verify) -> None:
    run = copy["cold"]
    assert run.shared_certificates().exists()
    report = verify(run)
    assert report.findings == ()
    assert report.checked
