"""The tables. An analysis is kept whole, as JSON, beside the columns and rows that filters need."""

from __future__ import annotations

from datetime import datetime, timezone

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment, to the microsecond; SQLite, which knows no time zones, keeps it as UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment = value.astimezone(timezone.utc)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value


analyses = sa.Table(
    "analyses",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("duration", sa.Float, nullable=False),
    sa.Column("language", sa.Text, index=True),
    sa.Column("transcription", sa.Text, nullable=False),
    sa.Column("search_text", sa.Text, nullable=False),  # case-folded here: SQLite folds ASCII only
    sa.Column("speaker_count", sa.Integer, nullable=False, index=True),
    sa.Column("emotions", sa.JSON, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("ix_analyses_created_at_id", "created_at", "id"),
)


def _parent() -> sa.Column[str]:
    return sa.Column(
        "analysis_id",
        sa.String(32),
        sa.ForeignKey("analyses.id", ondelete="CASCADE"),
        primary_key=True,
    )


segments = sa.Table(
    "segments",
    metadata,
    _parent(),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("start", sa.Float, nullable=False),
    sa.Column("end", sa.Float, nullable=False),
    sa.Column("speaker", sa.Text),
    sa.Column("emotion", sa.Text),
    sa.Column("text", sa.Text, nullable=False),
    sa.Index("ix_segments_emotion_analysis_id", "emotion", "analysis_id"),
)

speakers = sa.Table(
    "speakers",
    metadata,
    _parent(),
    sa.Column("speaker", sa.Text, primary_key=True),
    sa.Column("talk_time", sa.Float, nullable=False),
    sa.Column("turns", sa.Integer, nullable=False),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("finished_at", UtcDateTime, index=True),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("progress", sa.Float, nullable=False),
    sa.Column("stage", sa.Text),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("deaths", sa.Integer, nullable=False),
    sa.Column("enqueued", sa.Boolean, nullable=False),
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("analysis_id", sa.String(32)),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("webhook_url", sa.Text),
    sa.Column("webhook_status", sa.String(16), index=True),
    sa.Column("webhook_attempts", sa.Integer, nullable=False),
    sa.Column("idempotency_key", sa.String(255), index=True, unique=True),
    sa.Column("request_digest", sa.String(64), nullable=False),
    sa.Index("ix_jobs_created_at_id", "created_at", "id"),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("beat_at", UtcDateTime, nullable=False),
)

speaker_profiles = sa.Table(
    "speaker_profiles",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("name", sa.Text, nullable=False, index=True, unique=True),
    sa.Index("ix_speaker_profiles_created_at_id", "created_at", "id"),
)

speaker_takes = sa.Table(
    "speaker_takes",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column(
        "profile_id",
        sa.String(32),
        sa.ForeignKey("speaker_profiles.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("speech_s", sa.Float, nullable=False),
    sa.Column("windows", sa.Integer, nullable=False),
    sa.Column("embedding", sa.LargeBinary, nullable=False),  # float32, little endian
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("checkpoint", sa.Text, nullable=False),
)

# Rollouts of model versions; `repository` names the model repository that they belong to.

rollout_control = sa.Table(
    "rollout_control",
    metadata,
    sa.Column("repository", sa.String(32), primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("retiring", sa.Boolean, nullable=False),
    sa.Column("holder", sa.String(64)),
    sa.Column("held_until", UtcDateTime),
)

stable_versions = sa.Table(
    "stable_versions",
    metadata,
    sa.Column("repository", sa.String(32), primary_key=True),
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("version", sa.String(20), nullable=False),
    sa.Column("since", UtcDateTime, nullable=False),
)

rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("repository", sa.String(32), nullable=False),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("version", sa.String(20), nullable=False),
    sa.Column("from_version", sa.String(20), nullable=False),
    sa.Column("strategy", sa.String(16), nullable=False),
    sa.Column("steps", sa.JSON, nullable=False),
    sa.Column("step_seconds", sa.Float, nullable=False),
    sa.Column("gates", sa.JSON, nullable=False),
    sa.Column("auto_promote", sa.Boolean, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("weight", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("step_at", UtcDateTime, nullable=False),
    # "repository model" while it is active, else null: one active rollout a model
    sa.Column("active_slot", sa.String(100), unique=True),
    sa.Index("ix_rollouts_repository_model_id", "repository", "model", "id"),
)

rollout_events = sa.Table(
    "rollout_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column(
        "rollout_id",
        sa.Integer,
        sa.ForeignKey("rollouts.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
)

rollout_workers = sa.Table(
    "rollout_workers",
    metadata,
    sa.Column("repository", sa.String(32), primary_key=True),
    sa.Column("worker", sa.String(64), primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("in_use", sa.JSON, nullable=False),
    sa.Column("windows", sa.JSON, nullable=False),
)
