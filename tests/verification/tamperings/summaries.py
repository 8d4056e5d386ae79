"""What the board and MLflow's own pages say of a run, and the task and method that it names."""

from __future__ import annotations

from lowdim_bench.specs import Task
from lowdim_bench.tracking import keys
from tests.verification.conftest import Copy, Run
from tests.verification.tamperings.kinds import Found, Tamperings

TAMPERINGS = Tamperings()


@TAMPERINGS.add
def a_lower_threshold(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.edit_json(keys.THRESHOLD_FILE, lambda data: data["estimate"].update(k_star=data["estimate"]["k_star"] - 5))
    return run, ("threshold altered", keys.THRESHOLD_FILE)


@TAMPERINGS.add
def a_better_ladder(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.edit_json(keys.THRESHOLD_FILE, lambda data: data["ladder"][0].update(k_star=1, low=1, high=1))
    return run, ("threshold altered", keys.THRESHOLD_FILE)


@TAMPERINGS.add
def a_lower_metric(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_metric("k_star", 2.0)
    return run, ("metric altered", "k_star")


@TAMPERINGS.add
def another_status(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_tag(keys.STATUS, "below_range")
    return run, ("tag altered", keys.STATUS)


@TAMPERINGS.add
def another_sentence(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_tag(keys.NOTE, "k* = 1: the best method there is.")
    return run, ("tag altered", keys.NOTE)


@TAMPERINGS.add
def a_larger_network(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_tag(keys.FULL_DIMENSION, "1000000")
    return run, ("tag altered", keys.FULL_DIMENSION)


@TAMPERINGS.add
def a_narrower_range(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_tag(keys.K_HIGH, "200")
    return run, ("tag altered", keys.K_HIGH)


@TAMPERINGS.add
def an_easier_target(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.edit_json(keys.TASK_FILE, lambda data: data["targets"][-1].update(at_most=1.2))
    return run, ("task altered", keys.TASK_FILE)


@TAMPERINGS.add
def an_easier_target_with_every_digest(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.edit_json(keys.TASK_FILE, lambda data: data["targets"][-1].update(at_most=1.2))
    digest = Task.model_validate_json((run.folder / keys.TASK_FILE).read_text()).digest
    run.set_tag(keys.TASK_DIGEST, digest)
    run.set_tag(keys.SWEEP, keys.sweep_id(digest, run.tag(keys.METHOD_DIGEST)))
    return run, ("certificate of another run", run.key(reached=True))


@TAMPERINGS.add
def another_method(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.edit_json(keys.METHOD_FILE, lambda data: data.update(parameters={"operator": "gaussian"}))
    return run, ("method altered", keys.METHOD_FILE)


@TAMPERINGS.add
def another_name(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_tag(keys.METHOD, "lottery_subspace")
    return run, ("tag altered", keys.METHOD)


@TAMPERINGS.add
def another_beginning(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    run.set_tag(keys.FIRST_REPLICATE, "5")
    return run, ("tag altered", keys.FIRST_REPLICATE)
