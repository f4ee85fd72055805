"""GET /metrics: the API's figures for Prometheus. Triton has its own, on TRITON_METRICS_PORT."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.endpoints.context import app_state

router = APIRouter(tags=["metrics"])


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    content, media_type = app_state(request).metrics.render()
    return Response(content, media_type=media_type)
