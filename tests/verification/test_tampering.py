"""Every planted tampering is found, and named by what it is and where; untouched runs pass.

Who tampers here has every right to the store, and makes all hashes and names of files fit wherever that is possible.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lowdim_bench.certificates import Certificate
from lowdim_bench.problems import PartMetrics, Problem, together
from lowdim_bench.tracking import keys
from lowdim_bench.verification import Report
from tests.verification.conftest import METHODS, Copy, Run
from tests.verification.tamperings import certificates, summaries, trials

pytestmark = pytest.mark.slow
Verify = Callable[[Run], Report]
KINDS = (certificates.TAMPERINGS, trials.TAMPERINGS, summaries.TAMPERINGS)
TAMPERINGS = {name: plant for kind in KINDS for name, plant in kind.items()}


def test_there_are_at_least_twenty() -> None:
    assert len(TAMPERINGS) == sum(map(len, KINDS)) >= 20


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampering_is_found_and_named(name: str, copy: Copy, verify: Verify) -> None:
    run, expected = TAMPERINGS[name](copy)
    report = verify(run)
    assert expected in [(finding.what, finding.where) for finding in report.findings], report.findings
    assert not report.correct
    assert report.verdict == "no"
    for finding in report.findings:
        assert finding.text.startswith(f"{finding.what}: {finding.where}: ")
        assert finding.detail


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_spot_check_finds_it_too(name: str, copy: Copy, spot_check: Verify) -> None:
    """In the same place; what it is called may differ, for the loss on the whole training set is not known."""
    run, (_, where) = TAMPERINGS[name](copy)
    report = spot_check(run)
    assert where in [finding.where for finding in report.findings], report.findings
    assert not report.correct


def test_untouched_runs_pass(copy: Copy, verify: Verify) -> None:
    for name in METHODS:
        report = verify(copy[name])
        assert report.findings == ()
        assert report.verdict == "yes"
        successes = sum(one["outcomes"][-1]["reached"] for one in copy[name].results())
        assert len(report.checked) == successes > 0
        for one in report.checked:
            assert one.exact
            assert one.found_loss == one.claimed_loss


def test_a_loss_altered_for_one_part_shows_where_that_part_is_looked_at(
    copy: Copy, verify: Verify, spot_check: Verify, problem: Problem
) -> None:
    """Two parts of equal size trade some of their losses: the whole stays as it was, up to the last bits."""
    run, key = copy["cold"], copy["cold"].key(reached=True)

    def trade(said: dict[str, Any]) -> None:
        parts = [PartMetrics(*part) for part in said["parts"]]
        parts[0], parts[1] = (
            parts[0]._replace(loss=parts[0].loss + 0.01),
            parts[1]._replace(loss=parts[1].loss - 0.01),
        )
        said["parts"] = [list(part) for part in parts]
        said["train_loss"] = together(parts, problem.part_sizes).loss

    run.edit_certificate(key, claim=trade)
    assert ("claimed loss altered", key) in [(one.what, one.where) for one in verify(run).findings]
    # One of five is drawn: one of these two in 2 of 5 draws, so in 60 draws they show with all but certainty.
    assert any(spot_check(run).findings for _ in range(60))


def test_a_spot_check_clears_nobody_and_an_older_certificate_is_looked_at_whole(
    copy: Copy, verify: Verify, spot_check: Verify, problem: Problem
) -> None:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    report = spot_check(run)
    assert report.findings == ()
    assert {(one.parts_looked_at, one.parts) for one in report.checked} == {(1, 5)}
    assert not run.sql("SELECT * FROM tags WHERE run_uuid = ? AND key = ?", run.run_id, keys.VERIFIED)
    certificate = Certificate.from_bytes(run.certificate(key).read_bytes())
    weights = certificate.subspace(problem).map(certificate.theta)
    whole = float(problem.train_metrics(weights.unsqueeze(0)).loss[0])
    run.edit_certificate(key, claim=lambda said: said.update(parts=[], train_loss=whole))
    for check in (verify, spot_check):
        report = check(run)
        assert report.findings == ()
        assert {one.parts_looked_at for one in report.checked if one.trial == key} == {1}


def test_a_run_that_was_written_anew_passes(copy: Copy, verify: Verify) -> None:
    """The control of the tools above: what they write without changing anything is right."""
    run, key = copy["cold"], copy["cold"].key(reached=True)
    before = json.loads((run.folder / keys.THRESHOLD_FILE).read_text())
    run.edit_certificate(key)
    run.edit_trial(key, lambda result: None)
    run.edit_json(keys.THRESHOLD_FILE, lambda data: data.update(before))
    run.set_tag(keys.METHOD, run.tag(keys.METHOD))
    assert verify(run).findings == ()
