"""Writes docs/api.md from the service's own OpenAPI document: `./dev.sh docs`.

Nothing is started: the document comes from the app's routes. `tests/contract/test_api_reference.py`
fails while the file isn't what this writes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from api.main import create_app
from api.settings import PROJECT_ROOT, Settings

PAPER: Final = PROJECT_ROOT / "docs" / "api.md"

_HEAD: Final = """\
# API reference

Written by `./dev.sh docs` from the service's OpenAPI document (`GET /openapi.json`; to try out at
`/docs`). The WebSocket `/audio/stream` isn't in it: [streaming.md](streaming.md) has its protocol.

Every route also takes the header `X-Request-Timeout`: seconds after which the caller waits no
longer. All but those marked *open* ask for a key where `API_KEYS` is set: `Authorization: Bearer
KEY` or `X-API-Key: KEY` ([security.md](security.md)). Errors have the shape
[ErrorResponse](#errorresponse), below `/v1` [OpenAIError](#openaierror). Times are seconds, dates
ISO 8601 in UTC.

What nearly every route may answer isn't repeated below:
"""
_TIMEOUT: Final = "X-Request-Timeout"
_BOUNDS: Final = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "pattern": "`{}`",
}
_SAMPLE: Final = "samples/conversation.wav"
_OF_TYPE: Final = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}

Schema = Mapping[str, Any]


def document() -> dict[str, Any]:
    """The OpenAPI document of an app that was never started."""
    app = create_app(Settings(triton_url="127.0.0.1:1"))
    return app.openapi()


def reference(content: Mapping[str, Any]) -> str:
    """The whole paper, in the document's order of routes, grouped by tag."""
    schemas = content["components"]["schemas"]
    common = _common(content)
    by_tag: dict[str, list[str]] = {}
    for path, operations in content["paths"].items():
        for method, operation in operations.items():
            (tag,) = operation["tags"]
            text = _route(method.upper(), path, operation, schemas, common)
            by_tag.setdefault(tag, []).append(text)
    rows = [(status, _cell(told)) for status, told in sorted(common)]
    lines = [_HEAD.rstrip(), _table(("status", "when"), rows)]
    for tag, routes in by_tag.items():
        lines += [f"## {tag}", *routes]
    lines.append("## Shapes")
    lines += [_shape(name, schema) for name, schema in sorted(schemas.items())]
    return "\n\n".join(lines) + "\n"


def _common(content: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Errors, with what is said of them, that more than half of all operations may answer."""
    everybody = [operation for item in content["paths"].values() for operation in item.values()]
    told = Counter(
        (status, answer["description"])
        for operation in everybody
        for status, answer in operation["responses"].items()
        if status >= "400"
    )
    return {pair for pair, count in told.items() if count > len(everybody) / 2}


def _route(
    method: str,
    path: str,
    operation: Schema,
    schemas: Mapping[str, Schema],
    common: set[tuple[str, str]],
) -> str:
    parts = [f"### {method} {path}", _sentence(operation, path)]
    rows = [*_parameters(operation), *_body(operation, schemas)]
    if rows:
        parts.append(_table(("name", "in", "type", "default", "meaning"), rows))
    answers = [
        f"| {status} | {_answer(answer)} | {_told(answer)} |"
        for status, answer in operation["responses"].items()
        if (status, answer["description"]) not in common
    ]
    parts.append("\n".join(["| status | answer | |", "|---|---|---|", *answers]))
    parts.append(f"```bash\n{_curl(method, path, operation, schemas)}\n```")
    return "\n\n".join(parts)


def _sentence(operation: Schema, path: str) -> str:
    told = [operation["summary"].rstrip(".") + "."]
    if "description" in operation:
        told.append(" ".join(operation["description"].split()))
    if "security" not in operation:
        told.append("*open*")
    return " ".join(told)


def _parameters(operation: Schema) -> Iterator[tuple[str, ...]]:
    for parameter in operation["parameters"]:
        if parameter["name"] != _TIMEOUT:
            yield _row(
                parameter["name"],
                parameter["in"],
                parameter["schema"],
                required=parameter.get("required", False),
                meaning=parameter.get("description"),
            )


def _body(operation: Schema, schemas: Mapping[str, Schema]) -> Iterator[tuple[str, ...]]:
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        shape = _resolved(_plain(body["schema"]), schemas)
        where = "JSON" if kind == "application/json" else "form"
        for name, schema in shape.get("properties", {}).items():
            yield _row(name, where, schema, required=name in shape.get("required", ()))


def _row(
    name: str, where: str, schema: Schema, *, required: bool, meaning: str | None = None
) -> tuple[str, ...]:
    default = "**required**" if required else _default(schema)
    return f"`{name}`", where, _type(schema), default, _cell(meaning or _meaning(schema))


def _default(schema: Schema) -> str:
    value = schema.get("default")
    return "" if value is None else f"`{json.dumps(value)}`"


def _answer(answer: Schema) -> str:
    kinds = []
    for kind, body in answer.get("content", {}).items():
        schema = body.get("schema", {})
        shown = _type(schema) if schema and kind == "application/json" else f"`{kind}`"
        kinds.append(shown)
    return ", ".join(dict.fromkeys(kinds))


def _told(answer: Schema) -> str:
    told = _cell(answer["description"])
    return "" if told == "Successful Response" else told


def _shape(name: str, schema: Schema) -> str:
    parts = [f"### {name}"]
    if "description" in schema:
        parts.append(" ".join(schema["description"].split()))
    rows = [
        (f"`{field}`", _type(kind), _default(kind), _cell(_meaning(kind)))
        for field, kind in schema.get("properties", {}).items()
    ]
    if rows:
        parts.append(_table(("field", "type", "default", "meaning"), rows))
    elif "enum" in schema:
        parts.append(_type(schema))
    return "\n\n".join(parts)


def _type(schema: Schema) -> str:
    """What a value may be, in words, with its limits."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if options:
        return " or ".join(dict.fromkeys(_type(option) for option in options))
    if "enum" in schema:
        return " ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    if kind == "array":
        kind = f"list of {_type(schema.get('items', {}))}"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        kind = f"map to {_type(schema['additionalProperties'])}"
    elif schema.get("format") == "date-time":
        kind = "date"
    elif "contentMediaType" in schema or schema.get("format") == "binary":
        kind = "file"
    limits = [text.format(_short(schema[key])) for key, text in _BOUNDS.items() if key in schema]
    return ", ".join([kind, *limits]).replace("|", "\\|")


def _short(limit: Any) -> Any:
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def _meaning(schema: Schema) -> str:
    return str(schema.get("description", ""))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _plain(schema: Schema) -> Schema:
    """The one shape that isn't null of a choice."""
    real = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    return real[0] if real else schema


def _resolved(schema: Schema, schemas: Mapping[str, Schema]) -> Schema:
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _curl(method: str, path: str, operation: Schema, schemas: Mapping[str, Schema]) -> str:
    """The shortest call: what is required and nothing else."""
    filled = re.sub(r"\{(\w+)\}", lambda found: _in_path(found[1]), path)
    words = ["curl"] + ([] if method == "GET" else [f"-X {method}"])
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        shape = _resolved(_plain(body["schema"]), schemas)
        needed = {name: shape["properties"][name] for name in shape.get("required", ())}
        if kind == "application/json":
            values = {name: _example(name, schema, schemas) for name, schema in needed.items()}
            words += ["-H 'content-type: application/json'", f"-d '{json.dumps(values)}'"]
        else:
            words += [
                f"-F {name}={_example(name, schema, schemas)}" for name, schema in needed.items()
            ]
    query = "&".join(
        f"{p['name']}={_example(p['name'], p['schema'], schemas)}"
        for p in operation["parameters"]
        if p["in"] == "query" and p.get("required")
    )
    address = f"http://localhost:6500{filled}"
    words.append(f'"{address}?{query}"' if query else address)
    if method == "POST" and len(words) > 2 and words[2].startswith("-F"):
        words.remove("-X POST")  # curl knows
    return " ".join(words)


def _in_path(name: str) -> str:
    return {"name": "whisper", "model": "whisper-1"}.get(name, f"${name.upper()}")


def _example(name: str, schema: Schema, schemas: Mapping[str, Schema]) -> Any:
    schema = _resolved(_plain(schema), schemas)
    if schema.get("type") == "array":
        return _example(name, schema.get("items", {}), schemas)
    if "contentMediaType" in schema or schema.get("format") == "binary":
        return f"@{_SAMPLE}"
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    if kind != "string":
        return schema.get("minimum", _OF_TYPE[kind])
    return {"model": "whisper-1", "version": "2", "name": "Ada"}.get(name, name)


def main() -> None:
    """Writes the paper."""
    write(PAPER)


def write(path: Path) -> None:
    path.write_text(reference(document()))


if __name__ == "__main__":
    main()
