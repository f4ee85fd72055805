"""Voices that were enrolled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    op.create_table(
        "speaker_profiles",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_speaker_profiles"),
    )
    op.create_index("ix_speaker_profiles_name", "speaker_profiles", ["name"], unique=True)
    op.create_index("ix_speaker_profiles_created_at_id", "speaker_profiles", ["created_at", "id"])
    op.create_table(
        "speaker_takes",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("profile_id", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("speech_s", sa.Float, nullable=False),
        sa.Column("windows", sa.Integer, nullable=False),
        sa.Column("embedding", sa.LargeBinary, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("checkpoint", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_speaker_takes"),
        sa.ForeignKeyConstraint(
            ["profile_id"],
            ["speaker_profiles.id"],
            name="fk_speaker_takes_profile_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_speaker_takes_profile_id", "speaker_takes", ["profile_id"])


def downgrade() -> None:
    op.drop_table("speaker_takes")
    op.drop_table("speaker_profiles")
