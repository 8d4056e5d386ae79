"""Task files are read strictly: what is misspelt, mistyped, out of range or ambiguous is refused, with a reason."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowdim_bench.errors import UserError
from lowdim_bench.specs import Task, load_task, parse_yaml, read_yaml, task_names
from lowdim_bench.specs.base import MAXIMUM_YAML_BYTES
from lowdim_bench.specs.catalogue import task_folder
from tests.problems.small import BLOBS, WELL, make_task, merged

FULL: dict[str, Any] = merged(
    BLOBS,
    {
        "description": "all keys written out",
        "track": "prepared",
        "problem": {"network": {"kind": "mlp", "hidden": [5]}, "data": {"test_examples": 360}},
        "training": {
            "optimizer": {"kind": "adam", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7},
            "learning_rate": {"reference_k": 1, "exponent": 0.0, "multipliers": [1.0], "schedule": "constant"},
        },
        "full_training": {"optimizer": {"kind": "sgd", "momentum": 0.9, "nesterov": False}},
        "threshold": {
            "success_probability": 0.5,
            "precision": 1.2,
            "k_min": 1,
            "minimum_replicates": 20,
            "design": "bayesian",
            "trials_per_round": 8,
            "trials": 200,
        },
    },
)


def paths(data: Any, *, leaves: bool, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places in plain data of all values that are no containers, or of all mappings."""
    if isinstance(data, dict):
        if not leaves:
            yield here
        for key, value in data.items():
            yield from paths(value, leaves=leaves, here=(*here, key))
    elif isinstance(data, list):
        for place, value in enumerate(data):
            yield from paths(value, leaves=leaves, here=(*here, place))
    elif leaves:
        yield here


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        data = data[part]
    return data


def with_value(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(data)
    at(changed, path[:-1])[path[-1]] = value
    return changed


def refused(data: Any) -> str:
    with pytest.raises(UserError) as caught:
        Task.from_data(data, "Task file x.yaml")
    assert "Task file x.yaml is not valid" in str(caught.value)
    return str(caught.value)


def dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path)) or "top level"


@pytest.mark.parametrize("path", [*paths(FULL, leaves=False)], ids=dotted)
def test_unknown_keys_are_refused_at_every_level(path: tuple[Any, ...]) -> None:
    Task.from_data(FULL, "the unchanged task")
    changed = copy.deepcopy(FULL)
    at(changed, path)["sped"] = 1
    message = refused(changed)
    assert "sped: unknown key" in message
    assert all(str(part) in message for part in path)


@pytest.mark.parametrize("path", [*paths(FULL, leaves=True)], ids=dotted)
def test_values_of_a_wrong_type_are_refused(path: tuple[Any, ...]) -> None:
    value = at(FULL, path)
    wrong: list[Any] = [[], {}, date(2026, 1, 1)]
    if isinstance(value, bool):
        wrong += [0, "false", None]
    elif isinstance(value, int):
        wrong += [str(value), float(value), True, None]
    elif isinstance(value, float):
        wrong += [str(value), True, math.nan, math.inf, -math.inf, None]
    else:
        wrong += [1, True, None]
    if path[-1] == "batch_size":  # null: the full data
        wrong.remove(None)
    for item in wrong:
        refused(with_value(FULL, path, item))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "Capital"),
        ("name", "-dash-first"),
        ("name", "a/b"),
        ("name", "a\n"),
        ("name", "a" * 65),
        ("track", "warm"),
        ("problem.data.test_examples", 0),
        ("problem.network.hidden", [5, 0]),
        ("problem.network.hidden", [1] * 65),
        ("training.optimizer.beta1", 1.0),
        ("training.optimizer.beta2", -0.1),
        ("training.optimizer.epsilon", 0.0),
        ("training.learning_rate.value", 0.0),
        ("training.learning_rate.reference_k", 0),
        ("training.learning_rate.exponent", 2.5),
        ("training.learning_rate.multipliers", []),
        ("training.learning_rate.multipliers", [1.0, -1.0]),
        ("training.learning_rate.multipliers", [1.0] * 17),
        ("training.learning_rate.schedule", "step"),
        ("training.batch_size", 0),
        ("training.steps", 0),
        ("training.evaluate_every", 0),
        ("full_training.optimizer.momentum", 1.0),
        ("targets", []),
        ("threshold.success_probability", 0.0),
        ("threshold.success_probability", 1.0),
        ("threshold.precision", 1.0),
        ("threshold.precision", 65.0),
        ("threshold.k_min", 0),
        ("threshold.minimum_replicates", 0),
        ("threshold.design", "grid"),
        ("threshold.trials_per_round", 0),
        ("threshold.trials_per_round", 1025),
        ("preparation.gradient_evaluations", -1),
    ],
)
def test_values_out_of_range_are_refused_where_they_stand(path: str, value: Any) -> None:
    message = refused(with_value(FULL, tuple(path.split(".")), value))
    assert path.rsplit(".", maxsplit=1)[-1] in message


@pytest.mark.parametrize(
    "path", [path for path in paths(FULL, leaves=False) if path and isinstance(path[-1], str)], ids=dotted
)
def test_required_parts_are_asked_for_by_name(path: tuple[Any, ...]) -> None:
    changed = copy.deepcopy(FULL)
    del at(changed, path[:-1])[path[-1]]
    assert f"{path[-1]}: Field required" in refused(changed)


LOSS = "train_loss"
ACCURACY = "train_accuracy"


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        ([{"metric": LOSS, "at_most": 0.1}, {"metric": LOSS, "at_most": 0.2}], "easy to hard"),
        ([{"metric": LOSS, "at_most": 0.1}, {"metric": LOSS, "at_most": 0.1}], "easy to hard"),
        ([{"metric": ACCURACY, "at_least": 0.9}, {"metric": ACCURACY, "at_least": 0.8}], "easy to hard"),
        ([{"metric": LOSS, "at_most": 0.9}, {"metric": ACCURACY, "at_least": 0.8}], "one metric"),
        ([{"metric": LOSS, "at_least": 0.9}], "train_loss takes at_most"),
        ([{"metric": ACCURACY, "at_most": 0.9}], "train_accuracy takes at_least"),
        ([{"metric": LOSS}], "exactly one of at_most and at_least"),
        ([{"metric": LOSS, "at_most": 0.9, "at_least": 0.8}], "exactly one of at_most and at_least"),
        ([{"metric": "test_accuracy", "at_least": 0.9}], "train_loss"),
        ([{"metric": LOSS, "at_most": 17.0 - n} for n in range(17)], "at most 16"),
    ],
)
def test_a_ladder_of_targets_goes_strictly_from_easy_to_hard_in_one_metric(targets: list[Any], reason: str) -> None:
    assert reason in refused(FULL | {"targets": targets})


def test_accuracy_ladders_rise() -> None:
    task = make_task(FULL, {"targets": [{"metric": ACCURACY, "at_least": level} for level in (0.5, 0.9)]})
    assert task.ranked_target.name == "train_accuracy >= 0.9"
    assert task.ranked_target.reached(0.9)
    assert not task.ranked_target.reached(0.899)
    assert not task.ranked_target.reached(math.nan)


def test_loss_targets_are_reached_from_above_and_never_by_nan() -> None:
    target = make_task(FULL).ranked_target
    assert (target.name, target.level) == ("train_loss <= 0.5", 0.5)
    assert target.reached(0.5)
    assert not target.reached(0.5001)
    assert not target.reached(math.nan)


def test_levels_that_print_alike_still_have_names_of_their_own() -> None:
    levels = (0.1234568, 0.1234567)
    task = make_task(FULL, {"targets": [{"metric": LOSS, "at_most": level} for level in levels]})
    assert len({target.name for target in task.targets}) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"threshold": {"k_min": 32}}, "k_min (32) must lie below k_max (32)"),
        ({"threshold": {"trials": 19}}, "at least minimum_replicates"),
        ({"full_training": {"optimizer": {"momentum": 0.0, "nesterov": True}}}, "nesterov needs a momentum"),
        ({"full_training": {"learning_rate": {"multipliers": [2.0]}}}, "full_training takes no multipliers"),
    ],
)
def test_values_that_contradict_each_other_are_refused(changes: dict[str, Any], reason: str) -> None:
    assert reason in refused(merged(FULL, changes))


def test_a_well_has_no_accuracy() -> None:
    assert "a quadratic well has no accuracy" in refused(WELL | {"targets": [{"metric": ACCURACY, "at_least": 0.9}]})


def test_several_mistakes_are_told_at_once() -> None:
    message = refused(merged(FULL, {"training": {"steps": "4"}, "threshold": {"k_max": 3.5}, "trak": "cold"}))
    assert len(message.splitlines()) == 4
    assert "training.steps: Input should be a valid integer (got '4')" in message


@pytest.mark.parametrize("data", [None, [], "x", 3, True, {1: 2}, {"name": {1, 2}}, {"name": object()}])
def test_other_things_than_tasks_are_refused(data: Any) -> None:
    refused(data)


def test_data_that_nests_without_end_is_refused() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    refused({"name": deep})
    circular: dict[str, Any] = {}
    circular["name"] = circular
    refused(circular)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1E3", 1e3), ("5e-2", 0.05), (".5", 0.5), ("-1.", -1.0), ("+2.5e+1", 25.0), ("4", 4), ("-7", -7)],
)
def test_numbers_in_yaml_are_numbers(text: str, value: float) -> None:
    read = parse_yaml(f"a: {text}", "x")["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", ["1e", "e3", "1.2.3", "+", "1-3", "v1e-3"])
def test_what_only_looks_like_a_number_stays_text(text: str) -> None:
    assert parse_yaml(f"a: '{text}'", "x") == parse_yaml(f"a: {text}", "x") == {"a": text}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\na: 2", "key 'a' stands twice"),
        ("a: {b: 1, c: 2, b: 1}", "key 'b' stands twice"),
        ("1: a", "key 1 is not text"),
        ("? [a, b]\n: 1", "is not text"),
        ("true: a", "key True is not text"),
        ("a: &x 1\nb: *x", "aliases (*name) are not supported"),
        ("&x [*x]", "aliases (*name) are not supported"),
        ("a: [1", "x.yaml"),
        ("a: b: c", "x.yaml"),
        ("\t- a", "x.yaml"),
        ("a: \x00", "x.yaml"),
        ("!!python/object/apply:os.getcwd []", "python/object"),
        ("!!bool maybe", "x.yaml"),
        ("!!int ''", "x.yaml"),
        ("!!timestamp soon", "x.yaml"),
        ("2026-13-45", "x.yaml"),
        ("9" * 5000, "x.yaml"),
        ("[" * 100_000, "x.yaml"),
        ("a\n---\nb", "x.yaml"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_bad_yaml_is_refused_with_its_source(text: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "x.yaml")
    assert "x.yaml is not valid YAML" in str(caught.value)
    assert reason in str(caught.value)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (MAXIMUM_YAML_BYTES + 1))
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: 'größe'".encode("latin-1"))
    for path, reason in [
        (huge, "at most 1000000"),
        (latin, "cannot be read"),
        (tmp_path, "cannot be read"),
        (tmp_path / "none.yaml", "cannot be read"),
    ]:
        with pytest.raises(UserError, match=reason):
            read_yaml(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("digits_mlp", "Unknown task 'digits_mlp'. Known: .*Did you mean 'digits-mlp'?"),
        ("", "Unknown task ''"),
        ("../tasks/digits-mlp", "Unknown task"),
        ("none.yaml", "There is no task file none.yaml. Shipped tasks: .*digits-mlp"),
        ("a\0b.yaml", "There is no task file"),
    ],
)
def test_a_task_that_is_not_there_is_named_with_those_that_are(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        load_task(name)


def test_a_task_file_of_ones_own_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(json.dumps(FULL), encoding="utf-8")
    assert load_task(str(path)) == Task.from_data(FULL, "x")


TEXTS = st.text() | st.text(alphabet="abc:-[]{}'\"&*!#|>%@,?= \n\t019.e+_~<")
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(TEXTS)
def test_no_text_raises_anything_but_a_user_error(text: str) -> None:
    try:
        data = parse_yaml(text, "fuzz")
    except UserError:
        return
    refused(data)


@given(st.sampled_from([*paths(FULL, leaves=True), *(path for path in paths(FULL, leaves=False) if path)]), PLAIN)
def test_no_value_anywhere_in_a_task_raises_anything_but_a_user_error(path: tuple[Any, ...], value: Any) -> None:
    try:
        task = Task.from_data(with_value(FULL, path, value), "fuzz")
    except UserError:
        return
    assert Task.from_data(task.model_dump(mode="json"), "what it says of itself") == task
    assert len(task.digest) == 16


SCHEMA = Task.model_json_schema()


def test_the_json_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", task_names())
def test_shipped_tasks_are_valid_by_the_json_schema(name: str) -> None:
    jsonschema.validate(read_yaml(task_folder() / f"{name}.yaml"), SCHEMA, jsonschema.Draft202012Validator)


def test_the_json_schema_refuses_what_is_wrong() -> None:
    jsonschema.validate(FULL, SCHEMA)
    for changes in ({"sped": 1}, {"training": {"steps": "4"}}, {"track": "warm"}, {"training": {"steps": 0}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(merged(FULL, changes), SCHEMA)
