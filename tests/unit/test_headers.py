"""What answers tell browsers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from api.main import create_app
from api.settings import Settings

FOREIGN = "https://app.example.com"


def app_of(folder: Path, **settings: str) -> FastAPI:
    """The app without its lifespan: enough for what never reaches the models."""
    chosen = {"triton_url": "127.0.0.1:1", "data_dir": folder, "api_keys": "a:" + "s" * 16}
    return create_app(Settings(**(chosen | settings)))  # type: ignore[arg-type]


async def call(app: FastAPI, method: str, path: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:6500") as http:
        return await http.request(method, path, headers=named)


@pytest.mark.parametrize(
    "path, status", [("/health/live", 200), ("/docs", 200), ("/metrics", 401), ("/nowhere", 401)]
)
async def test_every_answer_has_them(tmp_path: Path, path: str, status: int) -> None:
    answer = await call(app_of(tmp_path), "GET", path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    assert "server" not in answer.headers


async def test_files_of_ours_may_be_kept_as_long_as_they_are_the_newest(tmp_path: Path) -> None:
    for path in ("/", "/static-offline-docs/swagger-ui.css"):
        answer = await call(app_of(tmp_path), "GET", path)
        assert answer.status_code == 200 and answer.headers["etag"]
        assert answer.headers["cache-control"] == "no-cache"


async def test_a_page_runs_what_is_ours_and_data_runs_nothing(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    page = (await call(app, "GET", "/docs")).headers["content-security-policy"]
    for allowed in (
        "script-src 'self'",
        "media-src 'self' blob:",
        "connect-src 'self' ws://localhost:6500 wss://localhost:6500",
    ):
        assert allowed in page
    data = (await call(app, "GET", "/health/live")).headers["content-security-policy"]
    assert data == "default-src 'none'; frame-ancestors 'none'"


async def test_a_host_cant_write_into_the_policy(tmp_path: Path) -> None:
    answer = await call(app_of(tmp_path), "GET", "/docs", host="a; script-src *")
    assert "script-src *" not in answer.headers["content-security-policy"]


async def test_the_documentation_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """Its policy allows only what is here; a page that needs more would stay empty."""
    for path in ("/docs", "/redoc"):
        text = (await call(app_of(tmp_path), "GET", path)).text
        assert "https://" not in text and "http://" not in text


async def test_cors_is_closed(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    for method in ("GET", "OPTIONS"):
        answer = await call(
            app, method, "/health/live", origin=FOREIGN, access_control_request_method="POST"
        )
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_cors_opens_to_whom_it_names(tmp_path: Path) -> None:
    app = app_of(tmp_path, cors_origins=f"{FOREIGN}, https://other.example")
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "x-api-key"}
    preflight = await call(app, "OPTIONS", "/audio/analyze", origin=FOREIGN, **asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == FOREIGN
    refusal = await call(app, "POST", "/audio/analyze", origin=FOREIGN)
    assert refusal.status_code == 401
    assert refusal.headers["access-control-allow-origin"] == FOREIGN
    assert "Retry-After" in refusal.headers["access-control-expose-headers"]
    stranger = await call(app, "OPTIONS", "/audio/analyze", origin="https://evil.example", **asked)
    assert "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize("origins", ["app.example.com", "https://app.example.com/", "ftp://a"])
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(ValueError, match="origins such as"):
        Settings(cors_origins=origins)
