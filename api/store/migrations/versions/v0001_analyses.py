"""Analyses with their segments and speakers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    op.create_table(
        "analyses",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration", sa.Float, nullable=False),
        sa.Column("language", sa.Text),
        sa.Column("transcription", sa.Text, nullable=False),
        sa.Column("search_text", sa.Text, nullable=False),
        sa.Column("speaker_count", sa.Integer, nullable=False),
        sa.Column("emotions", sa.JSON, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_analyses"),
    )
    op.create_index("ix_analyses_created_at_id", "analyses", ["created_at", "id"])
    op.create_index("ix_analyses_language", "analyses", ["language"])
    op.create_index("ix_analyses_speaker_count", "analyses", ["speaker_count"])
    op.create_table(
        "segments",
        sa.Column("analysis_id", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("start", sa.Float, nullable=False),
        sa.Column("end", sa.Float, nullable=False),
        sa.Column("speaker", sa.Text),
        sa.Column("emotion", sa.Text),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("analysis_id", "position", name="pk_segments"),
        _of_an_analysis("segments"),
    )
    op.create_index("ix_segments_emotion_analysis_id", "segments", ["emotion", "analysis_id"])
    op.create_table(
        "speakers",
        sa.Column("analysis_id", sa.String(32), nullable=False),
        sa.Column("speaker", sa.Text, nullable=False),
        sa.Column("talk_time", sa.Float, nullable=False),
        sa.Column("turns", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("analysis_id", "speaker", name="pk_speakers"),
        _of_an_analysis("speakers"),
    )


def downgrade() -> None:
    for table in ("speakers", "segments", "analyses"):
        op.drop_table(table)


def _of_an_analysis(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["analysis_id"], ["analyses.id"], name=f"fk_{table}_analysis_id", ondelete="CASCADE"
    )
