"""Strict YAML section -> frozen dataclass, and its fingerprint.

Generic: it contains no dial of any stage. Unknown, missing and mistyped keys are refused by their
dotted name; nothing is converted silently (`3e-4` is a string in YAML 1.1: write `3.0e-4`).
"""

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def read_params(path: Path) -> dict[str, Any]:
    """Read a params file. Raises ValueError when it is missing or is not a YAML mapping."""
    import yaml  # not at the top: a GPU machine that only trains has no PyYAML

    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run from the repository's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = str(error).splitlines()[0]
        raise ValueError(f"{path}: not valid YAML ({detail}); see conf/laptop.yaml") from None
    if not isinstance(params, dict):
        raise ValueError(f"{path}: a mapping of sections is expected; see conf/laptop.yaml")
    return params


def load_section(path: Path, section: str, cls: type[T]) -> T:
    """Load the dotted `section` of a params file into the dataclass `cls`."""
    node: Any = read_params(path)
    for depth, key in enumerate(section.split(".")):
        if not isinstance(node, Mapping) or key not in node:
            where = ".".join(section.split(".")[: depth + 1])
            raise ValueError(f"{path}: section '{where}' is missing; see conf/laptop.yaml")
        node = node[key]
    return from_mapping(cls, node, section)


def from_mapping(cls: type[T], mapping: Any, where: str) -> T:
    """Build the dataclass `cls` from a mapping; `where` is the dotted name used in messages."""
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{where}: a mapping is expected, got {mapping!r}")
    assert dataclasses.is_dataclass(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in mapping:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; known keys: {', '.join(fields)}"
            raise ValueError(f"{where}.{key}: unknown key{hint}")
    values = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}.{name}: key is missing; see conf/laptop.yaml for its value")
    try:
        return cls(**values)
    except ValueError as error:  # __post_init__ names its own key; add the section in front of it
        raise ValueError(f"{where}.{error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Check `value` against a type hint; the only conversions are int -> float and list -> tuple."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        (option,) = [option for option in options if option is not type(None)]
        return _convert(option, value, where)
    if origin is typing.Literal:
        options = typing.get_args(hint)
        if value not in options or not any(type(value) is type(option) for option in options):
            raise ValueError(f"{where}: got {value!r}; choose one of {', '.join(map(str, options))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where}: a list is expected, got {value!r}")
        item = typing.get_args(hint)[0]
        return tuple(_convert(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(type, hint), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ValueError(f"{where}: {hint.__name__} is expected, got {value!r}{_advice(hint, value)}")
    return value


def _advice(hint: type, value: Any) -> str:
    """Say how to write the number that a string seems to mean."""
    if hint is not float or not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    mantissa, _, exponent = f"{number:e}".partition("e")
    return f" (a string); write {float(mantissa)}e{int(exponent)} without quotes"


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a config dataclass into plain JSON types."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def to_dotted(config: Any, prefix: str) -> dict[str, Any]:
    """Flatten a config dataclass to {dotted name: value}, as MLflow shows it."""
    flat: dict[str, Any] = {}

    def walk(node: Any, name: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{name}.{key}")
        else:
            flat[name] = node

    walk(to_dict(config), prefix)
    return flat


def fingerprint(*parts: Any) -> str:
    """Return 16 hex digits that identify configs, dicts and strings taken together."""
    plain = [to_dict(part) if dataclasses.is_dataclass(part) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
