"""Methods by name: as a person asks for them, with parameters checked and named by digests."""

from __future__ import annotations

from typing import Any

import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.methods import METHODS, MethodChoice, parse_choice
from lowdim_bench.methods.imp import IterativeMagnitudePruning


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("dense", "dense", {}),
        ("imp,rate=0.3", "imp", {"rate": 0.3}),
        ("imp,rate=3e-1,rewind_step=20,scope=weights", "imp", {"rate": 0.3, "rewind_step": 20, "scope": "weights"}),
        ("random_subspace,operator=gaussian", "random_subspace", {"operator": "gaussian"}),
        ("burn_in_subspace,burn_in_steps= 7 ", "burn_in_subspace", {"burn_in_steps": 7}),
    ],
)
def test_a_choice_is_a_name_and_yaml_values(text: str, name: str, parameters: dict[str, Any]) -> None:
    choice = parse_choice(text)
    assert (choice.name, choice.parameters) == (name, parameters)
    assert parse_choice(choice.label) == choice
    assert MethodChoice.model_validate_json(choice.model_dump_json()) == choice


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("impp", r"Unknown method 'impp'. Known: bias_only, .*, imp, .* Did you mean 'imp'\?"),
        ("", "Unknown method ''"),
        ("imp,", "'' is not key=value. Write -m imp,key=value"),
        ("imp,rate", "'rate' is not key=value"),
        ("imp,=0.2", "'=0.2' is not key=value"),
        ("imp,rate=", "'rate=' is not key=value"),
        ("imp,rate=0.2,rate=0.3", "parameter 'rate' is given twice"),
        ("imp,rewind_stp=3", r"Unknown parameter of method imp 'rewind_stp'. .*Did you mean 'rewind_step'\?"),
        ("imp,summary=x", "Unknown parameter of method imp 'summary'"),
        ("dense,k=3", r"Unknown parameter of method dense 'k'. Known: \(none\)"),
        ("imp,rate=[1", "the value of 'rate' is not valid YAML"),
        ("imp,rate=fast", "rate: Input should be a valid number"),
        ("imp,rate=1.0", "rate: Input should be less than 1"),
        ("imp,rate=0", "rate: Input should be greater than 0"),
        ("imp,rewind_step=2.0", "rewind_step: Input should be a valid integer"),
        ("imp,rewind_step=true", "rewind_step: Input should be a valid integer"),
        ("imp,scope=biases", "scope: Input should be 'all' or 'weights'"),
        ("burn_in_subspace,burn_in_steps=0", "burn_in_steps"),
        ("lottery_subspace,stride=0", "stride"),
        ("lottery_subspace,increments=-1", "increments"),
        ("swag_subspace,rank=0", "rank"),
        ("swag_subspace,through=origin", "through: Input should be 'initial' or 'mean'"),
        ("random_subspace,operator=dense", "operator"),
    ],
)
def test_what_is_wrong_with_a_choice_is_said(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        parse_choice(text)


def test_parameters_at_their_default_do_not_change_the_digest() -> None:
    plain = parse_choice("imp")
    assert plain.method_digest == parse_choice("imp,rate=0.2,rewind_step=0,scope=all").method_digest
    others = [parse_choice(text) for text in ("imp,rate=0.3", "imp,rewind_step=1", "one_shot_magnitude", "dense")]
    assert len({choice.method_digest for choice in [plain, *others]}) == 5


# Of each method that has been released. As for tasks: a change here parts all results stored so far from the method. Digests
# leave defaults out, so a changed default gives old results another meaning under the same digest: give the field another
# name with it.
PINNED: dict[str, tuple[str, dict[str, Any]]] = {
    "bias_only": ("6fbad6f04a10f773", {}),
    "burn_in_subspace": ("12e825de4a7607e3", {"burn_in_steps": 64, "operator": "auto"}),
    "cp_als": ("0837e0af04e830d1", {}),
    "cp_leverage": ("5108fc17d5f66a18", {"samples": 1024, "combine": True, "deterministic": False}),
    "cp_uniform": ("7e0aca33b73d9705", {"samples": 1024}),
    "data_diet_imp": (
        "0c5a6abb2d69eaa7",
        {
            "pretrain_steps": 50,
            "subset": "easy",
            "size": 256,
            "score_runs": 3,
            "score_steps": 50,
            "rate": 0.2,
            "scope": "all",
        },
    ),
    "dense": ("cb45f48fff896db5", {}),
    "edge_popup": ("340d7dec73957c3f", {"density": 0.5}),
    "erk_mask": ("923debf5596fa471", {"scope": "all"}),
    "fish_mask": ("d198568a6e9beba0", {"examples": 256}),
    "grasp_mask": ("007ac0bc4c011c86", {"examples": 100, "temperature": 200.0, "scope": "all"}),
    "hashed_nets": ("136e7b62c79c787a", {}),
    "imp": ("d82a9be3b5593710", {"rate": 0.2, "rewind_step": 0, "scope": "all", "control": "none"}),
    "initial_magnitude_mask": ("ec825ec6712e7352", {"scope": "all"}),
    "landscape_imp": (
        "82f02c49a54d02e9",
        {"slack": 0.1, "least_rate": 0.2, "rewind_step": 0, "examples": 512, "lanczos_steps": 20},
    ),
    "last_layer_only": ("59f1173c2d45532b", {}),
    "layerwise_random_mask": ("ecb745258d54bf3c", {"scope": "all"}),
    "lora": ("700d84bceb88ff27", {}),
    "lottery_subspace": ("c5298575eb4e7f16", {"increments": 128, "stride": 4}),
    "low_rank": ("5fc6290f16c25ff5", {}),
    "nola": ("d55abc6b95282976", {"rank": 8}),
    "normalization_only": ("ccab12a5699f794f", {}),
    "one_shot_magnitude": ("d10bdcfc9752f956", {"rewind_step": 0, "scope": "all"}),
    "random_bases": ("03256fa2ba2965ea", {"directions": 250, "operator": "auto"}),
    "random_mask": ("1ab4c8d43eccb7b4", {"scope": "all"}),
    "random_subspace": ("433073193b064ea8", {"operator": "auto"}),
    "rigl_in_loop": ("a8a158ee5bd450bb", {"updates": 20, "share": 0.3, "active": 0.5}),
    "rigl_mask": ("fa3f15b0d4e52b44", {"updates": 20, "share": 0.3}),
    "said": ("15979097a6b5f65f", {"operator": "hadamard"}),
    "set_in_loop": ("f28fba263fc1127a", {"updates": 20, "share": 0.3, "active": 0.5}),
    "set_mask": ("646fbd7342db1708", {"updates": 20, "share": 0.3}),
    "snip_mask": ("9c221bfc0e5d47ae", {"examples": 100, "scope": "all"}),
    "swag_subspace": ("624edcfa5e7a408e", {"rank": 20, "stride": 4, "through": "initial"}),
    "synflow_mask": ("362ec2368d92b194", {"scope": "all"}),
    "tensor_train": ("ca5ee2c51a63a95e", {"cores": 3}),
    "vera": ("a2303837a296a87e", {}),
    "width": ("f79fdbb6ed7ee0ed", {}),
}


def test_digests_and_defaults_of_released_methods_are_pinned() -> None:
    choices = {name: MethodChoice(name=name) for name in METHODS}
    found = {name: (choice.method_digest, choice.build().model_dump()) for name, choice in choices.items()}
    assert {name: found.get(name) for name in PINNED} == PINNED
    assert len({digest for digest, _ in found.values()}) == len(found)


def test_a_choice_builds_the_method() -> None:
    built = parse_choice("imp,rate=0.5").build()
    assert built == IterativeMagnitudePruning(rate=0.5)
    with pytest.raises(ValueError, match="frozen"):
        built.rate = 0.1  # pyright: ignore[reportAttributeAccessIssue]


def test_code_of_ones_own_is_not_imported_by_its_name() -> None:
    with pytest.raises(UserError, match=r"Method 'os.path:Mine' .* Make a submission of it .*init-submission"):
        parse_choice("os.path:Mine")
