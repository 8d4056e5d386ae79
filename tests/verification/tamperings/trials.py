"""Trials whose records are edited, added or lost."""

from __future__ import annotations

from typing import Any

from tests.verification.conftest import Copy, Run
from tests.verification.tamperings.kinds import Found, Tamperings

TAMPERINGS = Tamperings()


@TAMPERINGS.add
def an_edited_file_of_trials(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    path = run.file_of(run.key(reached=False))
    path.write_text(path.read_text().replace('"reached":false', '"reached":true'))
    return run, ("trial file altered", f"trials/{path.name}")


@TAMPERINGS.add
def a_success_by_word_alone(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=False)
    run.edit_trial(key, lambda result: result["outcomes"][-1].update(reached=True, step=60))
    return run, ("success without certificate", key)


@TAMPERINGS.add
def a_success_played_down(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)

    def hide(result: dict[str, Any]) -> None:
        result["outcomes"][-1].update(reached=False, step=None)
        result["certificate"] = None

    run.certificate(key).unlink()
    run.edit_trial(key, hide)
    return run, ("success hidden", key)


@TAMPERINGS.add
def a_success_said_not_to_be_confirmed(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    key = run.key(reached=True)

    def hide(result: dict[str, Any]) -> None:
        result["outcomes"][-1].update(reached=False, step=None, unconfirmed=99)
        result.update(certificate=None)

    run.edit_trial(key, hide)
    return run, ("success hidden", key)


@TAMPERINGS.add
def a_success_confirmed_later_than_it_was(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    key = run.key(reached=True)

    def delay(result: dict[str, Any]) -> None:
        hit = result["outcomes"][-1]["step"]
        result["curve"].append(result["curve"][-1] | {"step": hit + 20})
        result["outcomes"][-1].update(step=hit + 20, unconfirmed=1)

    run.edit_trial(key, delay)
    return run, ("success hidden", key)


@TAMPERINGS.add
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


@TAMPERINGS.add
def a_lower_curve(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    run.edit_trial(key, lambda result: result["curve"][-1].update(train_loss=0.01))
    return run, ("curve altered", key)


@TAMPERINGS.add
def a_lost_failure(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=False)
    run.edit_trials(lambda results: results.remove(run.result(key)), key)
    return run, ("trial missing", key)


@TAMPERINGS.add
def a_lost_round(copy: Copy) -> tuple[Run, Found]:
    run = copy["cold"]
    last = max(one["trial"]["round"] for one in run.results())
    key = next(
        f"k{one['trial']['k']}-r{one['trial']['replicate']}" for one in run.results() if one["trial"]["round"] == last
    )
    for path in run.folder.glob(f"trials/round-{last:04d}-*.json"):
        path.unlink()
    return run, ("trial missing", key)


@TAMPERINGS.add
def one_more_success(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=True)
    more = run.result(key) | {"trial": run.result(key)["trial"] | {"replicate": 777}}
    run.edit_trials(lambda results: results.append(more), key)
    return run, ("trial extra", f"{key.partition('-')[0]}-r777")


@TAMPERINGS.add
def a_trial_told_twice(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=False)
    again = run.result(key) | {"trained_steps": 1}
    run.write_trials([again], "round-0000")
    return run, ("trial repeated", key)


@TAMPERINGS.add
def another_learning_rate(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["cold"], copy["cold"].key(reached=False)
    run.edit_trial(key, lambda result: result.update(learning_rate=0.5))
    return run, ("learning rate altered", key)


@TAMPERINGS.add
def preparation_for_nothing(copy: Copy) -> tuple[Run, Found]:
    run, key = copy["burnt"], copy["burnt"].key(reached=True)
    run.edit_trial(key, lambda result: result["preparation"].update(gradient_evaluations=0))
    return run, ("preparation altered", key)
