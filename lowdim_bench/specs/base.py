"""What every specification shares: frozen models, strict types, canonical JSON, digests, and strict YAML."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from lowdim_bench.errors import UserError


class Spec(BaseModel):
    """A frozen, strictly typed model that refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, ser_json_inf_nan="strings")

    not_identity: ClassVar[frozenset[str]] = frozenset()
    """Fields that describe or locate, and so never change a number; they are left out of the digest."""

    @classmethod
    def from_data(cls, data: Any, source: str) -> Self:
        """Validate plain data (of YAML or JSON); `source` is named in the `UserError` raised when it does not fit."""
        try:
            return cls.model_validate_json(json.dumps(data))
        except ValidationError as error:
            raise UserError(f"{source} is not valid:\n{explain(error)}") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{source} is not valid: {error}") from None

    @classmethod
    def from_json(cls, content: bytes, source: str) -> Self:
        """Validate JSON from anywhere; `source` is named in the `UserError` raised when it does not fit."""
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise UserError(f"{source} is not valid:\n{explain(error)}") from None

    def identity(self) -> dict[str, Any]:
        """What decides the number: all fields that differ from their defaults, as plain data.

        Defaults are left out so that a new field whose default changes nothing leaves every digest as it was.
        """
        plain: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name in self.not_identity or (not field.is_required() and value == field.get_default()):
                continue
            plain[name] = _identity(value)
        return plain

    @property
    def digest(self) -> str:
        """The name of this spec: 16 hexadecimal digits of the SHA-256 of its identity as canonical JSON."""
        return digest_of(self.identity())


def _identity(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.identity()
    if isinstance(value, tuple | list):
        return [_identity(item) for item in value]
    return value


def canonical_json(data: Any) -> str:
    """JSON with sorted keys and no spare space: equal data gives equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(data: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of the canonical JSON of plain data."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()[:16]


def explain(error: ValidationError) -> str:
    """Pydantic's findings, one line each: where, what is wrong, what came."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "(top level)"
        came = "" if item["type"] in {"missing", "extra_forbidden"} else f" (got {_short(item['input'])})"
        what = "unknown key; see `lowdim-bench schema`" if item["type"] == "extra_forbidden" else item["msg"]
        lines.append(f"  {where}: {what}{came}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _StrictLoader(yaml.SafeLoader):
    """YAML with duplicate keys and aliases refused and 1e-3 read as a number, as YAML 1.2 has it and people expect."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # a few lines of nested aliases would stand for gigabytes
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(None, None, "aliases (*name) are not supported; write the value out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)

MAXIMUM_YAML_BYTES = 1_000_000


def read_yaml(path: Path) -> Any:
    """Plain data of a YAML file. Raises `UserError` where it cannot be read, is too large or is not YAML."""
    try:
        if path.stat().st_size > MAXIMUM_YAML_BYTES:
            raise UserError(
                f"{path} has {path.stat().st_size} bytes; a specification has at most {MAXIMUM_YAML_BYTES}."
            )
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def parse_yaml(text: str, source: str) -> Any:
    """Plain data of YAML text. Raises `UserError`, naming `source`, where it is not YAML or nests too deep."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        # The last three are what PyYAML raises for a value that does not fit its explicit tag, such as !!bool maybe.
        raise UserError(f"{source} is not valid YAML: {error}") from None
