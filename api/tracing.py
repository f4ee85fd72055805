"""One trace from a request through the cache, Triton and the store, for whoever collects traces.

Off unless OTLP_ENDPOINT names a collector. Until `configure` has run, spans cost next to nothing
and go nowhere. Triton takes the trace on from the `traceparent` of each call (W3C Trace Context).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.trace import Span

from api.errors import ConfigurationError
from api.version import VERSION

_tracer = trace.get_tracer("voice_analytics", VERSION)


def configure(endpoint: str | None) -> None:
    """Send this process's spans to a collector, OTLP over HTTP, in batches; None sends nothing.

    How many traces are kept is OpenTelemetry's own OTEL_TRACES_SAMPLER.

    Raises:
        ConfigurationError: OpenTelemetry's SDK isn't installed.
    """
    if endpoint is None or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            "OTLP_ENDPOINT is set, but OpenTelemetry's SDK is not installed: "
            "pip install 'voice-analytics[tracing]'"
        ) from error
    resource = Resource.create({SERVICE_NAME: "voice-analytics", SERVICE_VERSION: VERSION})
    provider = TracerProvider(resource=resource)  # its own atexit hook sends what is left
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
    trace.set_tracer_provider(provider)


@contextmanager
def span(name: str, **attributes: str | int | float) -> Iterator[Span]:
    """A span below the one under way, for the block."""
    with _tracer.start_as_current_span(name, attributes=attributes) as current:
        yield current


def note(name: str, value: str) -> None:
    """Say something on the span under way; a request's own is opened by FastAPI."""
    trace.get_current_span().set_attribute(name, value)


def headers() -> dict[str, str]:
    """What a call to another server carries, so that its spans belong to the trace under way."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


def triton_arguments(endpoint: str | None) -> list[str]:
    """tritonserver's own part: it traces every request that it gets."""
    if endpoint is None:
        return []
    return [
        "--trace-config=mode=opentelemetry",
        "--trace-config=rate=1",
        "--trace-config=level=TIMESTAMPS",
        f"--trace-config=opentelemetry,url={endpoint}/v1/traces",
        "--trace-config=opentelemetry,resource=service.name=triton",
    ]
