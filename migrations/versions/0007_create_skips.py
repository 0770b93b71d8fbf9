"""Create the record of skipped events, and what a rebuild reports besides its progress."""

import sqlalchemy as sa
from alembic import op

revision = "0007_create_skips"
down_revision = "0006_create_checkpoint"


def upgrade() -> None:
    op.create_table(
        "skips",
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("stream", sa.Uuid, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column(
            "skipped_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.func.clock_timestamp(),
            nullable=False,
        ),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("taken_back_at", sa.TIMESTAMP(timezone=True)),
        sa.Column("taken_back_by", sa.Text),
        sa.PrimaryKeyConstraint("position", "skipped_at", name="skips_pkey"),
        schema="projections",
    )
    op.create_index(
        "skips_position_idx",
        "skips",
        ["position"],
        unique=True,
        postgresql_where=sa.text("taken_back_at IS NULL"),
        schema="projections",
    )
    op.add_column("rebuilds", sa.Column("pid", sa.Integer), schema="projections")
    op.add_column("rebuilds", sa.Column("differing", sa.BigInteger), schema="projections")
    op.add_column("rebuilds", sa.Column("compare_seconds", sa.Double), schema="projections")


def downgrade() -> None:
    for column in ("compare_seconds", "differing", "pid"):
        op.drop_column("rebuilds", column, schema="projections")
    op.drop_table("skips", schema="projections")
