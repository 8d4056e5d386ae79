"""Methods: one short file each, and one line in `METHODS`."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from importlib.metadata import EntryPoint
from typing import Any

from lowdim_bench import installed
from lowdim_bench.errors import UserError, unknown
from lowdim_bench.methods.base import Method, Preparation, Setting, Train, Trained
from lowdim_bench.methods.frozen import FrozenCode
from lowdim_bench.specs import Spec, digest_of, parse_yaml

__all__ = [
    "METHODS",
    "FrozenCode",
    "Method",
    "MethodChoice",
    "Preparation",
    "Setting",
    "Train",
    "Trained",
    "choose",
    "installed_methods",
    "method_class",
    "method_names",
    "parse_choice",
]

METHODS = {
    "bias_only": "bias_only:BiasOnly",
    "burn_in_subspace": "burn_in_subspace:BurnInSubspace",
    "cp_als": "cp_als:CpByLeastSquares",
    "cp_leverage": "cp_leverage:CpByLeverage",
    "cp_uniform": "cp_uniform:CpByUniformRows",
    "data_diet_imp": "data_diet_imp:DataDietImp",
    "dense": "dense:Dense",
    "edge_popup": "edge_popup:EdgePopup",
    "erk_mask": "erk_mask:ErkMask",
    "fish_mask": "fish_mask:FishMask",
    "grasp_mask": "grasp_mask:GraspMask",
    "hashed_nets": "hashed_nets:HashedNets",
    "imp": "imp:IterativeMagnitudePruning",
    "initial_magnitude_mask": "initial_magnitude_mask:InitialMagnitudeMask",
    "landscape_imp": "landscape_imp:LandscapeImp",
    "last_layer_only": "last_layer_only:LastLayerOnly",
    "layerwise_random_mask": "layerwise_random_mask:LayerwiseRandomMask",
    "lora": "lora:LowRankAdaptation",
    "lottery_subspace": "lottery_subspace:LotterySubspace",
    "low_rank": "low_rank:LowRankTraining",
    "nola": "nola:RandomBasisAdaptation",
    "normalization_only": "normalization_only:NormalizationOnly",
    "one_shot_magnitude": "one_shot_magnitude:OneShotMagnitude",
    "random_bases": "random_bases:RandomBasesDescent",
    "random_mask": "random_mask:RandomMask",
    "random_subspace": "random_subspace:RandomSubspace",
    "rigl_in_loop": "rigl_in_loop:RiglInLoop",
    "rigl_mask": "rigl_mask:RiglMask",
    "said": "said:StructureAwareSubspace",
    "set_in_loop": "set_in_loop:SetInLoop",
    "set_mask": "set_mask:SetMask",
    "snip_mask": "snip_mask:SnipMask",
    "swag_subspace": "swag_subspace:SwagSubspace",
    "synflow_mask": "synflow_mask:SynflowMask",
    "tensor_train": "tensor_train:TensorTrainTraining",
    "vera": "vera:VectorBasedAdaptation",
    "width": "width:Width",
}
"""Name to module and class within this package; imported when asked for."""


def installed_methods() -> dict[str, EntryPoint]:
    """Methods that installed packages add. Raises `UserError` where one has the name of another."""
    return installed.additions(installed.METHODS, METHODS)


def method_names() -> list[str]:
    """Names of all methods: built in, then installed. Raises `UserError` where two installed ones have the same."""
    return [*METHODS, *installed_methods()]


def method_class(name: str) -> type[Method]:
    """The class of a built-in or installed method. Raises `UserError` where there is none."""
    if ":" in name:
        raise UserError(
            f"Method '{name}' is a class by its module, and code of one's own is not imported here. Make a submission of it "
            "(`lowdim-bench init-submission NAME`) and give its folder, or install a package that adds it as an entry point."
        )
    if name not in METHODS:
        if name not in (additions := installed_methods()):
            raise unknown("method", name, [*METHODS, *additions])
        return _installed_class(additions[name])
    module, _, attribute = METHODS[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def _installed_class(point: EntryPoint) -> type[Method]:
    """The class of an entry point. The package was installed on purpose: it runs with the user's rights."""
    where = f"Method '{point.name}' of package {installed.package_of(point)}"
    try:
        found = point.load()
    except Exception as error:  # noqa: BLE001 - whatever the package raises when it is imported
        raise UserError(
            f"{where} cannot be imported: {type(error).__name__}: {error}. Repair or uninstall it."
        ) from None
    if not (isinstance(found, type) and issubclass(found, Method) and not inspect.isabstract(found)):
        raise UserError(f"{where} is {point.value}; that must be a class derived from lowdim_bench.methods.Method.")
    return found


def _origin(name: str) -> str:
    """Which code an installed method is: its package, and the source of its module. Empty for a built-in one."""
    if name in METHODS:
        return ""
    module = sys.modules[method_class(name).__module__]
    source = hashlib.sha256(inspect.getsource(module).encode()).hexdigest()
    return f"{installed.package_of(installed_methods()[name])} {source[:16]}"


class MethodChoice(Spec):
    """A method by name with its parameters: what a person asks for and what travels to the workers."""

    name: str
    parameters: dict[str, Any] = {}
    code: FrozenCode | None = None
    """Of a submission: what defines its method. Then `name` is the submission's, and nothing of it is imported here."""
    origin: str = ""
    """Of an installed method: its package with its version, and a hash of its source. See `choose`."""

    def build(self) -> Method:
        """The method with validated parameters. Raises `UserError` for an unknown name, key or a bad value, and where an
        installed method is not the one that was chosen."""
        if self.code is not None:
            raise AssertionError("submitted code is not built here: see lowdim_bench.isolation")
        kind = method_class(self.name)
        if self.origin != (found := _origin(self.name)):
            raise UserError(
                f"Method {self.name} was chosen from {self.origin or 'lowdim-bench'}, but is {found or 'built in'} here. "
                "Install the same version of its package on every machine."
            )
        unknown_keys = sorted(set(self.parameters) - set(kind.model_fields))
        if unknown_keys:
            raise unknown(f"parameter of method {self.name}", unknown_keys[0], kind.model_fields)
        return kind.from_data(self.parameters, f"Method '{self.name}'")

    @property
    def method_digest(self) -> str:
        """The name of the method with its resolved parameters: parameters at their default do not change it."""
        if self.code is not None:
            return digest_of({"code": self.code.identity(), "parameters": self.parameters})  # whatever it is called
        method = self.build()
        identity: dict[str, Any] = {"name": self.name, "parameters": method.identity()}
        if self.origin:
            identity["origin"] = self.origin
        return digest_of(identity)

    @property
    def label(self) -> str:
        """For people: the name and the parameters that were given, as `-m` takes them."""
        return ",".join([self.name, *(f"{key}={value}" for key, value in sorted(self.parameters.items()))])


def choose(name: str, parameters: dict[str, Any] | None = None) -> MethodChoice:
    """A built-in or installed method with parameters, as it is installed here. Raises `UserError` for what is not valid."""
    choice = MethodChoice(name=name, parameters=parameters or {}, origin=_origin(name))
    choice.build()
    return choice


def parse_choice(text: str) -> MethodChoice:
    """The choice that NAME[,key=value...] asks for; values are read as YAML scalars. Raises `UserError`."""
    name, *pairs = text.split(",")
    parameters: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or not value:
            raise UserError(f"Method '{text}': '{pair}' is not key=value. Write -m {name},key=value[,key=value...].")
        if key in parameters:
            raise UserError(f"Method '{text}': parameter '{key}' is given twice.")
        parameters[key] = parse_yaml(value, f"Method '{text}': the value of '{key}'")
    return choose(name, parameters)
