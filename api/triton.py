"""The only module that knows tritonclient: inference, model control, statistics.

A failure is told apart by its gRPC status, never by its message's text:

    INVALID_ARGUMENT                               InvalidOption
    DEADLINE_EXCEEDED                              DeadlineExceeded
    everything else (UNAVAILABLE, NOT_FOUND,       ModelUnavailable
    INTERNAL: a dead python stub, a crash, …)

A server that is away is waited for and asked again: see `api.restarts`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol

import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from api import priority, tracing
from api.errors import (
    DeadlineExceeded,
    InferenceError,
    InvalidOption,
    ModelUnavailable,
    UnusableRelease,
    VoiceAnalyticsError,
)
from api.restarts import IsWaitedFor, Restarts
from api.tensors import ModelSpec, Tensors
from api.turns import Turns

LOAD_TIMEOUT_S = 300.0
"""A full-size Whisper takes tens of seconds to load from a cold disk."""

OnCall = Callable[[str, str, float, bool], None]


def _translate(error: InferenceServerException, model: str) -> VoiceAnalyticsError:
    status = (error.status() or "").removeprefix("StatusCode.")
    if status == "INVALID_ARGUMENT":
        return InvalidOption(error.message() or "The model refused its input", model=model)
    if status == "DEADLINE_EXCEEDED":
        return DeadlineExceeded("The model did not answer before the deadline", model=model)
    if status == "INTERNAL":
        return ModelUnavailable(
            "The model failed, or its process ended", model=model, status=status
        )
    return ModelUnavailable("The model server is away or restarting", model=model, status=status)


def _encode(inputs: Tensors) -> list[grpc_client.InferInput]:
    encoded = []
    for name, array in inputs.items():
        tensor = grpc_client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        encoded.append(tensor)
    return encoded


def _decode(result: grpc_client.InferResult, spec: ModelSpec) -> Tensors:
    tensors = {}
    for output in spec.outputs:
        array = result.as_numpy(output.name)
        if array is None:
            raise InferenceError("The model's answer lacks a tensor", model=spec.name)
        tensors[output.name] = array
    return tensors


_CHANNEL = [
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_send_message_length", grpc_client.MAX_GRPC_MESSAGE_SIZE),
    ("grpc.max_receive_message_length", grpc_client.MAX_GRPC_MESSAGE_SIZE),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
]
"""A name that resolves to many servers (a headless service) is asked in turn. tritonclient drops
its own defaults as soon as there are arguments, so the sizes are said again. gRPC's own pauses, up
to two minutes between two attempts to connect and 30 s between two looks at a name, are longer than
a restart takes."""


class TritonFigures(Protocol):
    """Who counts; `api.metrics.Metrics` does."""

    def asking(self, model: str, more: int) -> None:
        """So many more requests of a model are under way."""
        ...

    def asked_again(self, model: str, answered: bool) -> None:
        """A request that met a server that was away is over."""
        ...


class TritonClient:
    """One asynchronous gRPC connection per process, opened once (client#731: many leak).

    Cancelling an awaiting task cancels the call, so that Triton can drop the request.
    """

    def __init__(
        self,
        url: str,
        figures: TritonFigures | None = None,
        on_call: OnCall | None = None,
        is_waited_for: IsWaitedFor = lambda model, version: False,
    ) -> None:
        """`on_call` hears of each call that came back: model, version, seconds, whether it was
        answered. `is_waited_for` says which versions are asked again after a restart."""
        self.url = url
        self._figures = figures
        self._client = grpc_aio.InferenceServerClient(url, channel_args=_CHANNEL)
        self._on_call = on_call
        self._turns = Turns()  # a request of 1 MB is copied four times on its way out
        self._restarts = Restarts(self._is_ready, is_waited_for, self._asked_again)

    async def infer(
        self, spec: ModelSpec, inputs: Tensors, *, timeout_s: float, version: str = ""
    ) -> Tensors:
        """Run `spec`'s model; arrays carry a leading batch dimension.

        Raises:
            ModelUnavailable, DeadlineExceeded, InvalidOption, InferenceError.
        """
        deadline = time.monotonic() + timeout_s

        async def ask() -> Tensors:
            left_s = deadline - time.monotonic()
            return await self._ask(spec, inputs, timeout_s=left_s, version=version)

        return await self._restarts.ride_out(spec.name, version, deadline, ask)

    async def _ask(
        self, spec: ModelSpec, inputs: Tensors, *, timeout_s: float, version: str
    ) -> Tensors:
        await self._turns.take()
        started = time.perf_counter()
        answered = False
        try:
            with tracing.span("triton", model=spec.name), self._counted(spec.name):
                result = await self._client.infer(
                    spec.name,
                    _encode(inputs),
                    model_version=version,
                    outputs=[grpc_client.InferRequestedOutput(o.name) for o in spec.outputs],
                    priority=priority.level(),
                    client_timeout=max(timeout_s, 1e-3),
                    headers=tracing.headers(),
                )
            answered = True
        except InferenceServerException as error:
            raise _translate(error, spec.name) from error
        finally:
            if self._on_call is not None:
                self._on_call(spec.name, version, time.perf_counter() - started, answered)
        return _decode(result, spec)

    async def _is_ready(self, model: str, version: str) -> bool:
        try:
            return bool(await self._client.is_model_ready(model, version, client_timeout=2.0))
        except InferenceServerException:
            return False

    def _asked_again(self, model: str, answered: bool) -> None:
        if self._figures is not None:
            self._figures.asked_again(model, answered)

    async def close(self) -> None:
        await self._client.close()

    @contextmanager
    def _counted(self, model: str) -> Iterator[None]:
        if self._figures is None:
            yield
            return
        self._figures.asking(model, 1)
        try:
            yield
        finally:
            self._figures.asking(model, -1)


def servers(url: str) -> list[str]:
    """The address of each server behind a name: one, or all of a headless service.

    Raises:
        ModelUnavailable: the name isn't known.
    """
    scheme, named, rest = url.partition(":")
    if named and scheme in ("ipv4", "ipv6"):  # gRPC's own way to list addresses
        return rest.split(",")
    host, _, port = url.removeprefix("dns:///").rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ModelUnavailable("The model server's name is not known", url=url) from error
    addresses = sorted({str(info[4][0]) for info in found})
    if host in ("localhost", *addresses) or len(addresses) == 1:
        return [url]
    return [f"[{a}]:{port}" if ":" in a else f"{a}:{port}" for a in addresses]


class TritonControl:
    """A synchronous connection for whoever supervises a Triton: readiness, loading, statistics."""

    def __init__(self, url: str) -> None:
        self._client = grpc_client.InferenceServerClient(url, channel_args=_CHANNEL)

    def __enter__(self) -> TritonControl:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def is_ready(self, model: str, version: str = "") -> bool:
        try:
            return bool(self._client.is_model_ready(model, version, client_timeout=2.0))
        except InferenceServerException:
            return False

    def reload(self, model: str) -> None:
        """Unload and load: the one way to bring back a model whose python stub died.

        Raises:
            ModelUnavailable: Triton refuses or is away.
        """
        self.unload(model)
        try:
            self._client.load_model(model, client_timeout=LOAD_TIMEOUT_S)
        except InferenceServerException as error:
            raise _translate(error, model) from error

    def load(self, model: str) -> None:
        """Bring a model to what its configuration says; what needs no change goes on undisturbed.

        Raises:
            UnusableRelease: a version can't be loaded; the others serve on.
            ModelUnavailable: Triton is away.
        """
        try:
            self._client.load_model(model, client_timeout=LOAD_TIMEOUT_S)
        except InferenceServerException as error:
            problem = _translate(error, model)
            if isinstance(problem, InvalidOption):  # how Triton says that a version doesn't load
                raise UnusableRelease(problem.message.split("\n")[0], model=model) from error
            raise problem from error

    def unload(self, model: str) -> None:
        """Work in flight is finished; new requests are refused at once.

        Raises:
            ModelUnavailable: Triton refuses or is away.
        """
        try:
            self._client.unload_model(model, client_timeout=30.0)
        except InferenceServerException as error:
            raise _translate(error, model) from error

    def loaded(self, prefix: str) -> list[str]:
        """Names of the models that are ready and begin so.

        Raises:
            ModelUnavailable: Triton is away.
        """
        return [m.name for m in self._ready() if m.name.startswith(prefix)]

    def versions(self, model: str) -> set[str]:
        """The versions of a model that are loaded.

        Raises:
            ModelUnavailable: Triton is away.
        """
        return {m.version for m in self._ready() if m.name == model}

    def _ready(self) -> list[Any]:
        try:
            index = self._client.get_model_repository_index(client_timeout=5.0)
        except InferenceServerException as error:
            raise _translate(error, "") from error
        return [m for m in index.models if m.state == "READY"]

    def completed_requests(self, model: str, version: str = "") -> int:
        """Requests answered since it was loaded; 0 when Triton is away."""
        return sum(
            m.inference_stats.success.count
            for m in self._statistics(model)
            if version in ("", m.version)
        )

    def executions(self, model: str) -> int:
        """Batches that the model has run since it was loaded; 0 when Triton is away."""
        return sum(m.execution_count for m in self._statistics(model))

    def _statistics(self, model: str) -> list[Any]:
        try:
            stats = self._client.get_inference_statistics(model, client_timeout=2.0)
        except InferenceServerException:
            return []
        return list(stats.model_stats)

    def infer(
        self, spec: ModelSpec, inputs: Tensors, *, timeout_s: float, version: str = ""
    ) -> Tensors:
        """Run `spec`'s model once; raises as `TritonClient.infer` does."""
        try:
            result = self._client.infer(
                spec.name,
                _encode(inputs),
                model_version=version,
                outputs=[grpc_client.InferRequestedOutput(o.name) for o in spec.outputs],
                client_timeout=timeout_s,
            )
        except InferenceServerException as error:
            raise _translate(error, spec.name) from error
        return _decode(result, spec)
