"""Methods, unchanged, on networks that normalize batches, on a transformer, and on torchvision's ResNet-18."""

from __future__ import annotations

import math

import pytest
import torch

from lowdim_bench import problems
from lowdim_bench.contract import CLAUSES, Subject, check
from lowdim_bench.errors import UserError
from lowdim_bench.methods import METHODS, MethodChoice
from lowdim_bench.problems import Problem
from lowdim_bench.records import Trial
from lowdim_bench.specs import Task, load_task
from lowdim_bench.trial import run_pack
from tests.problems.small import BLOBS, TEXT, make_task, merged, small_images, small_problem

NORMALIZED = {"kind": "convnet", "channels": [3], "normalization": {"kind": "batch"}}
NORMALIZED_TASK = make_task(merged(BLOBS, {"name": "normalized", "problem": {"network": NORMALIZED}}))
TEXT_TASK = make_task(TEXT)
SMALL: dict[str, tuple[Task, Problem]] = {
    "convnet with batch normalization": (NORMALIZED_TASK, problems.build(NORMALIZED_TASK, small_images())),
    "transformer": (TEXT_TASK, small_problem(TEXT_TASK)),
}
QUICK = {"imp": {"rate": 0.5}, "data_diet_imp": {"pretrain_steps": 4, "score_steps": 3, "score_runs": 2}}
"""Parameters with which a method makes fewer rounds than its defaults."""
# What a method asks for and these have not: it has to say so in these words.
REFUSED = {
    ("convnet with batch normalization", "fish_mask"): "gradient of a single example, but this network normalizes",
    ("transformer", "data_diet_imp"): "this problem has no labelled examples",
    ("transformer", "synflow_mask"): "the synaptic flow, which this problem does not give",
    ("transformer", "width"): "does not say which parameters belong to which neuron",
} | {
    (network, name): "decomposes a tensor, and the task has none"
    for network in SMALL
    for name in ("cp_als", "cp_leverage", "cp_uniform")
}


@pytest.mark.parametrize("network", SMALL)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_its_contract_or_says_what_it_lacks(name: str, network: str) -> None:
    task, problem = SMALL[network]
    method = MethodChoice(name=name, parameters=QUICK.get(name, {})).build()
    findings = list(check(Subject(method, task, problem)))
    assert [finding.check for finding in findings] == list(CLAUSES)
    failed = [finding for finding in findings if not finding.passed]
    if (network, name) in REFUSED:
        assert failed
        assert all(REFUSED[network, name] in finding.found for finding in failed)
    else:
        assert not failed


@pytest.fixture(scope="module")
def resnet() -> tuple[Task, Problem]:
    """The shipped task, each training cut to two steps."""
    shipped = load_task("digits-resnet18")
    recipe = {"steps": 2, "batch_size": 4}
    data = merged(
        shipped.model_dump(mode="json"),
        {
            "track": "open",
            "training": recipe | {"evaluate_every": 2},
            "full_training": recipe,
            "problem": {"network": {"statistics_examples": 16}},
        },
    )
    task = Task.from_data(data, "a shorter task")
    generator = torch.Generator().manual_seed(0)
    arrays = {f"x_{part}": torch.rand(24, 1, 8, 8, generator=generator).numpy() for part in ("train", "test")}
    arrays |= {f"y_{part}": (torch.arange(24) % 10).numpy() for part in ("train", "test")}
    return task, problems.build(task, arrays)


ON_RESNET = {
    "imp": {"rate": 0.999},
    "burn_in_subspace": {"burn_in_steps": 2},
    "random_subspace": {},
    "random_mask": {},
    "normalization_only": {},
    "one_shot_magnitude": {},
    "lora": {},
}
"""One of each style: subspaces, masks with and without training, factors."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_RESNET)
def test_methods_train_torchvision_s_resnet18(name: str, resnet: tuple[Task, Problem]) -> None:
    task, problem = resnet
    choice = MethodChoice(name=name, parameters=ON_RESNET[name])
    low, high = choice.build().k_range(problem.blocks)
    trial = Trial(k=min(max(low, 64), high), replicate=0, round=0)
    (result,) = run_pack(problem, task, choice, [trial])
    assert result.status == "trained", result.reason
    assert result.audit is not None
    assert result.audit.measured_k <= trial.k
    assert result.curve[-1].train_loss is not None
    assert math.isfinite(result.curve[-1].train_loss)


def test_width_of_a_convolutional_network_is_its_channels() -> None:
    _, problem = SMALL["convnet with batch normalization"]
    method = MethodChoice(name="width").build()
    assert method.k_range(problem.blocks) == (1, problem.full_dimension)
    with pytest.raises(UserError, match="an mlp, a convnet"):
        method.k_range(SMALL["transformer"][1].blocks)
