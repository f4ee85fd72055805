"""Writes nested Python values in protobuf's text format, in the layout that Triton's documentation
uses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias


class Symbol(str):
    """An enum value, such as TYPE_FP32: written without quotes."""


Value: TypeAlias = "bool | int | str | Symbol | Sequence[Value] | Mapping[str, Value]"


def render(message: Mapping[str, Value]) -> str:
    """A message as text: one field a line; a list of messages repeats its field, a list of scalars
    stays on one line."""
    return "".join(f"{line}\n" for name, value in message.items() for line in _field(name, value))


def _field(name: str, value: Value) -> list[str]:
    if isinstance(value, Mapping):
        inner = [line for key, item in value.items() for line in _field(key, item)]
        return [f"{name} {{", *(f"  {line}" for line in inner), "}"]
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(item, Mapping) for item in value):
            return [line for item in value for line in _field(name, item)]
        return [f"{name}: [ {', '.join(_scalar(item) for item in value)} ]"]
    return [f"{name}: {_scalar(value)}"]


def _scalar(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Symbol | int):
        return str(value)
    return json.dumps(value)
