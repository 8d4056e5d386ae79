"""Every planted tampering is found, and named by what it is and where; untouched runs pass.

Who tampers here has every right to the store, and makes all hashes and names of files fit wherever that is possible.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lowdim_bench.certificates import Certificate
from lowdim_bench.problems import PartMetrics, Problem, together
from lowdim_bench.tracking import keys
from lowdim_bench.verification import Report
from tests.verification.conftest import METHODS, Copy, Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Verify = Callable[[Run], Report]
Found = tuple[str, str]
"""What is found, and where."""
TAMPERINGS: dict[str, Callable[[Copy], tuple[Run, Found]]] = {}


def tampering(plant: Callable[[Copy], tuple[Run, Found]]) -> Callable[[Copy], tuple[Run, Found]]:
    """A way to tamper; returns the run and what has to be found in it."""
    TAMPERINGS[plant.__name__] = plant
    return plant


# Certificates


@tampering
def one_number_of_theta(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, tensors=lambda held: held["theta"][:1].add_(0.5))
    return run, ("theta altered", key)


@tampering
def theta_by_one_unit_in_the_last_place(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)

    def nudge(held: dict[str, torch.Tensor]) -> None:
        held["theta"] = torch.nextafter(held["theta"], torch.tensor(torch.inf))

    run.edit_certificate(key, tensors=nudge)
    return run, ("claimed loss altered", key)  # so close that the curve cannot tell which of the two it was


@tampering
def a_lower_loss_claimed(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said.update(train_loss=said["train_loss"] * 0.9))
    return run, ("claimed loss altered", key)


@tampering
def a_lower_loss_claimed_of_every_part(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)

    def lower(said: dict[str, Any]) -> None:
        said["parts"] = [[0.9 * loss, accuracy] for loss, accuracy in said["parts"]]
        said["train_loss"] *= 0.9

    run.edit_certificate(key, claim=lower)
    return run, ("claimed loss altered", key)


@tampering
def fewer_parts(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said["parts"].pop())
    return run, ("claimed loss altered", key)


@tampering
def a_higher_accuracy_claimed(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said.update(train_accuracy=1.0))
    return run, ("claimed accuracy altered", key)


@tampering
def a_flipped_bit(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    content = bytearray(run.certificate(key).read_bytes())
    content[-1] ^= 1
    run.certificate(key).write_bytes(content)
    return run, ("certificate altered", key)


@tampering
def a_torn_certificate(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.put_certificate(key, run.certificate(key).read_bytes()[:-4])
    return run, ("certificate unreadable", key)


@tampering
def a_lost_certificate(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.certificate(key).unlink()
    return run, ("certificate missing", key)


@tampering
def the_certificate_of_another_trial(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    key, other = run.key(reached=True), run.key(reached=True, which=1)
    run.put_certificate(key, run.certificate(other).read_bytes())
    return run, ("certificate of another trial", key)


@tampering
def the_certificates_of_another_method(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    better = copy["mask"]
    run.put_certificate(key, better.certificate(better.key(reached=True)).read_bytes())
    return run, ("certificate of another run", key)


@tampering
def a_certificate_that_nobody_earned(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    name = run.certificate(run.key(reached=True)).name
    stray = f"k1-r999-{name.rpartition('-')[2]}"
    (run.folder / "certificates" / stray).write_bytes((run.folder / "certificates" / name).read_bytes())
    return run, ("certificate without success", stray)


@tampering
def another_mask(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["mask"], copy["mask"].key(reached=True, which=-1)

    def swap(held: dict[str, torch.Tensor]) -> None:
        places = held["operator.indices"]
        free = next(place for place in range(10_000) if place not in set(places.tolist()))
        held["operator.indices"] = torch.cat([places[1:], torch.tensor([free])]).sort().values

    run.edit_certificate(key, tensors=swap)
    return run, ("theta or operator altered", key)


@tampering
def another_burnt_in_offset(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["burnt"], copy["burnt"].key(reached=True)
    run.edit_certificate(key, tensors=lambda held: held["offset.values"].mul_(1.05))
    return run, ("theta or offset altered", key)


@tampering
def another_seed_of_the_basis(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said["operator"].update(seed=7))
    return run, ("theta or operator altered", key)


@tampering
def another_seed_of_the_trial(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said.update(seed=7))
    return run, ("seed altered", key)


@tampering
def side_information_for_nothing(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["mask"], copy["mask"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said["audit"].update(side_information_bits=0.0))
    run.edit_trial(key, lambda result: result["audit"].update(side_information_bits=0.0))
    return run, ("audit altered", key)


@tampering
def fewer_degrees_of_freedom_claimed(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said["audit"].update(measured_k=said["audit"]["measured_k"] - 10))
    run.edit_trial(key, lambda result: result["audit"].update(measured_k=result["audit"]["measured_k"] - 10))
    return run, ("audit altered", key)


@tampering
def a_forged_success(copy: Copy) -> tuple[Run, Found]:
    """A failure is given the outcomes, the curve and a certificate of a success, with a theta of its own."""
    run = copy["cold"]
    key, model = run.key(reached=False), run.key(reached=True)
    said, trial = run.result(model), run.result(key)["trial"]

    def relabel(result: dict[str, Any]) -> None:
        result.update({name: said[name] for name in ("outcomes", "curve", "trained_steps", "futility")})

    run.edit_trial(key, relabel)
    run.put_certificate(key, run.certificate(model).read_bytes())
    audit = run.result(key)["audit"]

    def of_the_failure(claim: dict[str, Any]) -> None:
        other = run.result(key)
        claim.update(trial=trial, audit=audit, learning_rate=other["learning_rate"], preparation=other["preparation"])
        claim["operator"].update(k=trial["k"])

    run.edit_certificate(
        key, claim=of_the_failure, tensors=lambda held: held.update(theta=held["theta"][: trial["k"]].clone())
    )
    return run, ("target not reached", key)


# Trials


@tampering
def an_edited_file_of_trials(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    path = run.file_of(run.key(reached=False))
    path.write_text(path.read_text().replace('"reached":false', '"reached":true'))
    return run, ("trial file altered", f"trials/{path.name}")


@tampering
def a_success_by_word_alone(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=False)
    run.edit_trial(key, lambda result: result["outcomes"][-1].update(reached=True, step=60))
    return run, ("success without certificate", key)


@tampering
def a_success_played_down(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)

    def hide(result: dict[str, Any]) -> None:
        result["outcomes"][-1].update(reached=False, step=None)
        result["certificate"] = None

    run.certificate(key).unlink()
    run.edit_trial(key, hide)
    return run, ("success hidden", key)


@tampering
def a_success_said_not_to_be_confirmed(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    key = run.key(reached=True)

    def hide(result: dict[str, Any]) -> None:
        result["outcomes"][-1].update(reached=False, step=None, unconfirmed=99)
        result.update(certificate=None)

    run.edit_trial(key, hide)
    return run, ("success hidden", key)


@tampering
def a_success_confirmed_later_than_it_was(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    key = run.key(reached=True)

    def delay(result: dict[str, Any]) -> None:
        hit = result["outcomes"][-1]["step"]
        result["curve"].append(result["curve"][-1] | {"step": hit + 20})
        result["outcomes"][-1].update(step=hit + 20, unconfirmed=1)

    run.edit_trial(key, delay)
    return run, ("success hidden", key)


@tampering
def a_success_cut_short(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    key = next(
        key
        for which in range(99)
        if len(run.result(key := run.key(reached=True, which=which))["curve"]) > 1
        and run.result(key)["outcomes"][0]["step"] < run.result(key)["outcomes"][-1]["step"]
    )

    def hide(result: dict[str, Any]) -> None:
        result["outcomes"][-1].update(reached=False, step=None)
        result["certificate"] = None
        del result["curve"][-1]

    run.certificate(key).unlink()
    run.edit_trial(key, hide)
    return run, ("curve altered", key)


@tampering
def a_lower_curve(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_trial(key, lambda result: result["curve"][-1].update(train_loss=0.01))
    return run, ("curve altered", key)


@tampering
def a_lost_failure(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=False)
    run.edit_trials(lambda results: results.remove(run.result(key)), key)
    return run, ("trial missing", key)


@tampering
def a_lost_round(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    last = max(one["trial"]["round"] for one in run.results())
    key = next(
        f"k{one['trial']['k']}-r{one['trial']['replicate']}" for one in run.results() if one["trial"]["round"] == last
    )
    for path in run.folder.glob(f"trials/round-{last:04d}-*.json"):
        path.unlink()
    return run, ("trial missing", key)


@tampering
def one_more_success(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    more = run.result(key) | {"trial": run.result(key)["trial"] | {"replicate": 777}}
    run.edit_trials(lambda results: results.append(more), key)
    return run, ("trial extra", f"{key.partition('-')[0]}-r777")


@tampering
def a_trial_told_twice(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=False)
    again = run.result(key) | {"trained_steps": 1}
    run.write_trials([again], "round-0000")
    return run, ("trial repeated", key)


@tampering
def another_learning_rate(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=False)
    run.edit_trial(key, lambda result: result.update(learning_rate=0.5))
    return run, ("learning rate altered", key)


@tampering
def preparation_for_nothing(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["burnt"], copy["burnt"].key(reached=True)
    run.edit_trial(key, lambda result: result["preparation"].update(gradient_evaluations=0))
    return run, ("preparation altered", key)


# What the board and MLflow's own pages say


@tampering
def a_lower_threshold(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.edit_json(keys.THRESHOLD_FILE, lambda data: data["estimate"].update(k_star=data["estimate"]["k_star"] - 5))
    return run, ("threshold altered", keys.THRESHOLD_FILE)


@tampering
def a_better_ladder(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.edit_json(keys.THRESHOLD_FILE, lambda data: data["ladder"][0].update(k_star=1, low=1, high=1))
    return run, ("threshold altered", keys.THRESHOLD_FILE)


@tampering
def a_lower_metric(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_metric("k_star", 2.0)
    return run, ("metric altered", "k_star")


@tampering
def another_status(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_tag(keys.STATUS, "below_range")
    return run, ("tag altered", keys.STATUS)


@tampering
def another_sentence(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_tag(keys.NOTE, "k* = 1: the best method there is.")
    return run, ("tag altered", keys.NOTE)


@tampering
def a_larger_network(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_tag(keys.FULL_DIMENSION, "1000000")
    return run, ("tag altered", keys.FULL_DIMENSION)


@tampering
def a_narrower_range(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_tag(keys.K_HIGH, "200")
    return run, ("tag altered", keys.K_HIGH)


@tampering
def an_easier_target(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.edit_json(keys.TASK_FILE, lambda data: data["targets"][-1].update(at_most=1.2))
    return run, ("task altered", keys.TASK_FILE)


@tampering
def an_easier_target_with_every_digest(copy: Copy) -> tuple[Run, Found]:
    from lowdim_bench.specs import Task

    run = copy["cold"]
    run.edit_json(keys.TASK_FILE, lambda data: data["targets"][-1].update(at_most=1.2))
    digest = Task.model_validate_json((run.folder / keys.TASK_FILE).read_text()).digest
    run.set_tag(keys.TASK_DIGEST, digest)
    run.set_tag(keys.SWEEP, keys.sweep_id(digest, run.tag(keys.METHOD_DIGEST)))
    return run, ("certificate of another run", run.key(reached=True))


@tampering
def another_method(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.edit_json(keys.METHOD_FILE, lambda data: data.update(parameters={"operator": "gaussian"}))
    return run, ("method altered", keys.METHOD_FILE)


@tampering
def another_name(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_tag(keys.METHOD, "lottery_subspace")
    return run, ("tag altered", keys.METHOD)


@tampering
def another_beginning(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_tag(keys.FIRST_REPLICATE, "5")
    return run, ("tag altered", keys.FIRST_REPLICATE)


def test_there_are_at_least_twenty() -> None:
    assert len(TAMPERINGS) >= 20


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
