"""Every setting of the service, read once from the environment or `.env`."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.errors import ConfigurationError

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """Names are the environment variables', in lower case; the docstrings are their manual."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """Address the API listens on."""

    port: int = Field(default=6500, ge=0, le=65535)
    """Server port; 0 takes any free one."""

    api_keys: SecretStr | None = None
    """Who may call: NAME:sha256:HEX or NAME:SECRET, several parted by commas; absent = everybody,
    which only loopback allows. `python -m api.keys new NAME` makes one."""

    allow_anonymous: bool = False
    """Serve callers without a key also on addresses that other machines reach."""

    key_requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests that each API key may make, as a bucket of so many that fills up again within a
    minute; beyond it callers get 429 with Retry-After. Absent = any number."""

    key_concurrent_requests: int | None = Field(default=None, ge=1, le=1024)
    """Requests and live streams that each API key may have in flight; likewise."""

    cors_origins: str | None = None
    """Web pages of other origins that may call, such as https://app.example.com; several parted by
    commas, or * for all; absent = none."""

    workers: int = Field(default=4, ge=1, le=64)
    """Number of API worker processes of `poetry run start`."""

    debug: bool = False
    """Debug mode: verbose, human-readable logs."""

    whisper_model: str = "base"
    """Whisper size or checkpoint that `demo --checkpoints hub` and `export` take from the hub."""

    emotion_model: str = "superb/wav2vec2-base-superb-er"
    """Emotion checkpoint, likewise."""

    speaker_model: str = "speechbrain/spkrec-ecapa-voxceleb"
    """Speaker embedding checkpoint, likewise."""

    max_audio_length: float = Field(default=300.0, gt=0)
    """Longest recording that `POST /audio/analyze` accepts, in seconds."""

    max_upload_bytes: int = Field(default=200 * 2**20, gt=0)
    """Largest request body, in bytes."""

    sample_rate: int = Field(default=16_000, ge=16_000, le=16_000)
    """Rate at which the models listen, in Hz; all three are trained at 16000."""

    max_concurrent_requests: int = Field(default=64, ge=1)
    """Analyses in flight per worker; beyond it callers get 429 with Retry-After."""

    request_timeout: float = Field(default=120.0, gt=0)
    """Deadline of one analysis, in seconds; past it callers get 504."""

    stream_max_sessions: int = Field(default=16, ge=1)
    """Live streams per worker, those waiting for a lost client included; beyond it callers get an
    error and close code 1013. Each holds its audio in memory, 64 kB per second."""

    stream_idle_seconds: float = Field(default=60.0, gt=0)
    """A live stream's connection is closed (4408) when nothing arrives on it for this long, in
    seconds; the session can still be resumed."""

    stream_resume_seconds: float = Field(default=60.0, ge=0)
    """How long a live stream survives a dropped connection, in seconds; then it is finished as if
    its client had sent `end`."""

    stream_endpoint_silence: float = Field(default=0.5, ge=0.2, le=5.0)
    """Silence that ends a live utterance, in seconds."""

    stream_partial_interval: float = Field(default=1.0, ge=0.2)
    """Seconds of new speech between two partial transcripts of a live utterance."""

    otlp_endpoint: str | None = None
    """Collector that gets OpenTelemetry traces over HTTP, such as http://127.0.0.1:4318; absent =
    none are made. Needs the package's extra `tracing`."""

    max_job_length: float = Field(default=14_400.0, gt=0)
    """Longest recording that `POST /audio/jobs` accepts, in seconds."""

    max_job_upload_bytes: int = Field(default=2 * 2**30, gt=0)
    """Largest request body of `POST /audio/jobs`, in bytes."""

    job_concurrency: int = Field(default=1, ge=1)
    """Jobs that each worker works on at once; the others wait in the queue."""

    jobs_dir: Path | None = None
    """Folder for the uploads of jobs that haven't ended; absent = a folder under DATA_DIR. Workers
    on several machines need it on storage that they share."""

    webhook_secret: SecretStr | None = None
    """Signs the calls to `webhook_url`; absent = no webhooks."""

    webhook_allow_private: bool = False
    """Let webhooks go to addresses that aren't on the public network, such as this machine's."""

    webhook_retry_seconds: float = Field(default=5.0, gt=0)
    """Pause before a webhook's second attempt; each further one is 5 times longer."""

    data_dir: Path = Path(".data")
    """Folder for everything the service writes."""

    database_url: str | None = None
    """Where analyses are kept: sqlite:///file or postgresql://user:password@host/name; absent =
    a SQLite file under DATA_DIR."""

    database_timeout: float = Field(default=5.0, gt=0)
    """Longest wait for the database, its locks included, in seconds; past it callers get 503."""

    retention_days: float | None = Field(default=None, gt=0)
    """Analyses older than this many days are deleted; absent = kept for ever."""

    redis_url: str | None = None
    """Redis behind the in-memory cache, shared by all workers, such as redis://127.0.0.1:6379/0;
    absent = each worker has only its own memory."""

    redis_timeout: float = Field(default=0.1, gt=0)
    """Longest wait for one call to Redis, in seconds; past it the service goes on without."""

    cache_memory_bytes: int = Field(default=64 * 2**20, ge=0)
    """Size of the in-memory cache per worker, in bytes; 0 keeps nothing in memory."""

    cache_ttl: float = Field(default=86_400.0, gt=0)
    """How long a cached result may be used, in seconds."""

    model_repository: Path | None = None
    """Triton model repository that is served; by default DATA_DIR/model_repository, which starts
    as a copy of the committed one."""

    triton_url: str | None = None
    """host:port of a running Triton's gRPC endpoint; absent = start the embedded one."""

    triton_host: str = "127.0.0.1"
    """Address the embedded Triton listens on. It asks nobody for a key: open it to nothing but the
    API's own network."""

    triton_http_port: int = Field(default=8000, ge=0, le=65535)
    """HTTP port of the embedded Triton; 0 takes any free one."""

    triton_grpc_port: int = Field(default=8001, ge=0, le=65535)
    """gRPC port of the embedded Triton; 0 takes any free one."""

    triton_metrics_port: int = Field(default=8002, ge=0, le=65535)
    """Metrics port of the embedded Triton; 0 takes any free one."""

    golden_recordings: Path | None = None
    """Folder of recordings that a new version of a model has to stand before it gets traffic, each
    with what is said in it as NAME.txt beside it; absent = the sample that comes along."""

    watchdog_interval: float = Field(default=5.0, gt=0)
    """Seconds between two looks at the models' health; an idle model gets a canary inference."""

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str | None) -> str | None:
        for origin in (value or "").split(","):
            if value and not re.fullmatch(r"\*|https?://[^\s/,]+", origin.strip()):
                raise ValueError("must be * or origins such as https://app.example.com, by commas")
        return value

    @property
    def allowed_origins(self) -> frozenset[str]:
        """The origins of CORS_ORIGINS."""
        origins = (self.cors_origins or "").split(",")
        return frozenset(origin.strip().lower() for origin in origins if origin.strip())

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches HOST."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def analyses_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir}/voice_analytics.db"

    @property
    def repository_dir(self) -> Path:
        return self.model_repository or self.data_dir / "model_repository"


def load_settings() -> Settings:
    """Read the environment and `.env`.

    Raises:
        ConfigurationError: a setting's value is wrong; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = [f"{str(p['loc'][0]).upper()}: {p['msg']}" for p in error.errors()]
        raise ConfigurationError("A setting is wrong. " + "; ".join(problems)) from error
