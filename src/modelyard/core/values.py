"""Frozen attrs classes to and from JSON, strictly: an unknown key is an error with a suggestion."""

import enum
import json
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import attrs

from modelyard.core.errors import InvalidPlanError, did_you_mean

T = TypeVar("T")


def freeze(value: Any) -> Any:
    """Return `value` with every mapping read-only and every list a tuple, all the way down."""
    if isinstance(value, Mapping):
        return types.MappingProxyType({key: freeze(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """Return `value` as what JSON knows: dicts, lists, strings, numbers, booleans and None."""
    if attrs.has(type(value)):
        return {field.name: thaw(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [thaw(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value


def to_json(value: object) -> str:
    """Return a plan value as indented JSON, its fields in the order of their definition."""
    return json.dumps(thaw(value), indent=2, ensure_ascii=False)


def from_json(cls: type[T], text: str | bytes) -> T:
    """Return the instance of `cls` that `to_json` wrote.

    Raises `InvalidPlanError` for what is not JSON, an unknown key, or a value of another type.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidPlanError(f"not a {cls.__name__}: the text is not JSON ({error})") from error
    return typing.cast(T, _build(cls, data, cls.__name__))


def _build(kind: Any, data: Any, where: str) -> Any:
    """Return `data` as `kind`, which is any annotation that a plan value uses."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        return _build(next(a for a in arguments if a is not type(None)), data, where)
    if attrs.has(kind):
        return _build_attrs(kind, data, where)
    if origin is tuple:
        _expect(isinstance(data, list), where, "a list", data)
        return tuple(_build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(data, dict), where, "an object", data)
        return {key: _build(arguments[1], item, f"{where}.{key}") for key, item in data.items()}
    if kind in (str, int, bool):
        _expect(type(data) is kind, where, kind.__name__, data)
    elif kind is float:
        _expect(type(data) in (int, float), where, "a number", data)
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        values = [item.value for item in kind]
        _expect(data in values, where, f"one of {values}", data)
        return kind(data)
    return data


def _build_attrs(cls: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, dict), where, "an object", data)
    hints = _hints(cls)
    for key in data:
        if key not in hints:
            raise InvalidPlanError(f"{where} has no field {key!r}{did_you_mean(key, hints)}")
    try:
        return cls(**{key: _build(hints[key], item, f"{where}.{key}") for key, item in data.items()})
    except TypeError as error:
        raise InvalidPlanError(f"{where}: {error}") from error


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in attrs.fields(cls)}


def _expect(holds: bool, where: str, wanted: str, data: object) -> None:  # noqa: FBT001 - read as assert
    if not holds:
        raise InvalidPlanError(f"{where} must be {wanted}, not {data!r}")
