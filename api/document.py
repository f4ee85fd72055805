"""The OpenAPI document: FastAPI's, and what holds for every operation but no endpoint says."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from api.access import OPEN
from api.deadline import HEADER
from api.openai.errors import PREFIX
from api.openai.schemas import OpenAIError
from api.schemas import ErrorResponse

_GUARD = {
    401: "No API key, or one that isn't known",
    403: "A web page of another origin asks, or under a name that isn't this host's",
    429: "A key's own bound, or that on work in flight, is reached; Retry-After says for how long",
}
_EVERYWHERE = {
    422: "A field is wrong",
    500: "Something went wrong here",
    504: "Past the deadline",
}
_HEADERS = {
    "401": {"WWW-Authenticate": "How to give a key"},
    "429": {"Retry-After": "Seconds"},
    "503": {"Retry-After": "Seconds"},
}
_KEYS: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_TIMEOUT = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Seconds after which the caller waits no longer; may only shorten the deadline",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}


def complete(app: FastAPI) -> None:
    """Have the app tell what is asked of every request, and every error that it may get."""
    written = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            content = written()
            content["components"]["securitySchemes"] = _KEYS
            schemas = content["components"]["schemas"]
            for path, operations in content["paths"].items():
                for operation in operations.values():
                    _complete(operation, path)
            # FastAPI's own shape of a 422, which nothing here answers with.
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
        return app.openapi_schema or {}

    app.openapi = document  # type: ignore[method-assign]


def _complete(operation: dict[str, Any], path: str) -> None:
    responses = operation["responses"]
    declared = responses.get("422", {}).get("content", {}).get("application/json", {})
    if "HTTPValidationError" in str(declared):
        del responses["422"]
    meanings = _EVERYWHERE if path in OPEN else _GUARD | _EVERYWHERE
    if "requestBody" in operation:
        meanings = {400: "The body can't be read"} | meanings
    shape: type[BaseModel] = ErrorResponse
    if path.startswith(PREFIX):
        shape = OpenAIError
        meanings = {400 if status == 422 else status: text for status, text in meanings.items()}
    schema = {"$ref": f"#/components/schemas/{shape.__name__}"}
    for status, text in meanings.items():
        content = {"application/json": {"schema": schema}}
        responses.setdefault(str(status), {"description": text, "content": content})
    for answered, headers in _HEADERS.items():
        for name, meaning in headers.items():
            if answered in responses:
                header = {"description": meaning, "schema": {"type": "string"}}
                responses[answered].setdefault("headers", {})[name] = header
    operation["responses"] = dict(sorted(responses.items()))
    operation.setdefault("parameters", []).append(_TIMEOUT)
    if path not in OPEN:
        operation["security"] = [{name: []} for name in _KEYS]
