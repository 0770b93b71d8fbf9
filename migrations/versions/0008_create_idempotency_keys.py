"""Create the table of idempotency keys, beside the log because both are written in one transaction."""

import sqlalchemy as sa
from alembic import op

revision = "0008_create_idempotency_keys"
down_revision = "0007_create_skips"


def upgrade() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("outcome", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", "route", "key", name="idempotency_keys_pkey"),
        schema="log",
    )
    op.create_index(
        "idempotency_keys_created_at_idx", "idempotency_keys", ["created_at"], schema="log"
    )


def downgrade() -> None:
    op.drop_table("idempotency_keys", schema="log")
