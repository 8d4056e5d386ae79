"""Sweeps in a real MLflow store on SQLite: what goes in comes out, whatever happens in between."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.methods import FrozenCode, MethodChoice
from lowdim_bench.records import Estimate, PredictedThreshold, Predictions, Spread, TrialResult
from lowdim_bench.settings import Settings
from lowdim_bench.specs import Task
from lowdim_bench.tracking import Store, SweepLog, keys
from lowdim_bench.tracking.connection import StoredRun

pytestmark = pytest.mark.slow

Make = Callable[..., TrialResult]
Open = Callable[[], SweepLog]


def files_of(store: Store, log: SweepLog) -> Path:
    location = store._settings.artifact_location
    assert location is not None
    return Path(store._settings.sqlite_path or "").parent / "mlartifacts" / log.run_id / "artifacts"


def history(store: Store, log: SweepLog, name: str) -> dict[int, float]:
    """Steps and values of a metric, each of which must have been written once."""
    found = store._connection._client.get_metric_history(log.run_id, name)
    assert len({point.step for point in found}) == len(found)
    return {point.step: point.value for point in found}


def test_a_reopened_sweep_has_the_same_results(open_sweep: Open, result: Make) -> None:
    with open_sweep() as log:
        assert log.results() == []
        log.append([result(64, 0), result(8, 0, reached=False)])
        log.append([result(16, 1, in_round=1)])
        before = log.results()
    assert [(one.trial.round, one.trial.k) for one in before] == [(0, 8), (0, 64), (1, 16)]
    with open_sweep() as log:
        assert log.results() == before


def test_a_sweep_is_one_run_whose_tags_and_parameters_say_what_it_is(
    store: Store, open_sweep: Open, task: Task, method: MethodChoice
) -> None:
    with open_sweep() as first, pytest.raises(UserError):
        open_sweep()
    with open_sweep() as second:
        run = store._connection.run(second.run_id)
    assert second.run_id == first.run_id
    assert run.tags["lowdim.task"] == "digits-mlp"
    assert run.tags["lowdim.task_digest"] == task.digest
    assert run.tags["lowdim.method"] == "random_subspace"
    assert run.tags["lowdim.method_digest"] == method.method_digest
    assert run.tags["lowdim.track"] == task.track
    assert run.params["target"] == task.ranked_target.name
    assert run.params["network.hidden"] == "[32]"
    assert run.params["data"] == "sklearn_digits"
    inputs = store._connection._client.get_run(second.run_id).inputs
    assert inputs is not None
    assert [given.dataset.name for given in inputs.dataset_inputs] == ["sklearn_digits"]


def test_a_task_that_differs_in_its_description_alone_is_the_same_sweep(
    store: Store, open_sweep: Open, task: Task, method: MethodChoice
) -> None:
    with open_sweep() as log:
        run_id = log.run_id
    same = task.model_copy(update={"description": "other words"})
    with store.open_sweep(same, method, (1, 2048), 2410) as log:
        assert log.run_id == run_id
    other = MethodChoice(name="burn_in_subspace")
    with store.open_sweep(task, other, (1, 2048), 2410) as log:
        assert log.run_id != run_id


def test_replicates_of_submitted_code_begin_where_nobody_could_know_beforehand(store: Store, task: Task) -> None:
    choices = [
        MethodChoice(name="mine", code=FrozenCode.of({"method.py": f"version = {version}".encode()}))
        for version in (1, 2)
    ]
    firsts: list[int] = []
    for choice in choices:
        for _ in range(2):
            with store.open_sweep(task, choice, (1, 2048), 2410) as log:
                firsts.append(log.first_replicate)
    assert firsts[0] == firsts[1] != firsts[2] == firsts[3]  # drawn once for each frozen code, and kept
    assert all(first > 1000 for first in firsts)
    assert [sweep.first_replicate for sweep in store.sweeps()] == [firsts[0], firsts[2]]


def test_drivers_that_begin_at_once_find_the_same_replicates(
    store: Store, settings: Settings, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = MethodChoice(name="mine", code=FrozenCode.of({"method.py": b"pass"}))
    with store.open_sweep(task, choice, (1, 2048), 2410) as log:
        run_id, first = log.run_id, log.first_replicate
    found = Store._find

    def before_any_was_written(self: Store, sweep: str) -> StoredRun | None:
        run = found(self, sweep)
        assert run is not None
        return replace(run, tags={name: run.tags[name] for name in run.tags if name != keys.FIRST_REPLICATE})

    monkeypatch.setattr(Store, "_find", before_any_was_written)
    with Store(settings).open_sweep(task, choice, (1, 2048), 2410) as other:
        assert (other.run_id, other.first_replicate) == (run_id, first)


def test_a_sweep_whose_range_is_not_told_is_kept_and_readable(store: Store, task: Task) -> None:
    choice = MethodChoice(name="random_subspace")
    with store.open_sweep(task, choice, None, 2410) as log:
        log.fail("no range")
    (sweep,) = store.sweeps()
    assert (sweep.status, sweep.failure, sweep.k_low, sweep.k_high) == ("failed", "no range", 1, 2410)
    with store.open_sweep(task, choice, (2, 2048), 2410):
        pass
    with store.open_sweep(task, choice, None, 2410):
        pass
    (sweep,) = store.sweeps()
    assert (sweep.k_low, sweep.k_high) == (2, 2048), "what a method told once stands"


def test_replicates_of_what_ships_begin_at_zero_so_that_all_are_paired(open_sweep: Open) -> None:
    with open_sweep() as log:
        assert log.first_replicate == 0


def test_torn_altered_and_foreign_files_are_left_out_by_name(
    store: Store, open_sweep: Open, result: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with open_sweep() as log:
        for k in (2, 4, 8):
            log.append([result(k, in_round=k)])
    folder = files_of(store, log) / "trials"
    torn, altered, _ = sorted(folder.iterdir())
    torn.write_bytes(torn.read_bytes()[:100])
    altered.write_text(altered.read_text().replace('"reached":true', '"reached":false'))
    (folder / "notes.json").write_text("{}")
    with caplog.at_level(logging.WARNING), open_sweep() as log:
        assert [one.trial.k for one in log.results()] == [8]
    for path in (torn, altered, folder / "notes.json"):
        assert path.name in caplog.text


def test_a_trial_that_is_stored_twice_counts_once(open_sweep: Open, result: Make) -> None:
    with open_sweep() as log:
        log.append([result(8, seconds=1.0), result(9)])
        log.append([result(8, seconds=2.0), result(10)])
        before = log.results()
        assert [one.trial.k for one in before] == [8, 9, 10]
    with open_sweep() as log:
        assert log.results() == before, "which of the two counts does not depend on the order of writing"


def test_failed_trials_are_results_too_and_do_not_run_again(store: Store, open_sweep: Open, result: Make) -> None:
    failed = result(8, status="failed", reason="the mask has 9 ones", outcomes=(), audit=None)
    with open_sweep() as log:
        log.append([failed, result(9)])
        log.append([])
    with open_sweep() as log:
        assert log.results() == [failed, result(9)]
        assert log.failures() == [failed]
    (stored,) = store.sweeps()
    assert stored.results == (failed, result(9))


def test_where_the_sweep_failed_the_failures_of_its_last_round_run_once_more(
    store: Store, open_sweep: Open, result: Make
) -> None:
    def failed(k: int, in_round: int, reason: str) -> TrialResult:
        return result(k, in_round=in_round, status="failed", reason=reason, outcomes=(), audit=None)

    early, late, other = failed(8, 0, "no memory"), failed(9, 1, "no GPU"), failed(10, 1, "no GPU")
    with open_sweep() as log:
        log.append([early, result(7)])
        log.append([late, other])
        log.fail("most fail")
    assert store.sweeps()[0].results == (result(7),), "without a threshold, failures say nothing of k"
    with open_sweep() as log:
        assert log.results() == [result(7), early], "round 1 was planned on what failed in round 0"
        again = failed(10, 1, "still no GPU")
        log.append([result(9, in_round=1), again])
        assert {one.trial.k: one.status for one in log.results()} == {
            7: "trained",
            8: "failed",
            9: "trained",
            10: "failed",
        }
        assert log.failures() == [early, late, *sorted([other, again], key=log.failures().index)], "all stay on record"
    with open_sweep() as log:
        assert [one.trial.k for one in log.results()] == [7, 8, 9, 10]


def test_finishing_records_the_result_and_doing_so_again_changes_nothing(
    store: Store, open_sweep: Open, result: Make, found: Estimate, curve: tuple[np.ndarray, np.ndarray]
) -> None:
    def finish() -> SweepLog:
        with open_sweep() as log:
            log.log_progress(found, 16, 2)
            log.finish(found, [found, found], *curve)
            log.finish(found, [found, found], *curve)
            return log

    with open_sweep() as log:
        log.append([result(30, replicate, reached=replicate < 2) for replicate in range(8)])
        log.append([result(50, replicate, in_round=1, reached=replicate < 7) for replicate in range(8)])
    log = finish()
    folder = files_of(store, log)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    finish()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before

    assert history(store, log, "success_probability") == {30: 2 / 8, 50: 7 / 8}
    assert history(store, log, "success_probability_fit") == {10: 0.05, 30: 0.2, 50: 0.5, 90: 0.95}
    assert history(store, log, "parameter_efficiency") == {1: 2410 / 50}
    assert history(store, log, "side_information_bits") == {1: 100.0}
    assert history(store, log, "preparation_gradient_evaluations") == {1: 50.0}
    assert history(store, log, "hits") == {1: 9.0}
    run = store._connection.run(log.run_id)
    assert (run.status, run.tags["lowdim.status"]) == ("FINISHED", "found")
    assert run.tags["mlflow.note.content"].startswith("k* = 50 (95 % interval 46 to 54): the fewest trained numbers")
    record = json.loads((folder / "threshold.json").read_text())
    assert record["counts"] == [{"k": 30, "hits": 2, "trials": 8}, {"k": 50, "hits": 7, "trials": 8}]
    assert record["fit"]["k"] == [10, 30, 50, 90]
    assert Estimate.model_validate_json(json.dumps(record["estimate"])) == found
    assert (folder / "phase_transition.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "phase_transition.svg").read_text()


def test_a_driver_that_died_while_finishing_leaves_no_double_points(
    store: Store,
    open_sweep: Open,
    result: Make,
    found: Estimate,
    curve: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Death(Exception):
        pass

    def die(*_: object) -> None:
        raise Death

    with open_sweep() as log:
        log.append([result(30)])
        with monkeypatch.context() as patch:
            patch.setattr(store._connection, "upload", die)
            with pytest.raises(Death):
                log.finish(found, [found], *curve)
    with open_sweep() as log:
        log.finish(found, [found], *curve)
        assert history(store, log, "success_probability") == {30: 1.0}
        assert log.status == "found"


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_a_finite_number_never_becomes_a_metric(
    store: Store, open_sweep: Open, value: float | None
) -> None:
    from lowdim_bench.tracking.connection import Point

    with open_sweep() as log:
        store._connection.write(log.run_id, points=[Point("bad", value), Point("good", 1.0)])
        metrics = store._connection._client.get_run(log.run_id).data.metrics
    assert metrics == {"good": 1.0}


def test_an_estimate_without_ends_is_logged_without_them(store: Store, open_sweep: Open, task: Task) -> None:
    nothing = Estimate(target=task.ranked_target.name, status="unfinished")
    with open_sweep() as log:
        log.log_progress(nothing, 8, 0)
        assert store._connection._client.get_run(log.run_id).data.metrics == {"trainings": 8.0}
        log.finish(nothing, [nothing], [], np.empty((0, 3)))
        assert "k_star" not in store._connection._client.get_run(log.run_id).data.metrics
    assert log.status == "unfinished"


def test_an_interrupted_sweep_says_so_and_goes_on(store: Store, open_sweep: Open, result: Make) -> None:
    with open_sweep() as log:
        log.append([result(8)])
        assert store._connection.run(log.run_id).status == "RUNNING"
    run = store._connection.run(log.run_id)
    assert (run.status, run.tags["lowdim.status"]) == ("KILLED", "interrupted")
    assert "lowdim.driver" not in run.tags
    with open_sweep() as log:
        run = store._connection.run(log.run_id)
        assert (run.status, run.tags["lowdim.status"]) == ("RUNNING", "running")
        assert len(log.results()) == 1
    log.close()


def test_a_failed_sweep_says_why_and_can_be_run_again(store: Store, open_sweep: Open) -> None:
    with open_sweep() as log:
        log.fail("trial k8-r0: the mask has 9 ones")
    run = store._connection.run(log.run_id)
    assert (run.status, run.tags["lowdim.status"]) == ("FAILED", "failed")
    assert store.sweeps()[0].failure == "trial k8-r0: the mask has 9 ones"
    with open_sweep() as log:
        assert log.status == "running"
        assert store.sweeps()[0].failure == ""


def test_a_finished_sweep_stays_finished_until_there_is_more(
    store: Store, open_sweep: Open, result: Make, found: Estimate, curve: tuple[np.ndarray, np.ndarray]
) -> None:
    with open_sweep() as log:
        log.append([result(50)])
        log.finish(found, [found], *curve)
    with open_sweep() as log:
        assert store._connection.run(log.run_id).status == "FINISHED"
        log.append([result(50, 1, reached=False)])
        assert store._connection.run(log.run_id).status == "RUNNING"
        log.finish(found, [found], *curve)
        shown = store._connection._client.get_run(log.run_id).data.metrics
        assert shown["success_probability"] == 0.5, "not the 1.0 of before"
    assert store._connection.run(log.run_id).status == "FINISHED"


def test_predictions_are_kept_with_a_sweep_and_altered_ones_are_none(
    store: Store, open_sweep: Open, task: Task, method: MethodChoice
) -> None:
    equivalent = Spread.of([210.0, None, 180.0])
    assert equivalent == Spread(n=2, median=195.0, low=180.0, high=210.0)
    assert Spread.of([None]) is None
    target = task.ranked_target.name
    one = PredictedThreshold(target=target, formula=None, equivalent=equivalent, simulated=None)
    told = Predictions(thresholds=(one,), conditions=("it holds",))
    with open_sweep():
        pass
    assert store.sweeps()[0].predictions is None
    store.annotate(task, method, {}, {keys.PREDICTION: told.model_dump_json()})
    assert store.sweeps()[0].predictions == told
    store.annotate(task, method, {}, {keys.PREDICTION: '{"thresholds": "altered"}'})
    assert store.sweeps()[0].predictions is None


def test_all_sweeps_are_read_and_broken_ones_named(
    store: Store, open_sweep: Open, result: Make, task: Task, method: MethodChoice, caplog: pytest.LogCaptureFixture
) -> None:
    with open_sweep() as log:
        log.append([result(8), result(9)])
    broken: dict[str, str] = {}
    for name, damage in {
        "burn_in_subspace": lambda folder: (folder / "task.json").write_text('{"name": "digits-mlp"}'),
        "imp": lambda folder: (folder / "method.json").unlink(),
        "random_mask": lambda folder: (folder / "method.json").write_text('{"name": "no_such_method"}'),
        "lottery_subspace": lambda folder: (folder / "method.json").write_text('{"name": "imp"}'),
    }.items():
        with store.open_sweep(task, MethodChoice(name=name), (1, 64), 2410) as other:
            damage(files_of(store, other))
            broken[name] = other.run_id
    (found,) = store.sweeps()
    assert (found.run_id, found.task, found.method) == (log.run_id, task, method)
    assert (found.k_low, found.k_high, found.full_dimension) == (1, 2048, 2410)
    assert [one.trial.k for one in found.results] == [8, 9]
    assert found.status == "interrupted"
    for run_id in broken.values():
        assert run_id in caplog.text
    assert "Unknown method 'no_such_method'" in caplog.text
    assert "it has no 'method.json'" in caplog.text
    assert "problem: Field required" in caplog.text
    assert "are not those of sweep" in caplog.text


def test_nothing_is_printed(
    settings: Settings,
    task: Task,
    method: MethodChoice,
    result: Make,
    found: Estimate,
    curve: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not even where the tables have to be made first."""
    folder = tmp_path / "fresh"
    folder.mkdir()
    fresh = replace(settings, tracking_uri=f"sqlite:///{folder}/mlflow.db", artifact_location=folder.as_uri())
    with Store(fresh) as store, store.open_sweep(task, method, (1, 2048), 2410) as log:
        log.append([result(8)])
        log.finish(found, [found], *curve)
        log.fail("to see what that prints")
        store.sweeps()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
