"""Rollouts of model versions, and what serves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    op.create_table(
        "rollout_control",
        sa.Column("repository", sa.String(32), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("retiring", sa.Boolean, nullable=False),
        sa.Column("holder", sa.String(64)),
        sa.Column("held_until", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("repository", name="pk_rollout_control"),
    )
    op.create_table(
        "stable_versions",
        sa.Column("repository", sa.String(32), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.String(20), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("repository", "model", name="pk_stable_versions"),
    )
    _create_rollouts()
    op.create_table(
        "rollout_events",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=True),
        sa.Column("rollout_id", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollout_events"),
        sa.ForeignKeyConstraint(
            ["rollout_id"],
            ["rollouts.id"],
            name="fk_rollout_events_rollout_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_rollout_events_rollout_id", "rollout_events", ["rollout_id"])
    op.create_table(
        "rollout_workers",
        sa.Column("repository", sa.String(32), nullable=False),
        sa.Column("worker", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("in_use", sa.JSON, nullable=False),
        sa.Column("windows", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("repository", "worker", name="pk_rollout_workers"),
    )


def _create_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=True),
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
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("step_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("active_slot", sa.String(100)),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
        sa.UniqueConstraint("active_slot", name="uq_rollouts_active_slot"),
    )
    op.create_index("ix_rollouts_repository_model_id", "rollouts", ["repository", "model", "id"])


def downgrade() -> None:
    for table in (
        "rollout_workers",
        "rollout_events",
        "rollouts",
        "stable_versions",
        "rollout_control",
    ):
        op.drop_table(table)
