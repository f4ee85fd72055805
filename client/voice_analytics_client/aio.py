"""The asynchronous SDK: `async with AsyncVoiceAnalytics() as client: await client.analyze(…)`."""

from __future__ import annotations

from types import TracebackType

from typing_extensions import Self, Unpack

from voice_analytics_client import routes
from voice_analytics_client.answers import Analysis, Health
from voice_analytics_client.async_models import AsyncModels, AsyncRollouts
from voice_analytics_client.async_resources import AsyncAnalyses, AsyncJobs, AsyncSpeakers
from voice_analytics_client.requests import AudioFile
from voice_analytics_client.retries import Retries
from voice_analytics_client.routes import Options, TextFormat
from voice_analytics_client.settings import TIMEOUT_S, Connection
from voice_analytics_client.streaming.aio import AsyncStream
from voice_analytics_client.streaming.protocol import StreamConfig
from voice_analytics_client.transports import AsyncTransport


class AsyncVoiceAnalytics:
    """A service, to be asked from an event loop; see `VoiceAnalytics` for the arguments."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: Retries | None = None,
    ) -> None:
        self._connection = Connection.of(url, api_key, timeout_s)
        self._retries = retries or Retries()
        self._transport = AsyncTransport(self._connection, self._retries)
        self.analyses = AsyncAnalyses(self._transport)
        self.jobs = AsyncJobs(self._transport)
        self.speakers = AsyncSpeakers(self._transport)
        self.models = AsyncModels(self._transport)
        self.rollouts = AsyncRollouts(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client can't be used any more."""
        await self._transport.close()

    @property
    def url(self) -> str:
        return self._connection.url

    async def analyze(self, file: AudioFile, **options: Unpack[Options]) -> Analysis:
        """Analyse a recording: a path, bytes, or an open file.

        Raises:
            ServiceError: the service's word; see `voice_analytics_client.errors`.
            ServiceUnreachable: it can't be reached.
            OSError: the file can't be read.
        """
        return await self._transport.call(routes.analyze(file, options))

    async def analyze_as(
        self, file: AudioFile, format: TextFormat, **options: Unpack[Options]
    ) -> str:
        """Analyse a recording and get the analysis as subtitles, a table, a script or RTTM."""
        return await self._transport.call(routes.analyze_as(file, format, options))

    def stream(self, config: StreamConfig | None = None) -> AsyncStream:
        """A live stream, to be entered by `async with`."""
        return AsyncStream(self._connection, config or StreamConfig(), self._retries)

    async def health(self) -> Health:
        """The service at a glance."""
        return await self._transport.call(routes.health())

    async def live(self) -> None:
        """Return if the service's process is alive, raise if not."""
        await self._transport.call(routes.live())

    async def ready(self) -> None:
        """Return if every model answers, raise if not."""
        await self._transport.call(routes.ready())

    async def metrics(self) -> str:
        """The service's figures in Prometheus' text format."""
        return await self._transport.call(routes.metrics())
