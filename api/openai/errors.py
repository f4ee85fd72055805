"""Errors in OpenAI's shape, with OpenAI's status codes, so that its SDKs raise what they should."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.errors import InvalidOption, NotFound

PREFIX = "/v1/"
"""Routes below it speak OpenAI's contract."""

_STATUS = {415: 400, 422: 400, 502: 500}
"""Where OpenAI's status differs from ours: all that is wrong with the input is a 400."""

_TYPES_AND_CODES: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", None),
    404: ("invalid_request_error", None),
    405: ("invalid_request_error", "method_not_supported"),
    408: ("invalid_request_error", "timeout"),
    409: ("invalid_request_error", None),
    413: ("invalid_request_error", "file_too_large"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", "service_unavailable"),
    504: ("server_error", "timeout"),
}


class InvalidParameter(InvalidOption):
    """A field of the request is missing, unknown, out of range, or doesn't go with another."""

    def __init__(self, message: str, param: str, code: str = "invalid_value") -> None:
        super().__init__(message, param=param, code=code)


class UnknownModel(NotFound):
    """The request names a model that isn't served."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model '{model}' does not exist", param="model", code="model_not_found"
        )


def shape(status: int, message: str, details: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and body of an error; `details` may name the `param` and the `code`."""
    status = _STATUS.get(status, status)
    kind, code = _TYPES_AND_CODES.get(status, ("server_error", None))
    error = {
        "message": message,
        "type": kind,
        "param": details.get("param"),
        "code": details.get("code", code),
    }
    return status, {"error": error}
