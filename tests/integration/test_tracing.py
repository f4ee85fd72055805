"""A collector gets one trace of a request: the API's spans, and below them Triton's own."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.conftest import SAMPLE, run_service

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLERS_SPAN = "b7ad6b7169203331"
PATIENCE_S = 60.0


def _from_protobuf(body: bytes) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(body)


def _from_json(body: bytes) -> ExportTraceServiceRequest:
    """What Triton sends; OTLP's JSON writes ids in hexadecimal, protobuf's own in base 64."""
    content = json.loads(body)
    for resource in content["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in {"traceId", "spanId", "parentSpanId"} & set(span):
                    span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return ParseDict(content, ExportTraceServiceRequest(), ignore_unknown_fields=True)


class Collector:
    """Takes OTLP over HTTP, as a real collector does, and remembers the spans of each service."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_json = "json" in self.headers["Content-Type"]
                collector.take(_from_json(body) if is_json else _from_protobuf(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
            thread.join()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            names = [
                a.value.string_value
                for a in resource.resource.attributes
                if a.key == "service.name"
            ]
            for scope in resource.scope_spans:
                self.spans += [(names[0], span) for span in scope.spans]

    def of_trace(self, service: str) -> list[Span]:
        return [s for name, s in self.spans if name == service and s.trace_id.hex() == TRACE_ID]


def test_one_trace_from_the_request_to_triton_and_the_store(tmp_path: Path) -> None:
    collector = Collector()
    with (
        collector.running() as url,
        run_service(tmp_path, OTLP_ENDPOINT=url, OTEL_BSP_SCHEDULE_DELAY="200") as service,
    ):
        answer = httpx.post(
            f"{service.url}/audio/analyze",
            files={"file": SAMPLE.read_bytes()},
            headers={
                "traceparent": f"00-{TRACE_ID}-{CALLERS_SPAN}-01",
                "X-Request-ID": "traced",
            },
            timeout=120,
        )
        assert answer.status_code == 200
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not collector.of_trace("triton"):
            time.sleep(0.2)

    own = {span.name: span for span in collector.of_trace("voice-analytics")}
    root = own["POST /audio/analyze"]
    assert root.parent_span_id.hex() == CALLERS_SPAN
    about = {a.key: a.value for a in root.attributes}
    assert about["voice_analytics.request_id"].string_value == "traced"
    assert about["http.response.status_code"].int_value == 200
    stages = {"decode", "vad", "whisper", "emotion", "speaker_embedding", "assembly", "store"}
    assert stages <= set(own)
    by_id = {span.span_id: span for span in collector.of_trace("voice-analytics")}
    assert {a.value.string_value for a in own["whisper"].attributes if a.key == "cache"} == {"miss"}
    calls = [span for span in by_id.values() if span.name == "triton"]
    assert {by_id[c.parent_span_id].name for c in calls} == {
        "whisper",
        "emotion",
        "speaker_embedding",
    }
    theirs = collector.of_trace("triton")
    assert {s.parent_span_id for s in theirs} & {c.span_id for c in calls}
