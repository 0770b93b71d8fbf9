"""Create the checkpoint of the read tables and the record of rebuilds."""

import sqlalchemy as sa
from alembic import op

revision = "0006_create_checkpoint"
down_revision = "0005_create_classes"

STATES = "state IN ('running', 'done', 'failed', 'cancelled')"


def upgrade() -> None:
    op.create_table(
        "checkpoint",
        sa.Column("singleton", sa.Boolean, server_default=sa.text("true"), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column(
            "progressed_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.Column("failing_position", sa.BigInteger),
        sa.Column("failing_since", sa.TIMESTAMP(timezone=True)),
        sa.Column("failure", sa.Text),
        sa.PrimaryKeyConstraint("singleton", name="checkpoint_pkey"),
        sa.CheckConstraint("singleton", name="checkpoint_singleton_check"),
        schema="roster",
    )
    op.execute("INSERT INTO roster.checkpoint (position) VALUES (0)")
    op.create_table(
        "rebuilds",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column(
            "started_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column(
            "updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column("cancel_requested", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("id", name="rebuilds_pkey"),
        sa.CheckConstraint(STATES, name="rebuilds_state_check"),
        schema="projections",
    )
    op.create_index("rebuilds_started_at_idx", "rebuilds", ["started_at"], schema="projections")


def downgrade() -> None:
    op.drop_table("rebuilds", schema="projections")
    op.drop_table("checkpoint", schema="roster")
