"""What becomes of a verdict: it is kept on the run, goes stale with it, and is what the board and the command say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lowdim_bench import problems
from lowdim_bench.certificates import Certificate
from lowdim_bench.errors import UserError
from lowdim_bench.leaderboard import build_board
from lowdim_bench.methods import FrozenCode, MethodChoice
from lowdim_bench.problems import PartMetrics, Problem, together
from lowdim_bench.records import TrialResult
from lowdim_bench.specs import Task, digest_of
from lowdim_bench.tracking import Store, keys
from lowdim_bench.verification import Report, Verifier
from lowdim_bench.verification.precision import coarsest, on_grid
from tests.verification.conftest import Copy, Run, settings_of

pytestmark = pytest.mark.slow
Verify = Callable[[Run], Report]


def on_the_board(copy: Copy) -> dict[str, str]:
    """What the board says of each run."""
    with Store(settings_of(copy.folder)) as store:
        board = build_board(store.sweeps())
    return {row.run_id: row.verified for row in board.rows}


def test_the_board_shows_verdicts_and_which_are_stale(copy: Copy, verify: Verify) -> None:
    cold, mask, burnt = (copy[name] for name in ("cold", "mask", "burnt"))
    assert set(on_the_board(copy).values()) == {"not yet"}
    mask.set_metric("k_star", 1.0)
    for run in (cold, mask):
        verify(run)
    assert on_the_board(copy) == {cold.run_id: "yes", mask.run_id: "no", burnt.run_id: "not yet"}
    verify(cold)  # changes nothing
    assert on_the_board(copy)[cold.run_id] == "yes"
    cold.edit_trial(cold.key(reached=False), lambda result: result.update(seconds=0.0))
    assert on_the_board(copy)[cold.run_id] == "stale"
    verify(cold)
    assert on_the_board(copy)[cold.run_id] == "yes"
    cold.certificate(cold.key(reached=True)).unlink()
    assert on_the_board(copy)[cold.run_id] == "stale"
    mask.set_tag(keys.VERIFIED, "yes")
    assert on_the_board(copy)[mask.run_id] == "stale"


def test_what_an_earlier_round_left_among_the_metrics_accuses_nobody(below: Run, verify: Verify) -> None:
    assert below.sql("SELECT value FROM latest_metrics WHERE run_uuid = ? AND key = 'k_star'", below.run_id), (
        "no round had an estimate, and this test shows nothing"
    )
    assert verify(below).findings == ()
    below.set_metric("k_star", 7.0)
    assert [(one.what, one.where) for one in verify(below).findings] == [("metric altered", "k_star")]


def test_a_verdict_says_what_was_checked_when_and_where(copy: Copy, verify: Verify) -> None:
    report = verify(copy["cold"])
    verdict = json.loads(copy["cold"].tag(keys.VERIFIED))
    assert (verdict["correct"], verdict["findings"], verdict["certificates"]) == (True, 0, len(report.checked))
    assert verdict["state"] == report.state
    assert verdict["environment"]["torch"] == torch.__version__
    assert verdict["time"].startswith("20")


def test_the_share_is_one_of_processor_time(copy: Copy, verify: Verify) -> None:
    report = verify(copy["cold"])
    recorded = {f"k{one['trial']['k']}-r{one['trial']['replicate']}": one for one in copy["cold"].results()}
    assert all(recorded[one.trial]["cpu_seconds"] == one.training_seconds > 0 for one in report.checked)
    spent = sum(one.cpu_seconds + one.audit_cpu_seconds for one in report.checked)
    trained = [one.training_seconds for one in report.checked]
    assert report.share == pytest.approx(spent / len(trained) / min(trained))
    assert report.share_of_all == pytest.approx(spent / sum(trained))
    copy["cold"].edit_trial(report.checked[0].trial, lambda result: result.update(cpu_seconds=None, seconds=1234.5))
    assert verify(copy["cold"]).checked[0].training_seconds == 1234.5, "of an older version there is no more"


def test_runs_are_named_by_how_they_begin(copy: Copy) -> None:
    store, ids = Store(settings_of(copy.folder)), sorted(run.run_id for run in copy.runs.values())
    assert [one.run_id for one in store.dossiers([ids[0][:8], ids[0]])] == [ids[0]]
    assert sorted(one.run_id for one in store.dossiers()) == ids
    for name, message in (("nothing", "There is no run that begins with 'nothing'"), ("", "There is no run")):
        with pytest.raises(UserError, match=message):
            store.dossiers([name])


def test_an_unfinished_sweep_is_verified_as_far_as_it_is(copy: Copy, verify: Verify) -> None:
    run = copy["cold"]
    for path in (run.folder / "trials").glob("*.json"):
        if not path.name.startswith("round-0000"):
            path.unlink()
    run.part_certificates()
    kept = {result["certificate"] for result in run.results()}
    for path in (run.folder / "certificates").iterdir():
        if not any(digest and digest[:16] in path.name for digest in kept):
            path.unlink()
    run.set_tag(keys.STATUS, "interrupted")
    report = verify(run)
    assert report.findings == ()
    assert report.checked


def test_losses_of_another_machine_are_compared_within_the_tolerance(
    copy: Copy, verify: Verify, problem: Problem
) -> None:
    run, key = copy["cold"], copy["cold"].key(reached=True)

    def elsewhere(said: dict[str, Any], factor: float) -> None:
        said["environment"]["cpu"] = "of another make"
        parts = [PartMetrics(loss * factor, accuracy) for loss, accuracy in said["parts"]]
        said["parts"] = [list(part) for part in parts]
        said["train_loss"] = together(parts, problem.part_sizes).loss

    run.edit_certificate(key, claim=lambda said: elsewhere(said, 1.0005))
    report = verify(run)
    assert report.findings == ()
    assert [one.exact for one in report.checked].count(False) == 1
    run.edit_certificate(key, claim=lambda said: elsewhere(said, 1.002))
    assert [finding.what for finding in verify(run).findings] == ["claimed loss altered"]


def test_any_number_of_threads_gives_the_same(copy: Copy, task: Task) -> None:
    reports = []
    for threads in (1, 3):
        (dossier,) = Store(settings_of(copy.folder)).dossiers([copy["mask"].run_id])
        reports.append(Verifier(settings_of(copy.folder).data_root, "none", threads).verify(dossier))
    one, three = ([(check.trial, check.found_loss) for check in report.checked] for report in reports)
    assert one == three
    assert [report.findings for report in reports] == [(), ()]


def test_code_is_verified_without_being_imported(copy: Copy, verify: Verify) -> None:
    """The run of a submission: its code is data, and raises where it is imported."""
    run = copy["cold"]
    method = MethodChoice(name="mine", code=FrozenCode.of({"method.py": b"raise SystemExit('imported')"}))
    digest = method.method_digest
    (run.folder / keys.METHOD_FILE).write_text(method.model_dump_json())
    report = verify(run)
    assert ("code altered", keys.METHOD_FILE) in [(one.what, one.where) for one in report.findings]
    assert method.code is not None
    named = {"method_digest": digest, "code_digest": digest_of(method.code.identity())}
    for result in run.results():
        if result["certificate"]:
            key = f"k{result['trial']['k']}-r{result['trial']['replicate']}"
            run.edit_certificate(key, claim=lambda said: said.update(named))
    run.set_tag(keys.METHOD, method.name)
    run.set_tag(keys.METHOD_DIGEST, digest)
    run.set_tag(keys.SWEEP, keys.sweep_id(run.tag(keys.TASK_DIGEST), digest))
    run.sql("UPDATE params SET value = 'mine' WHERE run_uuid = ? AND key = 'method'", run.run_id)
    run.set_tag(keys.NOTE, run.tag(keys.NOTE).replace("random_subspace", "mine"))
    report = verify(run)
    assert report.findings == ()
    assert len(report.checked) > 0
    assert "its own word" in report.remarks[-1]
    other = FrozenCode.of({"method.py": b"pass"})
    (run.folder / keys.METHOD_FILE).write_text(MethodChoice(name="mine", code=other).model_dump_json())
    assert "code altered" in [finding.what for finding in verify(run).findings]


def test_the_coarsest_precision_is_found_by_bisection(copy: Copy, task: Task) -> None:
    run = copy["cold"]
    key = run.key(reached=True)
    certificate = Certificate.from_bytes(run.certificate(key).read_bytes())
    problem = problems.build(task, problems.load_arrays(task, settings_of(copy.folder).data_root))
    subspace, target = certificate.subspace(problem), task.ranked_target
    found = coarsest(problem, subspace, certificate.theta, target, key)
    assert found.bits_per_number is not None
    assert 0 < found.bits_per_number < 16
    assert found.bits == found.bits_per_number * len(certificate.theta) + 64

    def meets(bits: int) -> bool:
        weights = subspace.map(on_grid(certificate.theta, bits)).unsqueeze(0)
        return target.reached(problem.train_metrics(weights).value(target, 0))

    assert meets(found.bits_per_number)
    assert not meets(found.bits_per_number - 1)
    assert len(on_grid(certificate.theta, 3).unique()) <= 8
    out_of_reach = target.model_copy(update={"at_most": 1e-9})
    assert coarsest(problem, subspace, certificate.theta, out_of_reach, key).bits is None


def command(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code and output of the command, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from lowdim_bench.cli import main; main()", *arguments],
        env=os.environ | {"LOWDIM_BENCH_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_says_so_in_words_and_in_json(copy: Copy) -> None:
    code, out, err = command(copy.folder, "verify", "--all", "--json")
    assert (code, err) == (0, "")
    runs = json.loads(out)["runs"]
    assert [run["verified"] for run in runs] == ["yes"] * 3
    assert all(run["checked"] and run["precision"][0]["bits"] for run in runs)
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, tensors=lambda held: held["theta"].mul_(3))
    code, out, _ = command(copy.folder, "verify", run.run_id[:8])
    assert code == 1
    assert "NOT VERIFIED" in out
    assert f"theta altered: {key}: loss " in out
    code, _, err = command(copy.folder, "verify")
    assert code == 2
    assert "Say which runs" in err


def test_a_result_from_before_certificates_reads_as_ever() -> None:
    old = {"trial": {"k": 1, "replicate": 0, "round": 0}, "status": "trained"}
    result = TrialResult.from_data(old, "a record")
    assert (result.certificate, result.uncertified) == (None, "")
