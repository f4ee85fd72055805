"""Who is let in: the middleware around a small app, without the service behind it."""

from __future__ import annotations

import contextlib
import types
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import Access
from api.errors import ConfigurationError
from api.keys import parse
from api.limits import Bounds, CallerLimits
from api.main import check_exposure
from api.metrics import Metrics
from api.middleware import RequestContext
from api.settings import Settings

SECRET = "correct-horse-battery"
BEARER = {"authorization": f"Bearer {SECRET}"}


class Inside:
    """The app behind the door: answers 200 and remembers who came in."""

    def __init__(self) -> None:
        self.entered: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})


def guarded(
    folder: Path,
    *,
    keys: str = f"alice:{SECRET}",
    bounds: Bounds = Bounds(0, 0),  # noqa: B008
    origins: frozenset[str] = frozenset(),
    any_host: bool = False,
) -> tuple[ASGIApp, Inside]:
    inside, figures = Inside(), Metrics()
    access = Access(
        inside,
        keys=parse(keys),
        limits=CallerLimits(bounds, folder, figures),
        origins=origins,
        any_host=any_host,
        metrics=figures,
    )
    context = RequestContext(access, figures)
    app = types.SimpleNamespace(state=types.SimpleNamespace(metrics=figures))

    async def outside(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        await context(scope, receive, send)

    return outside, inside


async def call(
    app: ASGIApp, method: str = "GET", path: str = "/audio/analyses", **request: Any
) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:6500") as http:
        return await http.request(method, path, **request)


@pytest.mark.parametrize(
    "headers",
    [BEARER, {"authorization": f"bearer  {SECRET}"}, {"x-api-key": SECRET}],
)
async def test_a_key_opens(tmp_path: Path, headers: dict[str, str]) -> None:
    app, inside = guarded(tmp_path)
    assert (await call(app, headers=headers)).status_code == 200
    assert inside.entered == ["/audio/analyses"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {SECRET}"},
        {"authorization": f"Bearer {SECRET} more"},
        {"authorization": "Bearer wrong", "x-api-key": SECRET},
        {"x-api-key": "wrong"},
        {"cookie": f"x-api-key={SECRET}"},
    ],
)
async def test_anything_else_is_401(tmp_path: Path, headers: dict[str, str]) -> None:
    app, inside = guarded(tmp_path)
    answer = await call(app, headers=headers)
    assert answer.status_code == 401 and inside.entered == []
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert set(answer.json()) == {"error", "message", "details", "request_id"}
    assert answer.json()["error"] == "AuthenticationError"


async def test_a_key_in_the_address_counts_for_nothing(tmp_path: Path) -> None:
    """Addresses end up in logs and histories."""
    app, _ = guarded(tmp_path)
    assert (await call(app, params={"api_key": SECRET})).status_code == 401


async def test_below_v1_the_refusal_has_openais_shape(tmp_path: Path) -> None:
    app, _ = guarded(tmp_path)
    answer = await call(app, "POST", "/v1/audio/transcriptions")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    "path, status",
    [
        ("/", 200),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/static-offline-docs/swagger-ui.css", 200),
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/health", 401),
        ("/metrics", 401),
        ("/health/live/", 401),
        ("/docs/../metrics", 401),
        ("/nowhere", 401),
    ],
)
async def test_what_is_open(tmp_path: Path, path: str, status: int) -> None:
    app, _ = guarded(tmp_path)
    assert (await call(app, path=path)).status_code == status


async def test_a_refused_body_is_not_read(tmp_path: Path) -> None:
    app, _ = guarded(tmp_path)
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/audio/analyze",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-length", b"1000000")],
        "server": ("127.0.0.1", 6500),
        "scheme": "http",
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 401


async def test_a_callers_bounds(tmp_path: Path) -> None:
    app, inside = guarded(tmp_path, bounds=Bounds(2, 0))
    statuses = [(await call(app, headers=BEARER)).status_code for _ in range(3)]
    assert statuses == [200, 200, 429] and len(inside.entered) == 2
    answer = await call(app, headers=BEARER)
    assert 25 <= int(answer.headers["retry-after"]) <= 30
    assert answer.json()["error"] == "RateLimited"
    assert (await call(app, path="/health/ready")).status_code == 200


async def test_strangers_take_nothing_from_a_callers_bounds(tmp_path: Path) -> None:
    app, _ = guarded(tmp_path, bounds=Bounds(1, 1))
    for _ in range(5):
        assert (await call(app, headers={"x-api-key": "wrong"})).status_code == 401
    assert (await call(app, headers=BEARER)).status_code == 200


@pytest.mark.parametrize(
    "origin, method, status",
    [
        ("http://localhost:6500", "POST", 200),
        ("https://localhost:6500", "POST", 200),
        ("http://evil.example", "POST", 403),
        ("http://evil.example", "DELETE", 403),
        ("http://localhost:9999", "POST", 403),
        ("null", "POST", 403),
        ("http://evil.example", "GET", 200),
        ("https://app.example.com", "POST", 200),
    ],
)
async def test_pages_of_other_origins(
    tmp_path: Path, origin: str, method: str, status: int
) -> None:
    """Browsers let any page post a form here; what it asks for mustn't be done."""
    app, _ = guarded(tmp_path, keys="", origins=frozenset({"https://app.example.com"}))
    assert (await call(app, method, headers={"origin": origin})).status_code == status


async def test_all_origins_may_be_let_in(tmp_path: Path) -> None:
    app, _ = guarded(tmp_path, keys="", origins=frozenset({"*"}))
    assert (await call(app, "POST", headers={"origin": "http://a.example"})).status_code == 200


@pytest.mark.parametrize(
    "host, status",
    [
        ("localhost", 200),
        ("localhost:6500", 200),
        ("app.localhost", 200),
        ("127.0.0.1:6500", 200),
        ("[::1]:6500", 200),
        ("192.168.1.7:6500", 200),
        ("rebound.example:6500", 403),
        ("localhost.example", 403),
        ("", 403),
    ],
)
async def test_without_keys_a_name_that_can_be_switched_is_refused(
    tmp_path: Path, host: str, status: int
) -> None:
    """A page whose own name is switched to 127.0.0.1 is of the same origin as the service."""
    app, _ = guarded(tmp_path, keys="")
    assert (await call(app, headers={"host": host})).status_code == status
    app, _ = guarded(tmp_path, keys="", any_host=True)
    assert (await call(app, headers={"host": host})).status_code == 200
    app, _ = guarded(tmp_path)
    assert (await call(app, headers={"host": host} | BEARER)).status_code == 200


@pytest.mark.parametrize(
    "settings, served",
    [
        ({"host": "127.0.0.1"}, True),
        ({"host": "localhost"}, True),
        ({"host": "::1"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "::"}, False),
        ({"host": "192.168.1.7"}, False),
        ({"host": "this-machine.example"}, False),
        ({"host": "0.0.0.0", "api_keys": f"alice:{SECRET}"}, True),
        ({"host": "0.0.0.0", "api_keys": ", "}, False),
        ({"host": "0.0.0.0", "allow_anonymous": True}, True),
    ],
)
def test_other_machines_are_not_served_by_oversight(settings: dict[str, Any], served: bool) -> None:
    doubt = contextlib.nullcontext() if served else pytest.raises(ConfigurationError, match="API_K")
    with doubt:
        check_exposure(Settings(**settings))
