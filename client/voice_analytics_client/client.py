"""The blocking SDK: `with VoiceAnalytics() as client: client.analyze("meeting.mp3")`."""

from __future__ import annotations

from types import TracebackType

from typing_extensions import Self, Unpack

from voice_analytics_client import routes
from voice_analytics_client.answers import Analysis, Health
from voice_analytics_client.models import Models, Rollouts
from voice_analytics_client.requests import AudioFile
from voice_analytics_client.resources import Analyses, Jobs, Speakers
from voice_analytics_client.retries import Retries
from voice_analytics_client.routes import Options, TextFormat
from voice_analytics_client.settings import TIMEOUT_S, Connection
from voice_analytics_client.streaming.blocking import Stream
from voice_analytics_client.streaming.protocol import StreamConfig
from voice_analytics_client.transports import BlockingTransport


class VoiceAnalytics:
    """A service, to be asked. May be used by several threads.

    Args:
        url: where it is; else VOICE_ANALYTICS_URL, else http://127.0.0.1:6500.
        api_key: else VOICE_ANALYTICS_API_KEY; none is needed where the service asks for none.
        timeout_s: longest wait for an answer, in seconds; the service stops its work then, too.
        retries: what is tried again, and for how long.

    Raises:
        ValueError: the URL is none.
    """

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
        self._transport = BlockingTransport(self._connection, self._retries)
        self.analyses = Analyses(self._transport)
        self.jobs = Jobs(self._transport)
        self.speakers = Speakers(self._transport)
        self.models = Models(self._transport)
        self.rollouts = Rollouts(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client can't be used any more."""
        self._transport.close()

    @property
    def url(self) -> str:
        return self._connection.url

    def analyze(self, file: AudioFile, **options: Unpack[Options]) -> Analysis:
        """Analyse a recording: a path, bytes, or an open file.

        Raises:
            ServiceError: the service's word; see `voice_analytics_client.errors`.
            ServiceUnreachable: it can't be reached.
            OSError: the file can't be read.
        """
        return self._transport.call(routes.analyze(file, options))

    def analyze_as(self, file: AudioFile, format: TextFormat, **options: Unpack[Options]) -> str:
        """Analyse a recording and get the analysis as subtitles, a table, a script or RTTM."""
        return self._transport.call(routes.analyze_as(file, format, options))

    def stream(self, config: StreamConfig | None = None) -> Stream:
        """A live stream, to be entered by `with`."""
        return Stream(self._connection, config or StreamConfig(), self._retries)

    def health(self) -> Health:
        """The service at a glance."""
        return self._transport.call(routes.health())

    def live(self) -> None:
        """Return if the service's process is alive, raise if not."""
        self._transport.call(routes.live())

    def ready(self) -> None:
        """Return if every model answers, raise if not."""
        self._transport.call(routes.ready())

    def metrics(self) -> str:
        """The service's figures in Prometheus' text format."""
        return self._transport.call(routes.metrics())
