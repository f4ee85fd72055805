"""JSON → frozen dataclasses, by their type hints; what a newer service adds is left alone."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from voice_analytics_client.errors import UnexpectedAnswer

T = TypeVar("T")

RAW = "raw"
"""A field of this name gets the JSON object as it came, fields unknown here included."""


def read(kind: type[T], value: Any) -> T:
    """A JSON value as `kind`: a dataclass, or a type that its fields may have.

    Raises:
        UnexpectedAnswer: a field is missing or of another type; the message names it.
    """
    result: T = _read(kind, value, kind.__name__)
    return result


def _read(kind: Any, value: Any, at: str) -> Any:
    if kind is Any:
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return _read(inner, value, at)
    if dataclasses.is_dataclass(kind):
        return _object(kind, _expect(Mapping, value, at), at)
    if origin is tuple:
        items = _expect(list, value, at)
        return tuple(_read(arguments[0], item, f"{at}[{n}]") for n, item in enumerate(items))
    if origin is dict:
        members = _expect(Mapping, value, at)
        return {key: _read(arguments[1], item, f"{at}.{key}") for key, item in members.items()}
    return _plain(kind, origin, value, at)


def _object(kind: Any, value: Mapping[str, Any], at: str) -> Any:
    hints = _hints(kind)
    given: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name == RAW:
            given[RAW] = dict(value)
        elif field.name in value:
            given[field.name] = _read(hints[field.name], value[field.name], f"{at}.{field.name}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise UnexpectedAnswer(f"{at} came without its '{field.name}'")
    return kind(**given)


def _plain(kind: Any, origin: Any, value: Any, at: str) -> Any:
    if kind is datetime:
        return _moment(_expect(str, value, at), at)
    if origin is Literal:  # a label that a newer service added is no reason to fail
        return _expect(str, value, at)
    if kind is float and type(value) is int:
        return float(value)
    if kind in (int, float) and isinstance(value, bool):
        raise UnexpectedAnswer(f"{at} is {value!r} where a number was expected")
    return _expect(kind, value, at)


def _expect(kind: Any, value: Any, at: str) -> Any:
    if not isinstance(value, kind):
        shown = f"{value!r:.60}"
        raise UnexpectedAnswer(f"{at} is {shown} where {kind.__name__} was expected")
    return value


def _moment(text: str, at: str) -> datetime:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 knows no Z
    except ValueError as error:
        raise UnexpectedAnswer(f"{at} is {text!r} where a date was expected") from error


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
