"""Methods: one short file each, and one line in `METHODS`."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

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
    "method_class",
    "parse_choice",
]

METHODS = {
    "burn_in_subspace": "burn_in_subspace:BurnInSubspace",
    "dense": "dense:Dense",
    "imp": "imp:IterativeMagnitudePruning",
    "lottery_subspace": "lottery_subspace:LotterySubspace",
    "one_shot_magnitude": "one_shot_magnitude:OneShotMagnitude",
    "random_mask": "random_mask:RandomMask",
    "random_subspace": "random_subspace:RandomSubspace",
}
"""Name to module and class within this package; imported when asked for."""


def method_class(name: str) -> type[Method]:
    """The class of a built-in method, or one's own as MODULE:CLASS. Raises `UserError` where there is none."""
    if ":" in name:
        return _own_class(name)
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    module, _, attribute = METHODS[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def _own_class(name: str) -> type[Method]:
    """A class of the user's own, from an installed module or one in the current folder. It runs with the user's rights."""
    module, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # Ray hands the driver's path on to its workers
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # noqa: BLE001 - whatever the user's module raises when it is imported
        raise UserError(
            f"Method '{name}' cannot be imported: {type(error).__name__}: {error}. Give MODULE:CLASS."
        ) from None
    if not (isinstance(found, type) and issubclass(found, Method) and not inspect.isabstract(found)):
        raise UserError(f"'{name}' is no method: it must be a class that derives from lowdim_bench.methods.Method.")
    return found


class MethodChoice(Spec):
    """A method by name with its parameters: what a person asks for and what travels to the workers."""

    name: str
    parameters: dict[str, Any] = {}
    code: FrozenCode | None = None
    """Of a submission: what defines its method. Then `name` is the submission's, and nothing of it is imported here."""

    def build(self) -> Method:
        """The method with validated parameters. Raises `UserError` for an unknown name, key or a bad value."""
        if self.code is not None:
            raise AssertionError("submitted code is not built here: see lowdim_bench.isolation")
        kind = method_class(self.name)
        unknown_keys = sorted(set(self.parameters) - set(kind.model_fields))
        if unknown_keys:
            raise unknown(f"parameter of method {self.name}", unknown_keys[0], kind.model_fields)
        return kind.from_data(self.parameters, f"Method '{self.name}'")

    @property
    def method_digest(self) -> str:
        """The name of the method with its resolved parameters: parameters at their default do not change it.

        For a class of the user's own, the source of its module decides too: changed code is another method.
        """
        if self.code is not None:
            return digest_of({"code": self.code.identity(), "parameters": self.parameters})  # whatever it is called
        method = self.build()
        identity: dict[str, Any] = {"name": self.name, "parameters": method.identity()}
        if ":" in self.name:
            source = inspect.getsource(sys.modules[type(method).__module__])
            identity["source"] = hashlib.sha256(source.encode()).hexdigest()
        return digest_of(identity)

    @property
    def label(self) -> str:
        """For people: the name and the parameters that were given, as `-m` takes them."""
        return ",".join([self.name, *(f"{key}={value}" for key, value in sorted(self.parameters.items()))])


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
    choice = MethodChoice(name=name, parameters=parameters)
    choice.build()
    return choice
