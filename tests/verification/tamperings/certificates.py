"""Certificates that are forged, swapped, torn or lost."""

from __future__ import annotations

from typing import Any

import torch

from tests.verification.conftest import Copy, Run
from tests.verification.tamperings.kinds import Found, Tamperings

TAMPERINGS = Tamperings()


@TAMPERINGS.add
def one_number_of_theta(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, tensors=lambda held: held["theta"][:1].add_(0.5))
    return run, ("theta altered", key)


@TAMPERINGS.add
def theta_by_one_unit_in_the_last_place(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)

    def nudge(held: dict[str, torch.Tensor]) -> None:
        held["theta"] = torch.nextafter(held["theta"], torch.tensor(torch.inf))

    run.edit_certificate(key, tensors=nudge)
    return run, ("claimed loss altered", key)  # so close that the curve cannot tell which of the two it was


@TAMPERINGS.add
def a_lower_loss_claimed(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said.update(train_loss=said["train_loss"] * 0.9))
    return run, ("claimed loss altered", key)


@TAMPERINGS.add
def a_lower_loss_claimed_of_every_part(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)

    def lower(said: dict[str, Any]) -> None:
        said["parts"] = [[0.9 * loss, accuracy] for loss, accuracy in said["parts"]]
        said["train_loss"] *= 0.9

    run.edit_certificate(key, claim=lower)
    return run, ("claimed loss altered", key)


@TAMPERINGS.add
def fewer_parts(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said["parts"].pop())
    return run, ("claimed loss altered", key)


@TAMPERINGS.add
def a_higher_accuracy_claimed(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said.update(train_accuracy=1.0))
    return run, ("claimed accuracy altered", key)


@TAMPERINGS.add
def a_flipped_bit(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    content = bytearray(run.certificate(key).read_bytes())
    content[-1] ^= 1
    run.certificate(key).write_bytes(content)
    return run, ("certificate altered", key)


@TAMPERINGS.add
def a_torn_certificate(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.put_certificate(key, run.certificate(key).read_bytes()[:-4])
    return run, ("certificate unreadable", key)


@TAMPERINGS.add
def a_lost_certificate(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.certificate(key).unlink()
    return run, ("certificate missing", key)


@TAMPERINGS.add
def the_certificate_of_another_trial(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    key, other = run.key(reached=True), run.key(reached=True, which=1)
    run.put_certificate(key, run.certificate(other).read_bytes())
    return run, ("certificate of another trial", key)


@TAMPERINGS.add
def the_certificates_of_another_method(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    better = copy["mask"]
    run.put_certificate(key, better.certificate(better.key(reached=True)).read_bytes())
    return run, ("certificate of another run", key)


@TAMPERINGS.add
def a_certificate_that_nobody_earned(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    name = run.certificate(run.key(reached=True)).name
    stray = f"k1-r999-{name.rpartition('-')[2]}"
    (run.folder / "certificates" / stray).write_bytes((run.folder / "certificates" / name).read_bytes())
    return run, ("certificate without success", stray)


@TAMPERINGS.add
def another_mask(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["mask"], copy["mask"].key(reached=True, which=-1)

    def swap(held: dict[str, torch.Tensor]) -> None:
        places = held["operator.indices"]
        free = next(place for place in range(10_000) if place not in set(places.tolist()))
        held["operator.indices"] = torch.cat([places[1:], torch.tensor([free])]).sort().values

    run.edit_certificate(key, tensors=swap)
    return run, ("theta or operator altered", key)


@TAMPERINGS.add
def another_burnt_in_offset(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["burnt"], copy["burnt"].key(reached=True)
    run.edit_certificate(key, tensors=lambda held: held["offset.values"].mul_(1.05))
    return run, ("theta or offset altered", key)


@TAMPERINGS.add
def another_seed_of_the_basis(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said["operator"].update(seed=7))
    return run, ("theta or operator altered", key)


@TAMPERINGS.add
def another_seed_of_the_trial(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said.update(seed=7))
    return run, ("seed altered", key)


@TAMPERINGS.add
def side_information_for_nothing(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["mask"], copy["mask"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said["audit"].update(side_information_bits=0.0))
    run.edit_trial(key, lambda result: result["audit"].update(side_information_bits=0.0))
    return run, ("audit altered", key)


@TAMPERINGS.add
def fewer_degrees_of_freedom_claimed(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_certificate(key, claim=lambda said: said["audit"].update(measured_k=said["audit"]["measured_k"] - 10))
    run.edit_trial(key, lambda result: result["audit"].update(measured_k=result["audit"]["measured_k"] - 10))
    return run, ("audit altered", key)


@TAMPERINGS.add
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
