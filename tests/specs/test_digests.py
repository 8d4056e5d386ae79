"""Digests name what decides the number (house rule 5): nothing else moves them, and everything that does, does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lowdim_bench.specs import (
    Spec,
    Task,
    canonical_json,
    digest_of,
    load_task,
    pixels,
    problem,
    read_yaml,
    task,
    task_names,
    tensors,
)
from lowdim_bench.specs.catalogue import task_folder
from tests.problems.small import ARENAS, BLOBS, PIXELS, QUADRATIC, TENSOR, TEXT, WELL, make_task, merged

# A change here parts all results stored so far from the task: it must be meant. A new field with a default changes nothing.
PINNED = {
    "cifar10-conv4": "303c17a0b474d386",
    "cifar10-resnet18": "aea8a7b9dc5b83ea",
    "cifar10-resnet20": "b6ece31fc6e8c0bb",
    "digits-conv-batchnorm": "6c45251731c9339c",
    "digits-mlp": "076b28f55017ac89",
    "digits-mlp-open": "ba18fb34cddc0ce0",
    "digits-resnet18": "944b497588046017",
    "fashion-conv2": "0d4021f67bda006c",
    "fashion-conv3": "780fa802335d1493",
    "mnist-conv2": "1ccb76259c61ee19",
    "mnist-lenet300": "4f41158051ce925c",
    "mnist-mlp": "f959bcc71c0ab901",
    "pixels7-deep": "3de97503d04943b8",
    "pixels7-deep-path": "e5ee16eedea65f1c",
    "pixels7-grid": "96f7c6b93655c123",
    "pixels7-grid-path": "0884fa189e166a58",
    "pixels7-hybrid": "7f7ad185fcad74e2",
    "pixels7-masked": "9a96da5fa354a123",
    "pixels7-recurrent": "7c717b2c063122ef",
    "pixels7-skip": "1448f870025b5ebf",
    "pixels7-skip-path": "5a7ff36e5faf42bc",
    "pixels7-wide": "fb37fe4b6e1c830f",
    "pixels7-wide-path": "e26c2df16054039f",
    "predprey15-decision": "0bcc37119d7f0c1f",
    "predprey15-range": "7c9faac932cf538c",
    "predprey7-decision": "0f67f6e632dddac9",
    "predprey7-decision-wide": "3fc230f610e5c782",
    "predprey7-range": "57bba9988135f12d",
    "predprey7-range-wide": "892f4408973c8b14",
    "quadratic-deep-gaussian": "07ff5b8889ef3fc6",
    "quadratic-gaussian": "b63f6231381bd81f",
    "quadratic-mixed-norm": "634928380f464391",
    "quadratic-mixed-orthogonal": "7c4009ff79943ed1",
    "quadratic-mixed-plain": "385e262094f6b6d8",
    "tensor-digits": "6194bc5072a0e914",
    "tensor-planted": "23619df20b9d3864",
    "tensor-planted-concentrated": "3a322faccf17702b",
    "tensor-planted-small": "98280916ab76986d",
    "text-transformer": "592551f1dcd8b02e",
    "well-isotropic": "2bb95315e57141aa",
    "well-power2": "8a9761ab085db6b7",
}
# Digests leave defaults out, so a changed default gives old results another meaning under the same digest: give the field
# another name with it. A new field may join its class here. (Futility says its defaults: a change moves digests by itself.)
PINNED_DEFAULTS: dict[type[Spec], dict[str, Any]] = {
    problem.DigitsData: {"test_examples": 360},
    problem.TorchvisionData: {"train_examples": None},
    problem.ArraysData: {"train_examples": None},
    problem.MlpNetwork: {"hidden": ()},
    problem.BatchNormalization: {"statistics_examples": 2048},
    problem.ConvNetwork: {"normalization": None},
    problem.ResNetwork: {"blocks_per_group": 3, "widths": (16, 32, 64), "norm_groups": 8},
    problem.TorchvisionNetwork: {"statistics_examples": 2048},
    problem.Classification: {},
    problem.PowerSpectrum: {},
    problem.TwoLevelSpectrum: {},
    problem.LognormalSpectrum: {},
    problem.QuadraticWell: {"radius": 1.0},
    problem.PlantedPolynomial: {"degree": 2, "rank": 2, "draw": 0},
    problem.QuadraticNetwork: {"quadratic_layers": 1, "variant": "plain", "penalty": 1.0},
    pixels.DrawnGrids: {"draw": 0},
    pixels.EdgeConnectedPixels: {"draw": 0},
    pixels.PredatorRange: {"draw": 0},
    pixels.HideOrRun: {"draw": 0},
    pixels.PixelFeedForward: {"width": None, "activation": "tanh", "input_every": None},
    pixels.PixelRecurrent: {"layers": 0},
    pixels.PixelPropagation: {},
    pixels.PixelLabelling: {"accuracy": "whole_image"},
    problem.BundledText: {"train_characters": None, "test_characters": 12_000},
    problem.TransformerNetwork: {},
    problem.NextCharacter: {},
    task.Descent: {"weight_decay": 0.0},
    task.Adam: {"weight_decay": 0.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7},
    task.Sgd: {"weight_decay": 0.0, "momentum": 0.0, "nesterov": False},
    task.AlternatingLeastSquares: {},
    tensors.PlantedTensor: {"noise": 0.0, "factors": "gaussian", "peak": 10.0, "draw": 0},
    tensors.DigitsTensor: {},
    tensors.ArrayTensor: {},
    tensors.TensorDecomposition: {},
    task.LearningRate: {"reference_k": 1, "exponent": 0.0, "multipliers": (1.0,), "schedule": "constant"},
    task.Recipe: {},
    task.TrainingRecipe: {},
    task.Target: {"at_most": None, "at_least": None},
    task.ThresholdSpec: {
        "success_probability": 0.5,
        "precision": 1.2,
        "k_min": 1,
        "minimum_replicates": 20,
        "design": "bayesian",
        "trials_per_round": 8,
        "trials": 200,
    },
    task.PreparationBudget: {},
    task.Futility: {"onset": 0.013, "margin": 0.08, "bend": 1.1, "earliest": 0.15, "audit_share": 0.05},
    task.Task: {"description": "", "track": "prepared", "futility": None},
}
ARRAYS = {"kind": "arrays", "path": "mine.npz", "sha256": "0" * 64}
RESNET = {"kind": "resnet", "blocks_per_group": 1, "widths": [8, 8, 8], "norm_groups": 4}
TORCHVISION = {"kind": "torchvision", "dataset": "MNIST", "train_examples": 100}
CONVNET = {"kind": "convnet", "channels": [4]}
NORMALIZED = CONVNET | {"normalization": {"kind": "batch", "statistics_examples": 20}}
RANGE = {"kind": "predator_range", "side": 5, "longest_path": 2, "train_examples": 60, "test_examples": 30}
SKIP = {"kind": "pixel_feed_forward", "layers": 3, "width": 7, "input_every": 2}
TASKS = {
    "blobs": make_task(BLOBS),
    "futile": make_task(BLOBS, {"futility": {}}),
    "arrays": make_task(BLOBS, {"problem": {"data": ARRAYS, "network": CONVNET}}),
    "resnet": make_task(BLOBS, {"problem": {"data": TORCHVISION, "network": RESNET}}),
    "batch normalization": make_task(BLOBS, {"problem": {"network": NORMALIZED}}),
    "torchvision network": make_task(BLOBS, {"problem": {"network": {"kind": "torchvision", "model": "resnet18"}}}),
    "transformer": make_task(TEXT),
    "power": make_task(WELL),
    "two-level": make_task(WELL, {"problem": {"spectrum": {"kind": "two_level", "high_count": 2, "low": 0.1}}}),
    "quadratic network": make_task(
        QUADRATIC, {"problem": {"variant": "norm", "data": {"planted": "low_rank", "rank": 1}}}
    ),
    "tensor": make_task(TENSOR, {"problem": {"data": {"factors": "concentrated"}}}),
    "own tensor": make_task(
        TENSOR, {"problem": {"data": {"kind": "array_tensor", "path": "x.npz", "sha256": "0" * 64}}}
    ),
    "tensor of digits": make_task(TENSOR, {"problem": {"data": {"kind": "digits_tensor"}}}),
    "recurrent pixels": make_task(PIXELS),
    "decision in arenas": make_task(ARENAS),
    "range in arenas": make_task(ARENAS, {"problem": {"data": RANGE, "accuracy": "path_and_distractor"}}),
    "feed-forward pixels": make_task(PIXELS, {"problem": {"network": SKIP}}),
    "lognormal": make_task(WELL, {"problem": {"spectrum": {"kind": "lognormal", "sigma": 1.0}}}),
}
NOT_IDENTITY = {("description",), ("problem", "data", "path")}
Path = tuple[str | int, ...]


def fields(spec: Spec, here: Path = ()) -> Iterator[Path]:
    """The places of all values of a spec that are no specs themselves."""
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if isinstance(value, Spec):
            yield from fields(value, (*here, name))
        elif isinstance(value, tuple) and value and isinstance(value[0], Spec):
            for place, item in enumerate(value):
                yield from fields(item, (*here, name, place))
        else:
            yield (*here, name)


def with_other(value: Any, path: Path) -> Any:
    """A copy, not validated, with something else at one place."""
    if not path:
        return "something else"
    first, *rest = path
    if isinstance(first, int):
        return (*value[:first], with_other(value[first], tuple(rest)), *value[first + 1 :])
    return value.model_copy(update={first: with_other(getattr(value, first), tuple(rest))})


def test_every_shipped_task_has_a_pinned_digest() -> None:
    assert {name: load_task(name).digest for name in task_names()} == PINNED


def test_every_default_is_pinned() -> None:
    kinds = {
        kind
        for module in (problem, task, tensors, pixels)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Spec) and kind.__module__ == module.__name__
    }
    assert {
        kind: {name: field.get_default() for name, field in kind.model_fields.items() if not field.is_required()}
        for kind in kinds
    } == PINNED_DEFAULTS


@pytest.mark.parametrize("one", TASKS.values(), ids=TASKS)
def test_every_field_changes_the_digest_but_those_that_only_describe_or_locate(one: Task) -> None:
    unmoved = {path for path in fields(one) if with_other(one, path).digest == one.digest}
    assert unmoved == NOT_IDENTITY & set(fields(one))
    digests = [with_other(one, path).digest for path in fields(one) if path not in unmoved]
    assert len(set(digests)) == len(digests)


def test_a_description_and_a_path_do_not_change_the_digest() -> None:
    described = make_task(BLOBS, {"description": "at length"})
    assert described.digest == TASKS["blobs"].digest
    moved = make_task(BLOBS, {"problem": {"data": ARRAYS | {"path": "elsewhere/other.npz"}, "network": CONVNET}})
    assert moved.digest == TASKS["arrays"].digest


@pytest.mark.parametrize("name", task_names())
def test_defaults_written_out_do_not_change_the_digest(name: str) -> None:
    shipped = load_task(name)
    everything = shipped.model_dump(mode="json")
    assert everything != read_yaml(task_folder() / f"{name}.yaml")
    assert Task.from_data(everything, "all defaults written out").digest == shipped.digest


def test_whole_numbers_and_floats_of_one_value_have_one_digest() -> None:
    whole, float_ = (make_task(BLOBS, {"targets": [{"metric": "train_loss", "at_most": one}]}) for one in (1, 1.0))
    assert whole.digest == float_.digest


def test_the_order_of_keys_does_not_change_a_digest() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": 1, "b": [1, 2]}) != digest_of({"a": 1, "b": [2, 1]})
    assert Task.from_data(dict(reversed(BLOBS.items())), "x").digest == TASKS["blobs"].digest


def test_canonical_json_has_one_form_and_no_nan() -> None:
    assert canonical_json({"b": 1e-07, "a": [True, None, "ü"]}) == '{"a":[true,null,"\\u00fc"],"b":1e-07}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_a_digest_is_sixteen_hexadecimal_digits_of_sha256() -> None:
    assert digest_of({}) == "44136fa355b3678a"


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"learning_rate": {"value": 0.05}}},
        {"full_training": {"steps": 13}},
        {"threshold": {"design": "bisection"}},
        {"preparation": {"gradient_evaluations": 0}},
        {"targets": [{"metric": "train_loss", "at_most": 0.5}]},
        {"problem": {"network": {"hidden": []}}},
        {"track": "cold"},
    ],
)
def test_what_decides_the_number_changes_the_digest(changes: dict[str, Any]) -> None:
    assert Task.from_data(merged(BLOBS, changes), "x").digest != TASKS["blobs"].digest
